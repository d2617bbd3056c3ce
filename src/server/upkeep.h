/*
 * upkeep.h
 *		What the worker of a store does now and then.
 */
#ifndef ES_SERVER_UPKEEP_H
#define ES_SERVER_UPKEEP_H

#include "base/base.h"

#include "datatype/timestamp.h"

extern TimestampTz es_upkeep_work(void);

#endif							/* ES_SERVER_UPKEEP_H */
