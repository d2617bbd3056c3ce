/*
 * readview.c
 *		Read models for SQL: views of them, and indexes on them.
 *
 * A view is an ordinary one, the caller's, over the table of the projection's states
 * (segment/statetable.c).  Which generation is live it asks
 * eventstore.projection_progress, once a query, so in each query it shows all of one
 * generation, as its snapshot has it.  Whom its owner lets read it is his business, as with
 * any view, as long as he may read himself: that it asks, too, once a query.
 *
 * The caller has no rights in schema eventstore, nor needs any to make the view: it is
 * made empty, and then given its query, which was looked up as the owner.  To read by
 * it he is granted SELECT on that one table, and on the columns that tell which
 * generation is live.  All rows of the table are the projection's, so functions in
 * queries, which may be called before the view's own conditions, see no others'.
 *
 * What is stored of a state goes through eventstore.shown_state(), which the planner takes
 * away where nothing is protected.
 *
 * Indexes belong to the store's owner, and what is in them is computed as the owner by
 * REINDEX, VACUUM and the like.  So one that is made for somebody else may use what
 * the server brings only.  That is known once the definition is analyzed; and to analyze it
 * makes values of literals, which calls what their types have, as the CHECK of a domain that
 * an array is of.  So it is analyzed as the caller.
 *
 * Locks: definitions of projections in a mode that keeps changes of them off.
 */
#include "base/base.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "base/names.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/view.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
#include "nodes/supportnodes.h"
#include "parser/analyze.h"
#include "parser/parse_utilcmd.h"
#include "rights/right.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "base/owner.h"
#include "fold/secrecy.h"
#include "projection/apply.h"
#include "projection/privacy.h"
#include "projection/projection.h"
#include "projection/readmodel.h"
#include "rights/right.h"
#include "secret/protection.h"
#include "segment/ddl.h"
#include "segment/statetable.h"
#include "table/columns.h"

PG_FUNCTION_INFO_V1(es_projection_view);
PG_FUNCTION_INFO_V1(es_index_projection);
PG_FUNCTION_INFO_V1(es_drop_projection_index);
PG_FUNCTION_INFO_V1(es_readview_show);
PG_FUNCTION_INFO_V1(es_readview_support);

/*
 * Fetches the argument that names a projection that keeps states, as it is until the
 * end of the transaction.
 */
static const EsProjection *
read_model_arg(FunctionCallInfo fcinfo, int argno, const char *command)
{
	text	   *name = es_projection_name_arg(fcinfo, argno);

	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	es_projection_require(es_projection_get(name), ES_RIGHT_ADMIN);
	es_projection_keep_defined();
	return es_readmodel_get_locked(name, ES_RIGHT_ADMIN);
}

/* ---- views ---- */

/* Makes a view, empty so far, as the caller, in the schema that CREATE VIEW chooses. */
static Oid
create_empty_view(const char *name)
{
	Oid			schema = RangeVarGetCreationNamespace(makeRangeVar(NULL, unconstify(char *, name), -1));
	char	   *qualified = quote_qualified_identifier(get_namespace_name(schema), name);

	SPI_connect();
	if (SPI_execute(psprintf("CREATE VIEW %s AS SELECT NULL::pg_catalog.text COLLATE pg_catalog.\"C\" AS key,"
							 " NULL::pg_catalog.int8 AS version, NULL::pg_catalog.int8 AS \"position\","
							 " NULL::pg_catalog.jsonb AS state", qualified), false, 0) < 0)
		elog(ERROR, "could not create view %s", qualified);
	SPI_finish();
	CommandCounterIncrement();
	return get_relname_relid(name, schema);
}

/*
 * Gives the condition by which a view shows states only as long as the role whose it is may
 * read them.  It has no column, so it is asked once a query, and the planner goes on to see
 * the table and its indexes.  Views of the store's owner have none.
 */
