/*
 * fault.c
 *		What of an event an append would refuse, told without an append.
 *
 * An import looks through all that is to come before it stores anything, since positions that
 * it has taken are spent.  It does so in SQL (the folder compat/), but for what is here: how long
 * data are as text, which may be more than a value can have and so is never made, and what is
 * defined of the event's type and category.  The answer holds as long as that stays.
 */
#include "base/base.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/event.h"
#include "json/size.h"
#include "schema/violation.h"
#include "secret/field.h"
#include "secret/protection.h"
#include "type/version.h"

PG_FUNCTION_INFO_V1(es_fault_of_append);

/* Says what is wrong with the size of data and metadata; NULL: nothing. */
static const char *
find_size_fault(Datum data, Datum metadata)
{
	switch (es_jsonsize_judge_event(data, metadata, es_jsonsize_event_limit))
	{
		case ES_TEXT_FITS:
			break;
		case ES_TEXT_TOO_LONG:
			return "data and metadata must not be longer than eventstore.max_event_size";
		case ES_TEXT_TOO_DEEP:
			return psprintf("data and metadata must not have more than %d levels of arrays and objects", ES_MOST_LEVELS);
	}
	return NULL;
}

/* Says whether data break the schema of the newest version of a type; NULL: no. */
static const char *
find_schema_fault(const text *type, Jsonb *data)
{
	EsViolation violation;

	return es_version_find_violation(type, es_version_newest(type), data, &violation) ?
		"data must satisfy the schema of the newest version of their type" : NULL;
}

/* Says what is wrong with the subject of protected fields; NULL: nothing, or there are none. */
static const char *
find_subject_fault(const EsEvent *event)
{
	const EsProtected *category = es_protection_any() ? es_protection_of(DatumGetTextPP(event->stream)) : NULL;
	const EsProtection *protection = category ? es_protection_now(category) : NULL;

	if (protection == NULL)
		return NULL;
	switch (es_field_judge_subject(event, protection))
	{
		case ES_FIELD_SUBJECT_GOOD:
			break;
		case ES_FIELD_SUBJECT_MISSING:
			return "events with protected fields must have a subject";
		case ES_FIELD_SUBJECT_SHREDDED:
			return "events with protected fields must not be about a subject that is shredded";
	}
	return NULL;
}

/*
 * eventstore.append_fault(stream, type, data, metadata): what es_append would refuse of a new
 * event that has a good name, type, metadata and id.
 *
 * For the extension's owner.  NULL arguments give NULL.  55000 if the master key that the event's
 * fields would be encrypted under is not to be had.  Stores nothing and makes no key.  Waits for
 * nobody but the master key's command, which is run where the session does not have that key.
 */
Datum
es_fault_of_append(PG_FUNCTION_ARGS)
{
	EsEvent		event = {
		.stream = PG_GETARG_DATUM(0),
		.type = PG_GETARG_DATUM(1),
		.data = PG_GETARG_DATUM(2),
		.metadata = PG_GETARG_DATUM(3)
	};
	const char *fault = find_size_fault(event.data, event.metadata);

	if (fault == NULL)
		fault = find_schema_fault(PG_GETARG_TEXT_PP(1), PG_GETARG_JSONB_P(2));
	if (fault == NULL)
		fault = find_subject_fault(&event);
	if (fault == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(fault));
}
