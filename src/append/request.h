/*
 * request.h
 *		What callers ask to be appended: taken from SQL values and checked.
 */
#ifndef ES_APPEND_REQUEST_H
#define ES_APPEND_REQUEST_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "schema/violation.h"
#include "table/table.h"

/* What the stream must look like. */
typedef enum EsExpectation
{
	ES_EXPECT_ANY,
	ES_EXPECT_EXISTS,			/* it had at least one event */
	ES_EXPECT_VERSION			/* exactly this version; 0: it never had an
								 * event */
} EsExpectation;

typedef struct EsTarget EsTarget;
typedef struct EsNewEvent EsNewEvent;

/* One event to append, then what became of it. */
struct EsNewEvent
{
	const text *type;
	Datum		data;			/* jsonb */
	Datum		metadata;		/* jsonb, an object */
	uint64		tag_bits;		/* see es_tags_bits */
	pg_uuid_t	id;
	bool		id_given;		/* by the caller; else one is made */
	bool		time_given;		/* the time was, by an import */
	bool		version_given;	/* type_version was */
	bool		stored;			/* is stored already: a retry */
	TimestampTz given_at;		/* if time_given */
	TimestampTz recorded_at;	/* as stored */
	int			type_version;	/* given, or else set in typing.c */
	uint64		judged;			/* by what was defined of types then; 0: not
								 * yet */
	const EsViolation *unfit;	/* what its version does not allow; or NULL */
	Datum		concealed;		/* data with protected fields encrypted; 0: as
								 * they are */
	bool		shredded;		/* it is about a subject that is */
	int64		expected;		/* version that this very event must get, 0
								 * for any */
	int64		version;		/* as stored */
	int64		position;		/* as stored */
	EsTarget   *target;
	EsNewEvent *next;			/* of the same target */
};

/* One stream that a call appends to, or only checks. */
struct EsTarget
{
	const text *stream;
	EsExpectation expectation;
	int64		expected_version;
	bool		tries;			/* its one event counts as stored if its id
								 * is, whatever it contains; a version that is
								 * not the expected one is no refusal: it is
								 * held back */
	EsNewEvent *first;			/* its events, NULL: only the expectation is
								 * checked */
	EsNewEvent *last;
	int			count;
	uint64		tag_bits;		/* of all of them */
	int64		version;		/* afterwards, of the stream or of a retry's
								 * last event */
};

typedef struct EsAppend EsAppend;

/*
 * Looks at a call whose events are written, if any are, before the segment is closed that
 * the last of them is in; no short lock is held.  NULL if no segment is open.  May wait, and
 * raise.
 */
typedef void (*EsAppendCheck) (const EsAppend *append, EsTable *open);

/* A call. */
struct EsAppend
{
	EsTarget   *targets;
	int			ntargets;
	EsNewEvent *events;			/* in the order of the log */
	int			count;
	bool		many;			/* refusals list all streams, as JSON */
	bool		each_alone;		/* each event is a retry, or not, by itself */
	bool		any_unfit;		/* an event is, or shredded, which may be
								 * stored all the same: a retry */
	bool		in_one_block;	/* its positions must follow each other */
	bool		hold_back;		/* store nothing, but find out all the same
								 * whether it was stored before, or is refused */
	bool		held_back;		/* so that something was not stored */
	bool		deletes;		/* its one event deletes its one stream, which
								 * may be deleted already */
	bool		may;			/* the caller has been found to have the
								 * rights */
	int64		position;		/* of the last event */
	EsAppendCheck check;		/* or NULL */
	void	   *check_arg;		/* for it */
};

extern void es_request_expectation(EsTarget *target, FunctionCallInfo fcinfo, int argno);
extern void es_request_add_event(EsTarget *target, EsNewEvent *event);
extern void es_request_type_version(EsNewEvent *event, int version);
extern void es_request_check_event(EsNewEvent *event, const text *stream, int element);
extern TimestampTz es_request_check_time(TimestampTz time);
extern void es_request_take(EsNewEvent *event, Datum type, Datum data, const Datum *metadata, const Datum *id);
extern void es_request_from_json(EsAppend *append, EsTarget *target, Datum array);
extern void es_request_from_array(EsAppend *append, EsTarget *target, Datum array);
extern HTAB *es_request_target_map(int size, MemoryContext context);
extern EsTarget *es_request_target(EsAppend *append, HTAB *map, const text *stream, bool *found);
extern void es_request_many_from_json(EsAppend *append, Jsonb *events);

/*
 * es_request_was_stored tells whether the call was stored before.  Then it was not
 * refused, and what it only checked may have changed since.
 */
static inline bool
es_request_was_stored(const EsAppend *append)
{
	for (int i = 0; i < append->count; i++)
		if (!append->events[i].stored)
			return false;
	return append->count > 0;
}

#endif							/* ES_APPEND_REQUEST_H */
