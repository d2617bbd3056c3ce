/*
 * upkeep.h
 *		What the worker of a store does now and then.
 */
#ifndef ES_SERVER_UPKEEP_H
#define ES_SERVER_UPKEEP_H

#include "base/base.h"

#include "datatype/timestamp.h"

extern void es_upkeep_init(void);
extern void es_upkeep_begin_round(void);
extern TimestampTz es_upkeep_work(void);
extern TimestampTz es_upkeep_seal(void);
extern TimestampTz es_upkeep_seal_due(TimestampTz last);

#endif							/* ES_SERVER_UPKEEP_H */
