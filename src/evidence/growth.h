/*
 * growth.h
 *		Sealing the log.
 */
#ifndef ES_EVIDENCE_GROWTH_H
#define ES_EVIDENCE_GROWTH_H

#include "base/base.h"

extern int64 es_growth_seal(int64 most, bool *all);

#endif							/* ES_EVIDENCE_GROWTH_H */
