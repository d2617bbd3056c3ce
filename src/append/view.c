/*
 * view.c
 *		The view es_events: rows put into it are appended.
 *
 * An INSTEAD OF trigger turns each row into the call that es_append would
 * make, and hands back the row as it was stored, for RETURNING.
 *
 * Statement triggers tell where a statement begins and ends, so that rows of
 * COPY and of INSERT without RETURNING can be written many at a time (bulk.c).
 * That is only done for statements that the client itself runs on the view -
 * what a function runs, the portal does not tell - and that call no functions
 * of users, which might look at the view.  The CHECK of a domain may, but the
 * server, too, takes it to depend on the value alone.
 */
#include "base/base.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/tupdesc.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "parser/parsetree.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "append/append.h"
#include "append/bulk.h"
#include "append/request.h"
#include "base/call.h"
#include "base/event.h"
#include "base/names.h"
#include "base/objects.h"
#include "rights/right.h"

/* The triggers that view.sql makes on the view. */
#define OWN_TRIGGERS	4

PG_FUNCTION_INFO_V1(es_ingest_row);
PG_FUNCTION_INFO_V1(es_ingest_statement);
PG_FUNCTION_INFO_V1(es_ingest_cast);

/*
 * Tells whether a relation is the view es_events: rows that other triggers kept
 * back would never be appended.
 */
static bool
is_our_view(Relation rel)
{
	return RelationGetNamespace(rel) == es_base_store()->user_schema &&
		strcmp(RelationGetRelationName(rel), "es_events") == 0;
}

/* Raises what a column that must or must not be given deserves. */
static void
check_given_columns(const bool *isnull)
{
	static const struct
	{
		AttrNumber	column;
		const char *name;
	}			required[] = {
		{Anum_es_event_stream, "stream"},
		{Anum_es_event_type, "type"},
		{Anum_es_event_data, "data"}
	};

	for (int i = 0; i < lengthof(required); i++)
		if (isnull[required[i].column - 1])
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("column \"%s\" of view \"es_events\" must not be null", required[i].name));
	if (!isnull[Anum_es_event_position - 1])
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("cannot insert into column \"position\" of view \"es_events\""));
}

/* Raises 42501 unless the current user may append to a stream, and give times if there is one. */
static void
require_rights_for_row(const text *stream, bool time_given)
{
	es_right_require_stream(ES_RIGHT_APPEND, stream);
	if (time_given && !es_right_has_on_stream(ES_RIGHT_ADMIN, stream))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to insert into column \"recorded_at\" of view \"es_events\""),
				errdetail("Events with times of their own are imports, which take the privilege \"admin\" on the category."));
}

/* Turns a row of the view into a call. */
static void
take_view_row(EsTarget *target, EsNewEvent *event, const Datum *values, const bool *isnull)
{
	text	   *stream = DatumGetTextPP(values[Anum_es_event_stream - 1]);

	es_names_check_stream(stream);
	require_rights_for_row(stream, !isnull[Anum_es_event_recorded_at - 1]);
	target->stream = stream;
	if (!isnull[Anum_es_event_version - 1])
	{
		event->expected = Max(DatumGetInt64(values[Anum_es_event_version - 1]), 0);
		target->expectation = ES_EXPECT_VERSION;
		target->expected_version = event->expected - 1; /* -1 is what no stream
														 * is at */
	}
	es_request_take(event, values[Anum_es_event_type - 1], values[Anum_es_event_data - 1],
					isnull[Anum_es_event_metadata - 1] ? NULL : &values[Anum_es_event_metadata - 1],
					isnull[Anum_es_event_event_id - 1] ? NULL : &values[Anum_es_event_event_id - 1]);
	if (!isnull[Anum_es_event_type_version - 1])
		es_request_type_version(event, DatumGetInt32(values[Anum_es_event_type_version - 1]));
	event->time_given = !isnull[Anum_es_event_recorded_at - 1];
	if (event->time_given)
		event->given_at = es_request_check_time(DatumGetTimestampTz(values[Anum_es_event_recorded_at - 1]));
	es_request_check_event(event, stream, 0);
}

/* Puts what came of the call into the row. */
static void
complete_view_row(const EsNewEvent *event, Datum *values, bool *isnull)
{
	values[Anum_es_event_position - 1] = Int64GetDatum(event->position);
	values[Anum_es_event_version - 1] = Int64GetDatum(event->version);
	values[Anum_es_event_type_version - 1] = Int32GetDatum(event->type_version);
	values[Anum_es_event_metadata - 1] = event->metadata;
	values[Anum_es_event_event_id - 1] = UUIDPGetDatum(&event->id);
	values[Anum_es_event_recorded_at - 1] = TimestampTzGetDatum(event->recorded_at);
	memset(isnull, false, Natts_es_event * sizeof(bool));
}

/*
 * es_ingest_row: INSTEAD OF INSERT row trigger of es_events.
 *
 * A given version is an expectation, VE001 if it is not the next one; recorded_at
 * is for imports by who has 'admin' on the category; a given position is 22023.  The rest is as
 * for es_append.
 */