static const char *
make_view_condition(const EsProjection *projection, Oid role)
{
	const char *categories = "NULL";

	if (es_base_owns_store(role))
		return "";
	if (projection->categories.set)
		categories = quote_literal_cstr(OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(es_names_array(&projection->categories))));
	return psprintf(" AND eventstore.require_read(%s::pg_catalog.name, %s::pg_catalog.text[])",
					quote_literal_cstr(GetUserNameFromId(role, false)), categories);
}

/* Analyzes the query that gives the states of a projection's live generation, as the owner. */
static Query *
analyze_states_query(const EsProjection *projection, Oid role)
{
	const char *sql = psprintf("SELECT s.key, s.version, s.position,"
							   " eventstore.shown_state(" INT64_FORMAT ", s.state, s.sealed) AS state FROM eventstore.%s s"
							   " WHERE s.projection_id OPERATOR(pg_catalog.=) " INT64_FORMAT "::pg_catalog.int8"
							   " AND s.generation OPERATOR(pg_catalog.=) (SELECT p.generation"
							   " FROM eventstore.projection_progress p"
							   " WHERE p.projection_id OPERATOR(pg_catalog.=) " INT64_FORMAT "::pg_catalog.int8 AND p.live)%s",
							   projection->id, es_statetable_of(projection->id)->table->name, projection->id,
							   projection->id, make_view_condition(projection, role));
	EsOwnerContext caller;
	Query	   *query;

	es_owner_enter(&caller);
	query = parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)), sql, NULL, 0, NULL);
	es_owner_leave(&caller);
	return query;
}

/* Lets a role read a projection's states, and which generation is live. */
static void
grant_states(const EsProjection *projection, Oid role)
{
	const char *name = quote_identifier(GetUserNameFromId(role, false));
	EsOwnerContext caller;

	if (role == es_base_store()->owner || superuser_arg(role))
		return;
	es_ddl_enter(&caller);
	es_ddl_run("GRANT SELECT ON eventstore.%s TO %s", es_statetable_of(projection->id)->table->name, name);
	es_ddl_run("GRANT SELECT (projection_id, generation, live) ON eventstore.projection_progress TO %s", name);
	es_ddl_leave(&caller);
}

/*
 * es_projection_view(projection, view): makes a view of the states that a projection
 * keeps, in the schema where CREATE VIEW would; it is the caller's.
 *
 * NULLs are 22004.  Unknown projection: VE004; one with a handler: 55000; a relation
 * of that name: 42P07; no CREATE on the schema: 42501; on a standby: 25006.  Waits for
 * changes of projections and keeps them off to the end of the transaction.  A
 * rollback undoes it.
 */
Datum
es_projection_view(PG_FUNCTION_ARGS)
{
	const EsProjection *projection;
	const char *name;
	Oid			view;

	es_call_require(fcinfo, 1, "view");
	name = NameStr(*PG_GETARG_NAME(1));
	if (name[0] == '\0')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("name of a view must not be empty"));
	projection = read_model_arg(fcinfo, 0, "es_projection_view()");
	view = create_empty_view(name);
	StoreViewQuery(view, analyze_states_query(projection, GetUserId()), true);
	grant_states(projection, GetUserId());
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/* ---- states shown ---- */

/* What a call in a query keeps. */
typedef struct ShownStates
{
	int64		id;
	const EsProjection *projection; /* NULL: there is none */
} ShownStates;

/* Gives the projection whose states a call shows, which stays as it is for the query. */
static const EsProjection *
get_shown_projection(FmgrInfo *function, int64 id)
{
	ShownStates *kept = function->fn_extra;

	if (kept == NULL || kept->id != id)
	{
		kept = MemoryContextAlloc(function->fn_mcxt, sizeof(ShownStates));
		kept->id = id;
		kept->projection = es_projection_find_by_id(es_projection_pin(function->fn_mcxt), id);
		if (kept->projection)
			es_right_require_all(ES_RIGHT_READ, &kept->projection->categories);
		function->fn_extra = kept;
	}
	return kept->projection;
}

/*
 * eventstore.shown_state(projection_id bigint, state jsonb, sealed text) gives what is
 * stored of a projection's state as readers may see it; NULL if it is NULL, or lost.  Behind
 * the views of es_projection_view.
 *
 * Needs 'read' on what the projection is over: 42501.  55000 without the master key.
 */
