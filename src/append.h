/*
 * append.h
 *		Appends: es_append and its kin.
 */
#ifndef ES_APPEND_H
#define ES_APPEND_H

#include "request.h"

extern void es_append_run(EsAppend *append);

/*
 * What has to happen in the transaction of an append, once its events are written
 * and its short locks given back.  Set by the part that does it.
 */
extern void (*es_append_hook) (const EsAppend *append);

#endif							/* ES_APPEND_H */
