/*
 * batchtext.h
 *		Events taken from JSON text.
 */
#ifndef ES_APPEND_BATCHTEXT_H
#define ES_APPEND_BATCHTEXT_H

#include "base/base.h"

#include "append/request.h"

extern void es_batchtext_take(EsAppend *append, EsTarget *target, Datum array);

#endif							/* ES_APPEND_BATCHTEXT_H */