Datum
es_readview_show(PG_FUNCTION_ARGS)
{
	Jsonb	   *state = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	text	   *sealed = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	const EsProjection *projection;
	bool		isnull;
	Datum		shown;

	if (PG_ARGISNULL(0) || (state == NULL && sealed == NULL))
		PG_RETURN_NULL();
	projection = get_shown_projection(fcinfo->flinfo, PG_GETARG_INT64(0));
	if (projection == NULL)
		PG_RETURN_NULL();
	shown = es_secrecy_read(state, sealed, &projection->categories, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(shown);
}

/*
 * Has the planner take the column itself where nothing of a projection is protected, so
 * that indexes on it serve.
 */
Datum
es_readview_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request = (SupportRequestSimplify *) PG_GETARG_POINTER(0);
	const EsProjection *projection;
	Const	   *id;

	if (!IsA(request, SupportRequestSimplify) || request->root == NULL || list_length(request->fcall->args) != 3)
		PG_RETURN_POINTER(NULL);
	id = linitial(request->fcall->args);
	if (!IsA(id, Const) || id->constisnull)
		PG_RETURN_POINTER(NULL);
	projection = es_projection_find_by_id(es_projection_pin(CurrentMemoryContext), DatumGetInt64(id->constvalue));
	if (projection == NULL || es_apply_is_protected(projection))
		PG_RETURN_POINTER(NULL);
	es_protection_note_plan(request->root);
	PG_RETURN_POINTER(lsecond(request->fcall->args));
}

/* ---- indexes ---- */

/* Tells whether a function is not one of the server's. */
static bool
is_users_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/*
 * Tells whether an expression uses functions or types that are not the server's.  A type alone
 * may call something: what makes values of it is the server's, and checks the domains in it.
 */
static bool
uses_users_code(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, List) && !IsA(node, CaseWhen) && exprType(node) >= FirstNormalObjectId)
		return true;
	return check_functions_in_node(node, is_users_function, context) ||
		expression_tree_walker(node, uses_users_code, context);
}

/* Raises 42501 if what an index, analyzed, is made of is not all the server's. */
static void
check_index_code(const IndexStmt *statement)
{
	ListCell   *cell;
	bool		users = uses_users_code(statement->whereClause, NULL);

	foreach(cell, statement->indexParams)
		users = users || uses_users_code(lfirst_node(IndexElem, cell)->expr, NULL);
	if (users)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("index on a projection must use functions and types of the server only"),
				errdetail("It is kept with the rights of the extension's owner."),
				errhint("The owner can create other indexes, with CREATE INDEX on the table."));
}

/* Raises 22023 if an index, analyzed, would have protected data. */
static void
check_index_privacy(const EsProjection *projection, const IndexStmt *statement)
{
	Relation	table = table_open(es_statetable_relid(projection->id), NoLock);
	ListCell   *cell;

	foreach(cell, list_concat_copy(statement->indexParams, statement->indexIncludingParams))
	{
		const IndexElem *element = lfirst_node(IndexElem, cell);
		Node	   *expression = element->expr;

		if (element->name)
			expression = (Node *) makeVar(1, get_attnum(RelationGetRelid(table), element->name), JSONBOID, -1, InvalidOid, 0);
		es_privacy_check_index(projection, expression);
	}
	es_privacy_check_index(projection, statement->whereClause);
	table_close(table, NoLock);
}

/* Parses what makes an index on a table of states; 22023 if it is anything else. */
static IndexStmt *
parse_index_definition(const char *table, const char *sql)
{
	List	   *parsed = pg_parse_query(sql);
	IndexStmt  *statement = list_length(parsed) == 1 ? (IndexStmt *) linitial_node(RawStmt, parsed)->stmt : NULL;

	if (statement == NULL || !IsA(statement, IndexStmt) || strcmp(statement->relation->relname, table) != 0 ||
		statement->tableSpace != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("definition of an index must be what follows the table in CREATE INDEX"),
				errhint("\"((state ->> 'status'))\" is an example, \"USING gin (state)\" another one."));
	return statement;
}

