/*
 * quiet.h
 *		Work that may fail without harm to the transaction.
 */
#ifndef ES_BASE_QUIET_H
#define ES_BASE_QUIET_H

#include "base/base.h"

#include "utils/elog.h"

typedef void (*EsQuietWork) (void *arg);

extern ErrorData *es_quiet_try(EsQuietWork work, void *arg);

#endif							/* ES_BASE_QUIET_H */
