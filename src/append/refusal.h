/*
 * refusal.h
 *		Why an append is refused, and saying so.
 */
#ifndef ES_APPEND_REFUSAL_H
#define ES_APPEND_REFUSAL_H

#include "base/base.h"

#include "nodes/pg_list.h"
#include "utils/uuid.h"

#include "append/request.h"

typedef enum EsRefusalReason
{
	ES_REFUSED_VERSION,			/* the stream is not at the expected version */
	ES_REFUSED_IDS,				/* ids are stored already, but not as given */
	ES_REFUSED_DELETED,			/* the stream is deleted */
	ES_REFUSED_DATA,			/* an event's data break its schema */
	ES_REFUSED_SUBJECT			/* an event's subject is shredded */
} EsRefusalReason;

/* In what way ids are stored that are not stored as given. */
typedef enum EsConflictKind
{
	ES_CONFLICT_PARTLY,			/* other events of the call are not stored */
	ES_CONFLICT_PLACE,			/* in another order, or at other versions */
	ES_CONFLICT_CONTENT			/* with other type, data or metadata */
} EsConflictKind;

/* An id that is stored already, but not as given. */
typedef struct EsConflict
{
	EsConflictKind kind;
	pg_uuid_t	id;
	int64		version;		/* that it is stored as */
	int64		position;
	int			missing;		/* PARTLY, in a call on one stream: an event
								 * that is not stored, from 1 */
} EsConflict;

typedef struct EsRefusal
{
	const EsTarget *target;
	EsRefusalReason reason;
	int64		actual_version;
	EsConflict	conflict;		/* of ES_REFUSED_IDS */
	const EsNewEvent *event;	/* of ES_REFUSED_DATA and ES_REFUSED_SUBJECT */
	int			number;			/* of the event in the call, from 1; 0: it is
								 * the only one */
} EsRefusal;

ES_NORETURN extern void es_refusal_raise_data(const EsNewEvent *event, const text *stream, int number);
ES_NORETURN extern void es_refusal_raise_subject(const EsNewEvent *event, const text *stream, int number);
ES_NORETURN extern void es_refusal_raise(const List *refusals, bool many);

#endif							/* ES_APPEND_REFUSAL_H */
