/*
 * refusal.h
 *		Why an append is refused, and saying so.
 */
#ifndef ES_APPEND_REFUSAL_H
#define ES_APPEND_REFUSAL_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "append/request.h"

typedef enum EsRefusalReason
{
	ES_REFUSED_VERSION,			/* the stream is not at the expected version */
	ES_REFUSED_RETRY,			/* ids are stored already, but not as given */
	ES_REFUSED_DELETED			/* the stream is deleted */
} EsRefusalReason;

typedef struct EsRefusal
{
	const EsTarget *target;
	int64		actual_version;
	EsRefusalReason reason;
	const char *detail;			/* of ES_REFUSED_RETRY: a sentence */
} EsRefusal;

ES_NORETURN extern void es_refusal_raise(const List *refusals, bool many);

#endif							/* ES_APPEND_REFUSAL_H */
