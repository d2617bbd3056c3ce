/*
 * request.h
 *		What callers ask to be appended: taken from SQL values and checked.
 */
#ifndef ES_REQUEST_H
#define ES_REQUEST_H

#include "base.h"

/* What the stream must look like. */
typedef enum EsExpectation
{
	ES_EXPECT_ANY,
	ES_EXPECT_EXISTS,			/* it had at least one event */
	ES_EXPECT_VERSION			/* exactly this version; 0: it never had an event */
} EsExpectation;

/* One event to append. */
typedef struct EsNewEvent
{
	const text *type;
	Datum		data;			/* jsonb */
	Datum		metadata;		/* jsonb, an object */
	pg_uuid_t	id;
	bool		id_given;		/* by the caller; else one is made */
	bool		time_given;		/* recorded_at was, by an import */
	TimestampTz recorded_at;
} EsNewEvent;

/* A call: what to append, then what came of it. */
typedef struct EsAppend
{
	const text *stream;
	EsExpectation expectation;
	int64		expected_version;
	EsNewEvent *events;
	int			count;			/* 0: only the expectation is checked */

	int64		version;		/* of the last event, or of the stream if count is 0 */
	int64		position;		/* of the last event */
	TimestampTz recorded_at;	/* of the last event */
} EsAppend;

extern void es_request_expectation(EsAppend *append, FunctionCallInfo fcinfo, int argno);
extern void es_request_check_event(EsNewEvent *event);
extern Datum es_request_empty_object(void);
extern void es_request_from_json(EsAppend *append, Jsonb *events);
extern void es_request_from_array(EsAppend *append, ArrayType *events);

#endif							/* ES_REQUEST_H */