/*
 * Analyzes the statement that makes an index, as the caller with the server's own
 * objects only to be found by their bare names; gives it a name.
 */
static IndexStmt *
analyze_index_definition(const EsProjection *projection, const char *definition)
{
	const char *table = es_statetable_of(projection->id)->table->name;
	const char *sql = psprintf("CREATE INDEX ON eventstore.%s %s", table, definition);
	IndexStmt  *statement = parse_index_definition(table, sql);
	int			settings;

	(void) es_statetable_lock(projection->id, ShareLock);
	settings = es_owner_enter_settings();
	statement = transformIndexStmt(es_statetable_relid(projection->id), statement, sql);
	es_owner_leave_settings(settings);
	check_index_code(statement);
	check_index_privacy(projection, statement);
	statement->idxname = ChooseRelationName(table, NULL, "idx", es_base_store()->schema, false);
	return statement;
}

/* Makes an index. */
static void
create_state_index(IndexStmt *statement)
{
	PlannedStmt *wrapper = makeNode(PlannedStmt);
	EsOwnerContext caller;

	wrapper->commandType = CMD_UTILITY;
	wrapper->utilityStmt = (Node *) statement;
	wrapper->stmt_location = -1;
	es_ddl_enter(&caller);
	ProcessUtility(wrapper, "CREATE INDEX", false, PROCESS_UTILITY_SUBCOMMAND, NULL, NULL, None_Receiver, NULL);
	es_ddl_leave(&caller);
}

/*
 * es_index_projection(projection, definition): makes an index on the states that a
 * projection keeps; definition is what CREATE INDEX has after the table.  Gives its
 * name.
 *
 * NULLs are 22004.  Unknown projection: VE004; one with a handler: 55000; what is no
 * definition, or would index protected data, 22023, or the server's own errors, which may
 * tell of states; without 'read' on the categories, too, and for functions or types that
 * are not the server's: 42501; on a standby: 25006.  Waits for transactions that have
 * changed states, and keeps others from it to its end.  A rollback undoes it.
 */
Datum
es_index_projection(PG_FUNCTION_ARGS)
{
	const EsProjection *projection;
	IndexStmt  *statement;

	es_call_require(fcinfo, 1, "definition");
	projection = read_model_arg(fcinfo, 0, "es_index_projection()");
	es_projection_require(projection, ES_RIGHT_READ);
	statement = analyze_index_definition(projection, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	create_state_index(statement);
	PG_RETURN_DATUM(DirectFunctionCall1(namein, CStringGetDatum(statement->idxname)));
}

/* Finds an index that users have made on a projection's states; VE004 if there is none. */
static Oid
find_users_index(const EsProjection *projection, const char *name)
{
	const EsShape *shape = es_statetable_of(projection->id);
	Oid			index = get_relname_relid(name, es_base_store()->schema);

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX || strcmp(name, shape->key->name) == 0 ||
		IndexGetRelation(index, true) != es_statetable_relid(projection->id))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("projection \"%s\" has no index \"%s\"", text_to_cstring(projection->name), name));
	return index;
}

/*
 * es_drop_projection_index(projection, index): drops an index on the states that a
 * projection keeps.
 *
 * NULLs are 22004; unknown projection or index: VE004; on a standby: 25006.  Waits for
 * all who read or change the states, and keeps them off to its end.
 */
Datum
es_drop_projection_index(PG_FUNCTION_ARGS)
{
	const EsProjection *projection;
	ObjectAddress index;

	es_call_require(fcinfo, 1, "index");
	projection = read_model_arg(fcinfo, 0, "es_drop_projection_index()");
	(void) es_statetable_lock(projection->id, AccessExclusiveLock);
	ObjectAddressSet(index, RelationRelationId, find_users_index(projection, NameStr(*PG_GETARG_NAME(1))));
	performDeletion(&index, DROP_RESTRICT, 0);
	PG_RETURN_VOID();
}
