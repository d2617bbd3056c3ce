/*
 * horizon.h
 *		Which deleted rows nobody sees any more, but for one process.
 */
#ifndef ES_SEGMENT_HORIZON_H
#define ES_SEGMENT_HORIZON_H

#include "base/base.h"

#include "utils/relcache.h"

extern TransactionId es_horizon_find(Relation rel, int but);

#endif							/* ES_SEGMENT_HORIZON_H */
