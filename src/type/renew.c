/*
 * renew.c
 *		Events given out: plain, and in their newest form.
 *
 * Protected fields are decrypted: whoever reads the log for a client has seen to it that he may
 * read.
 *
 * With eventstore.upcast on, what reads the log for a client takes each event that is
 * not of its type's newest form through the upcasters, between reading it and putting
 * it into the result.  They are those that there were as the read began.  Handlers run
 * while the read is open, as folds have them; what they do to the log it does not see.
 */
#include "type/renew.h"

#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/call.h"
#include "base/names.h"
#include "base/settings.h"
#include "secret/field.h"

/* GUC eventstore.upcast */
static bool upcast = false;

/* Defines the GUC; called once, from _PG_init. */
void
es_renew_init(void)
{
	DefineCustomBoolVariable("eventstore.upcast",
							 "Has reads and polls give events in the newest form of their types.",
							 "Off: as they are stored.",
							 &upcast, false, PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * es_renew_begin gets ready to give out events, into a result, or into none where only
 * es_renew_event is called; what that takes lives in the current memory context.
 */
void
es_renew_begin(EsRenewer *renewer, ReturnSetInfo *result)
{
	renewer->upcasters = NULL;
	renewer->result = result;
	renewer->holder = CurrentMemoryContext;
	renewer->context = NULL;
	if (likely(!upcast))
		return;
	renewer->upcasters = es_upcast_pin(CurrentMemoryContext);
	renewer->calls = es_handler_begin_calls(renewer->upcasters->count);
}

/* Names the event in the context of errors. */
static void
describe_renewed_event(void *arg)
{
	errcontext("%s", es_names_show_event(arg));
}

/*
 * es_renew_event gives an event its plain data, and its newest form; what is new of it is in
 * the current memory context.  A handler's failure is VE009.
 */
void
es_renew_event(const EsRenewer *renewer, EsEvent *event)
{
	ErrorContextCallback callback;
	int			settings;

	callback.callback = describe_renewed_event;
	callback.arg = event;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (renewer->upcasters != NULL)
	{
		settings = es_settings_enter();
		(void) es_upcast_show(renewer->upcasters, renewer->calls, event);
		es_settings_leave(settings);
	}
	else
		(void) es_field_reveal(event);
	error_context_stack = callback.previous;
}

/* Puts an event that is not to be given out as it is stored into the result. */
static void
return_old_event(EsRenewer *renewer, const EsEvent *event)
{
	MemoryContext old;
	EsEvent		newest = *event;

	if (renewer->context == NULL)
		renewer->context = AllocSetContextCreate(renewer->holder, "eventstore newest form", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(renewer->context);
	es_renew_event(renewer, &newest);
	es_call_return_event(&newest, renewer->result);
	MemoryContextSwitchTo(old);
	MemoryContextReset(renewer->context);
}

/*
 * es_renew_return_event, a callback, puts an event into the result of the renewer that it
 * is given.
 */
void
es_renew_return_event(const EsEvent *event, void *arg)
{
	EsRenewer  *renewer = arg;

	if (es_renew_is_old(renewer, event))
		return_old_event(renewer, event);
	else
		es_call_return_event(event, renewer->result);
}
