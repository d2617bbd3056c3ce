/*
 * retry.h
 *		Idempotent retry: recognising a call whose events are stored already.
 */
#ifndef ES_APPEND_RETRY_H
#define ES_APPEND_RETRY_H

#include "base/base.h"

#include "append/refusal.h"
#include "append/request.h"
#include "stream/stream.h"

typedef enum EsRetryResult
{
	ES_RETRY_NEW,				/* none of the ids is stored */
	ES_RETRY_STORED,			/* all are, exactly as given */
	ES_RETRY_CONFLICT,			/* some are, or not as given */
	ES_RETRY_WAIT,				/* depends on a transaction in progress */
	ES_RETRY_NO_KEY,			/* what is stored is encrypted, and the master
								 * key is not at hand */
	ES_RETRY_GONE				/* what was found has been removed meanwhile;
								 * not for callers */
} EsRetryResult;

typedef struct EsRetry
{
	EsRetryResult result;
	EsConflict	conflict;		/* CONFLICT */
	TransactionId wait_for;		/* WAIT */
	bool		may_ask;		/* given: for the master key */
} EsRetry;

extern void es_retry_check(EsRetry *retry, EsTarget *target, const EsStream *stream);
extern void es_retry_check_alone(EsRetry *retry, EsNewEvent *event, const EsStream *stream);
extern void es_retry_take_deletion(EsTarget *target, const EsStream *stream);
extern void es_retry_check_distinct(const EsTarget *target);

#endif							/* ES_APPEND_RETRY_H */
