/*
 * conceal.c
 *		Protected fields of new events, encrypted before they are stored.
 *
 * By what is defined as of now: called under the lock that appends keep to their transaction's
 * end, which es_protect waits for.  The caller's data stay plain beside the encrypted ones: a
 * retry is compared by them, and RETURNING gives them.
 *
 * An event about a shredded subject cannot be stored.  One with an id that the caller gives may
 * be a retry of one that is stored, from before; so it is only noted here, and refused in
 * attempt.c unless it is stored.
 */
#include "append/conceal.h"

#include "miscadmin.h"

#include "append/refusal.h"
#include "base/event.h"
#include "projection/privacy.h"
#include "secret/field.h"
#include "secret/protection.h"

/* Makes of a new event what there is to know of it before it is stored. */
static EsEvent
view_new_event(const EsNewEvent *event)
{
	return (EsEvent)
	{
		.event_id = event->id,
			.stream = PointerGetDatum(event->target->stream),
			.type = PointerGetDatum(event->type),
			.data = event->data,
			.metadata = event->metadata
	};
}

/* Encrypts the protected fields of an event of a category that has, or had, any. */
static void
conceal_event(EsNewEvent *event, const EsProtected *category, int number)
{
	const EsProtection *protection = es_protection_now(category);
	EsEvent		view = view_new_event(event);

	if (protection == NULL || category->count > 1)
		es_field_check_plain(&view, category, protection);
	if (protection == NULL)
		return;
	switch (es_field_encrypt(&view, category, protection))
	{
		case ES_FIELD_DONE:
			event->concealed = view.data;
			break;
		case ES_FIELD_SHREDDED:
			event->shredded = true;
			if (!event->id_given)
				es_refusal_raise_subject(event, event->target->stream, number);
			break;
		case ES_FIELD_NONE:
		case ES_FIELD_AWAY:
			break;
	}
}

/* Finds what is protected of a new event; NULL: nothing ever was. */
static const EsProtected *
find_event_protection(const EsNewEvent *event, bool *keeps_keys)
{
	const EsProtected *category = es_protection_of(event->target->stream);

	if (category == NULL || *keeps_keys)
		return category;
	*keeps_keys = true;
	es_privacy_keep_keys();
	return es_protection_of(event->target->stream);
}

/*
 * es_conceal_all encrypts the protected fields of a call's events; what comes of it is in the
 * current memory context.  22023 for an event that has any and no subject, 55000 for one of a
 * shredded subject or if the master key is not to be had.  Waits for es_shred() where
 * inline projections are made of such events.
 */
void
es_conceal_all(EsAppend *append)
{
	bool		keeps_keys = false;

	if (likely(!es_protection_any()) || append->hold_back)
		return;
	for (int i = 0; i < append->count; i++)
	{
		EsNewEvent *event = &append->events[i];
		const EsProtected *category = find_event_protection(event, &keeps_keys);

		CHECK_FOR_INTERRUPTS();
		event->concealed = (Datum) 0;
		event->shredded = false;
		if (category)
			conceal_event(event, category, append->count > 1 && !append->each_alone ? i + 1 : 0);
		append->any_unfit |= event->shredded;
	}
}
