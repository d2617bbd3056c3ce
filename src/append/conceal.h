/*
 * conceal.h
 *		Protected fields of new events, encrypted before they are stored.
 */
#ifndef ES_APPEND_CONCEAL_H
#define ES_APPEND_CONCEAL_H

#include "base/base.h"

#include "append/request.h"

extern void es_conceal_all(EsAppend *append);

#endif							/* ES_APPEND_CONCEAL_H */
