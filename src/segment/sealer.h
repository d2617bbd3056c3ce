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

/* What is to be sealed, and for whom. */
typedef struct EsSealing
{
	int			caller;			/* process that waits for it, whose snapshot
								 * does not count; or 0 */
	HTAB	   *removed;		/* EsLoss, of segments that have just lost
								 * events; or NULL */
	bool		again;			/* also what was sealed, and has lost events
								 * since */
} EsSealing;

extern void es_sealer_freeze(Oid relid);
extern bool es_sealer_has_work(bool again);
extern bool es_sealer_become(bool wait);
extern void es_sealer_resign(void);
extern bool es_sealer_is_at_work(void);
extern void es_sealer_run(const EsSealing *sealing);

#endif							/* ES_SEGMENT_SEALER_H */
