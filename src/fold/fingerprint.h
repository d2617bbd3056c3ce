/*
 * fingerprint.h
 *		Fingerprints of reducers: what snapshots depend on.
 */
#ifndef ES_FOLD_FINGERPRINT_H
#define ES_FOLD_FINGERPRINT_H

#include "base/base.h"

#include "fold/reducer.h"

extern void es_fingerprint_compute(EsReducer *reducer);

#endif							/* ES_FOLD_FINGERPRINT_H */
