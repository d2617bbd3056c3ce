/*
 * sealer.h
 *		Sealing segments that are complete.
 */
#ifndef ES_SEGMENT_SEALER_H
#define ES_SEGMENT_SEALER_H

#include "base/base.h"

extern void es_sealer_freeze(Oid relid);
extern void es_sealer_run(void);

#endif							/* ES_SEGMENT_SEALER_H */
