/*
 * typing.c
 *		Which version of its type a new event is of.
 *
 * It is the one that the caller gives, or else the newest (type/version.c), as of now:
 * called under the lock that appends keep to their transaction's end, so that the
 * version is not dropped before the event can be found.  A row that waits to be written
 * with others (bulk.c) is judged as it comes, so that an error is raised where it is,
 * and again, under the lock, if what is defined may have changed since.
 */
#include "append/typing.h"

#include "miscadmin.h"
#include "utils/builtins.h"

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

/* es_typing_judge decides about one event; see the head. */
void
es_typing_judge(EsNewEvent *event)
{
	uint64		generation = es_version_generation();

	if (event->judged == generation)
		return;
	judge_by_definitions(event);
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
		es_typing_judge(event);
	}
}