Datum
es_ingest_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];
	EsNewEvent	event = {0};
	EsTarget	target = {0};
	EsAppend	append = {.targets = &target,.ntargets = 1,.events = &event,.count = 1,.may = true};

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
							TRIGGER_FIRED_INSTEAD(trigger->tg_event) && is_our_view(trigger->tg_relation), "ingest");
	desc = RelationGetDescr(trigger->tg_relation);
	es_event_check(desc);
	heap_deform_tuple(trigger->tg_trigtuple, desc, values, isnull);
	check_given_columns(isnull);
	take_view_row(&target, &event, values, isnull);
	if (es_bulk_is_open() && (isnull[Anum_es_event_version - 1] || event.expected > 0))
	{
		es_bulk_add(target.stream, &event);
		/* a copy: the executor does not free the row if it gets the same back */
		return PointerGetDatum(heap_copytuple(trigger->tg_trigtuple));
	}
	es_request_add_event(&target, &event);
	es_append_run(&append);
	complete_view_row(&event, values, isnull);
	return PointerGetDatum(heap_form_tuple(desc, values, isnull));
}

/* Tells whether a plan uses functions that are not PostgreSQL's own, and might look at the view. */
static bool
uses_functions_of_users(const PlannedStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->invalItems)
		if (lfirst_node(PlanInvalItem, cell)->cacheId == PROCOID)
		return true;
	return false;
}

/* Tells whether a function is neither PostgreSQL's nor ours. */
static bool
is_foreign_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId &&
		getExtensionOfObject(ProcedureRelationId, function) != es_base_store()->extension;
}

/* Tells whether an expression without columns calls functions, or has types, of users. */
static bool
calls_code_of_users(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, List) && !IsA(node, CaseWhen) && exprType(node) >= FirstNormalObjectId)
		return true;
	return check_functions_in_node(node, is_foreign_function, context) ||
		expression_tree_walker(node, calls_code_of_users, context);
}

/* Tells whether a default of the view calls functions of users: COPY has no plan to list them. */
static bool
defaults_call_code_of_users(Relation view)
{
	const TupleConstr *constraints = RelationGetDescr(view)->constr;

	for (int i = 0; constraints && i < constraints->num_defval; i++)
		if (calls_code_of_users(stringToNode(constraints->defval[i].adbin), NULL))
			return true;
	return false;
}

/* Tells whether a plan to insert holds rows, as stored, against a view's WITH CHECK OPTION. */
static bool
checks_stored_rows(const PlannedStmt *statement)
{
	return !IsA(statement->planTree, ModifyTable) ||
		castNode(ModifyTable, statement->planTree)->withCheckOptionLists != NIL;
}

/*
 * Tells whether the client runs a statement on the view that shows no rows,
 * and in which nothing can look at the view.  A trigger of users can, and can put
 * rows in before our statement trigger or after it, while the portal is the client's.
 */
static bool
statement_is_plain(Relation view)
{
	const PlannedStmt *statement;

	if (ActivePortal == NULL || list_length(ActivePortal->stmts) != 1 || view->trigdesc->numtriggers != OWN_TRIGGERS)
		return false;
	statement = linitial_node(PlannedStmt, ActivePortal->stmts);
	if (statement->commandType == CMD_UTILITY && IsA(statement->utilityStmt, CopyStmt))
	{
		const CopyStmt *copy = castNode(CopyStmt, statement->utilityStmt);

		return copy->is_from && copy->relation != NULL && copy->whereClause == NULL &&
			RangeVarGetRelid(copy->relation, NoLock, true) == RelationGetRelid(view) &&
			!defaults_call_code_of_users(view);
	}
	return statement->commandType == CMD_INSERT &&
		!statement->hasReturning && !statement->hasModifyingCTE &&
		!uses_functions_of_users(statement) && !checks_stored_rows(statement) &&
		list_length(statement->resultRelations) == 1 &&
		rt_fetch(linitial_int(statement->resultRelations), statement->rtable)->relid == RelationGetRelid(view);
}

/* es_ingest_statement: BEFORE and AFTER INSERT statement trigger of es_events. */
Datum
es_ingest_statement(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) &&
							TRIGGER_FIRED_BY_INSERT(trigger->tg_event) && is_our_view(trigger->tg_relation),
							"ingest_statement");
	if (TRIGGER_FIRED_BEFORE(trigger->tg_event))
		es_bulk_begin_statement(statement_is_plain(trigger->tg_relation));
	else
		es_bulk_end_statement();
	return PointerGetDatum(NULL);
}

/* es_ingest_cast: a row of the view es_events as an es_event; the attributes are the same. */
Datum
es_ingest_cast(PG_FUNCTION_ARGS)
{
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	TupleDesc	view = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	TupleDesc	event = lookup_rowtype_tupdesc(es_base_event_type(), -1);
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];
	Datum		result;

	es_event_check(view);
	es_event_check(event);
	heap_deform_tuple(&tuple, view, values, isnull);
	result = HeapTupleGetDatum(heap_form_tuple(event, values, isnull));
	ReleaseTupleDesc(view);
	ReleaseTupleDesc(event);
	PG_RETURN_DATUM(result);
}
