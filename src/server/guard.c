/*
 * guard.c
 *		Triggers that keep the store's tables append-only.
 *
 * Row triggers refuse UPDATE and DELETE, statement triggers refuse TRUNCATE, and
 * INSERT by others than the store's owner.  They are ENABLE ALWAYS, so
 * session_replication_role does not get round them.  Our own writes go through the
 * table AM and never meet a trigger.  What comes past the triggers, such as DROP, is
 * ddlguard.c's.
 *
 * Who may insert directly is loading the store, which is noted (shared/mark.c); and
 * a worker of a subscription that is about to copy a table has to have the segments
 * first (segment/mirror.c).
 */
#include "base/base.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/rel.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "segment/mirror.h"
#include "shared/mark.h"

PG_FUNCTION_INFO_V1(es_store_guard_rows);
PG_FUNCTION_INFO_V1(es_store_guard_statement);
PG_FUNCTION_INFO_V1(es_store_guard_own);

/* Raises VE002 for the operation that fired the trigger. */
static void
refuse_change(const TriggerData *trigger)
{
	es_error_append_only(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "update" :
						 TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "delete from" :
						 TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? "insert into" : "truncate",
						 RelationGetRelationName(trigger->tg_relation));
}

/*
 * es_store_guard_rows: BEFORE UPDATE OR DELETE row trigger.  Raises VE002,
 * whoever asks; only logical replication may carry changes, which are those that
 * the store that is copied has made: of the log, what scavenging has removed.
 */
Datum
es_store_guard_rows(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo), "guard_rows");
	if (IsLogicalWorker())
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
							   trigger->tg_newtuple : trigger->tg_trigtuple);
	refuse_change(trigger);
	return (Datum) 0;			/* not reached */
}

/*
 * es_store_guard_statement: BEFORE INSERT OR TRUNCATE statement trigger.
 * TRUNCATE is VE002; direct INSERT and COPY, which restores and subscribers
 * need, are 42501 for all but the store's owner and superusers.
 */
Datum
es_store_guard_statement(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo), "guard_statement");
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		refuse_change(trigger);
	if (!es_base_owns_store(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to write to table \"%s\" directly",
					   RelationGetRelationName(trigger->tg_relation)),
				errhint("Append with es_append or INSERT INTO es_events."));
	es_sharedmark_set_loading(es_base_oid(&es_base_position_seq), true);
	es_mirror_before_copy(trigger->tg_relation);
	return PointerGetDatum(NULL);
}

/*
 * es_store_guard_own: BEFORE INSERT OR UPDATE OR DELETE row trigger, which fires
 * before es_store_guard_rows.  Leaves out what logical replication brings, and lets
 * others go on.
 */
Datum
es_store_guard_own(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo), "guard_own");
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}
