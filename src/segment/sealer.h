/*
 * sealer.h
 *		Sealing segments that are complete.
 */
#ifndef ES_SEGMENT_SEALER_H
#define ES_SEGMENT_SEALER_H

#include "base/base.h"

#include "utils/hsearch.h"

/* How many bytes of events have just been removed from a segment. */
typedef struct EsLoss
{
	int64		segment;		/* the key */
	int64		bytes;
} EsLoss;

extern void es_sealer_freeze(Oid relid);
extern bool es_sealer_has_work(void);
extern bool es_sealer_become(bool wait);
extern bool es_sealer_is_at_work(void);
extern void es_sealer_run(int caller, HTAB *removed);

#endif							/* ES_SEGMENT_SEALER_H */
