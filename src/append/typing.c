/*
 * typing.c
 *		Which version of its type a new event is of, and whether its data fit that.
 *
 * The version is the one that the caller gives, or else the newest (type/version.c), as of now:
 * called under the lock that appends keep to their transaction's end, so that the
 * version is not dropped before the event can be found.  A row that waits to be written
 * with others (bulk.c) is judged as it comes, so that an error is raised where it is,
 * and again, under the lock, if what is defined may have changed since.
 *
 * Data must satisfy the schema of the event's version, if it has one.  An event with an
 * id that the caller gives may be a retry of one that is stored, from before there was a
 * schema or when another version was the newest; so it is only found to be unfit here,
 * and refused in attempt.c unless it is stored.
 */
#include "append/typing.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "append/refusal.h"
#include "schema/violation.h"
#include "type/version.h"

/* Raises 22023 for a version that a type does not have. */
ES_NORETURN static void
refuse_type_version(const EsNewEvent *event, int newest)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			newest == 1 ?
			errmsg("\"type_version\" of an event of type \"%s\" must be 1", text_to_cstring(event->type)) :
			errmsg("\"type_version\" of an event of type \"%s\" must be between 1 and %d",
				   text_to_cstring(event->type), newest),
			errdetail("It is %d.", event->type_version),
			errhint("Register the schema or the upcaster that a version begins with before events of that version are appended."));
}

/* Decides about an event by what is defined now. */
static void
judge_by_definitions(EsNewEvent *event)
{
	int			newest = es_version_newest(event->type);

	if (!event->version_given)
		event->type_version = newest;
	else if (event->type_version < 1 || event->type_version > newest)
		refuse_type_version(event, newest);
}

/*
 * Holds an event against the schema of its version; VE005 unless it may be stored
 * already.  What is wrong with it is kept in the current memory context.
 */
static void
hold_against_schema(EsNewEvent *event, const text *stream, int number)
{
	Jsonb	   *data = DatumGetJsonbP(event->data);
	EsViolation violation;

	if (es_version_find_violation(event->type, event->type_version, data, &violation))
	{
		event->unfit = memcpy(palloc(sizeof(EsViolation)), &violation, sizeof(EsViolation));
		if (!event->id_given)
			es_refusal_raise_data(event, stream, number);
	}
	if (PointerGetDatum(data) != event->data)
		pfree(data);
}

/*
 * es_typing_judge decides about one event for a stream, the number-th of a call (0: the
 * only one); see the head.
 */
void
es_typing_judge(EsNewEvent *event, const text *stream, int number)
{
	uint64		generation = es_version_generation();

	if (event->judged == generation)
		return;
	event->unfit = NULL;		/* by a version that may have had a schema */
	judge_by_definitions(event);
	if (es_version_has_schema(event->type, event->type_version))
		hold_against_schema(event, stream, number);
	event->judged = generation;
}

/* es_typing_judge_all decides about all events of a call. */
void
es_typing_judge_all(EsAppend *append)
{
	bool		any = es_version_any();

	for (int i = 0; i < append->count; i++)
	{
		EsNewEvent *event = &append->events[i];

		if (likely(!any && !event->version_given))
		{
			event->type_version = 1;
			continue;
		}
		CHECK_FOR_INTERRUPTS();
		es_typing_judge(event, event->target->stream, append->count > 1 && !append->each_alone ? i + 1 : 0);
		append->any_unfit |= event->unfit != NULL;
	}
}
