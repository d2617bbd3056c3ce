/*
 * append.h
 *		Appends: es_append and its kin.
 */
#ifndef ES_APPEND_APPEND_H
#define ES_APPEND_APPEND_H

#include "base/base.h"

#include "append/request.h"

extern void es_append_require_rights(EsAppend *append);
extern void es_append_run(EsAppend *append);

#endif							/* ES_APPEND_APPEND_H */
