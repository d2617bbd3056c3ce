/*
 * altered.c
 *		Rows for tables that users have altered: columns, constraints, indexes.
 *
 * The store's own tables have columns without defaults and btree indexes over
 * plain columns, which table.c writes by itself.  What an administrator has added
 * is up to the executor's functions, called here as an INSERT would call them:
 *
 * - columns get their defaults, and keep what they have when we change the row;
 *   generated ones are computed
 * - so do columns of ours that came with a later version, and may follow users': but
 *   what new rows get is made here
 * - NOT NULL and CHECK constraints are checked
 * - indexes of all kinds, partial ones and those on expressions get their entries
 *
 * Constraints that are deferrable are checked at once, whatever was said of when:
 * there is no statement here that the server could defer anything to the end of.
 *
 * Users' functions run here, as the current user, or in workers of ours as the store's owner
 * (base/owner.c), while locks of ours are held and slots filled.  So slots for such tables are
 * not the kept ones (table.c): such a function may itself append.
 */
#include "table/altered.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "nodes/pg_list.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "base/owner.h"

struct EsAltered
{
	Relation	rel;
	const EsShape *shape;
	int			ncolumns;		/* ours, which come first */
	EState	   *estate;
	ResultRelInfo *result;
	ExprState **defaults;		/* by column; NULL: NULL, or not looked up */
	bool		snapshot;		/* one was pushed */
	EsOwnerContext caller;
};

static uint64 runs = 0;			/* of users' functions, or about to */

/*
 * es_altered_is tells whether a table has columns or constraints that only the
 * functions here see to.
 */
bool
es_altered_is(Relation rel, int ncolumns)
{
	TupleDesc	desc = RelationGetDescr(rel);

	return desc->natts > ncolumns || (desc->constr != NULL && desc->constr->num_check > 0);
}

/* es_altered_note_run says that users' functions are about to run in the midst of our work. */
void
es_altered_note_run(void)
{
	runs++;
}

/* es_altered_runs counts for this session how often they were about to. */
uint64
es_altered_runs(void)
{
	return runs;
}

/* es_altered_begin begins to write rows to a table that is open and locked. */
EsAltered *
es_altered_begin(Relation rel, const EsShape *shape)
{
	EsAltered  *altered = palloc0(sizeof(EsAltered));

	es_altered_note_run();
	es_owner_shield(&altered->caller);
	altered->rel = rel;
	altered->shape = shape;
	altered->ncolumns = shape->ncolumns;
	altered->estate = CreateExecutorState();

	/*
	 * users' functions, and values out of line, need one; workers may have
	 * none
	 */
	altered->snapshot = !ActiveSnapshotSet();
	if (altered->snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	altered->result = makeNode(ResultRelInfo);
	InitResultRelInfo(altered->result, rel, 0, NULL, 0);
	ExecOpenIndices(altered->result, false);
	return altered;
}

/* es_altered_end ends it. */
void
es_altered_end(EsAltered *altered)
{
	ExecCloseIndices(altered->result);
	pfree(altered->result);
	FreeExecutorState(altered->estate);
	if (altered->snapshot)
		PopActiveSnapshot();
	es_owner_unshield(&altered->caller);
	pfree(altered);
}

/* ---- columns ---- */

/* The NULL that a column of a domain gets, whose constraints may not allow it. */
static Expr *
null_of_domain(Form_pg_attribute column)
{
	int32		typmod = column->atttypmod;
	Oid			base = getBaseTypeAndTypmod(column->atttypid, &typmod);
	Node	   *null = (Node *) makeNullConst(base, typmod, column->attcollation);

	return (Expr *) coerce_to_target_type(NULL, null, base, column->atttypid, column->atttypmod,
										  COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
}

/* Makes a column's default ready; NULL if it has none. */
static ExprState *
prepare_default(EsAltered *altered, int i)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(altered->rel), i);
	Expr	   *expression;

	if (column->attisdropped || column->attgenerated != '\0')
		return NULL;
	expression = (Expr *) build_column_default(altered->rel, i + 1);
	if (expression == NULL && DomainHasConstraints(column->atttypid))
		expression = null_of_domain(column);
	return expression == NULL ? NULL : ExecPrepareExpr(expression, altered->estate);
}

/* Makes the defaults of users' columns ready; the executor's context is current. */
static void
prepare_users_defaults(EsAltered *altered)
{
	int			natts = RelationGetDescr(altered->rel)->natts;

	altered->defaults = palloc0(sizeof(ExprState *) * natts);
	for (int i = altered->ncolumns; i < natts; i++)
		altered->defaults[i] = prepare_default(altered, i);
}

/* Gives a column of a new row what it gets if it is ours and came later; false if it is not. */
static bool
fill_later_column(EsAltered *altered, TupleTableSlot *slot, int i)
{
	Form_pg_attribute column = TupleDescAttr(slot->tts_tupleDescriptor, i);
	const EsLaterColumn *later = es_columns_later(altered->shape, NameStr(column->attname));

	if (later == NULL || column->attisdropped || column->atttypid != later->type)
		return false;
	slot->tts_values[i] = later->make(&slot->tts_isnull[i]);
	return true;
}

/* Gives users' columns of a new row their defaults, which live until es_altered_end. */
static void
fill_users_defaults(EsAltered *altered, TupleTableSlot *slot)
{
	ExprContext *econtext = GetPerTupleExprContext(altered->estate);
	MemoryContext old = MemoryContextSwitchTo(altered->estate->es_query_cxt);

	if (altered->defaults == NULL)
		prepare_users_defaults(altered);
	for (int i = altered->ncolumns; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_isnull[i] = true;
		slot->tts_values[i] = (Datum) 0;
		if (fill_later_column(altered, slot, i))
			continue;
		if (altered->defaults[i])
			slot->tts_values[i] = ExecEvalExpr(altered->defaults[i], econtext, &slot->tts_isnull[i]);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Lets users' columns of a row that is changed be what they are; the old row's slot
 * stays as it is until the end.
 */
static void
copy_users_columns(EsAltered *altered, TupleTableSlot *slot, TupleTableSlot *old)
{
	slot_getallattrs(old);
	for (int i = altered->ncolumns; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_isnull[i] = old->tts_isnull[i];
		slot->tts_values[i] = old->tts_values[i];
	}
}

/*
 * es_altered_complete fills in the columns of users and checks constraints; old is
 * the row that it takes the place of, NULL if it is a new one.
 */
void
es_altered_complete(EsAltered *altered, TupleTableSlot *slot, TupleTableSlot *old)
{
	const TupleConstr *constraints = RelationGetDescr(altered->rel)->constr;

	if (old == NULL)
		fill_users_defaults(altered, slot);
	else
		copy_users_columns(altered, slot, old);
	slot->tts_tableOid = RelationGetRelid(altered->rel);
	if (constraints != NULL && constraints->has_generated_stored)
		ExecComputeStoredGenerated(altered->result, altered->estate, slot, CMD_INSERT);
	if (constraints != NULL)
		ExecConstraints(altered->result, slot, altered->estate);
	ResetPerTupleExprContext(altered->estate);
}

/* ---- indexes ---- */

/*
 * Checks what the server has left for later: whether a row that is in an index
 * breaks a constraint.
 */
static void
check_entry_now(EsAltered *altered, int i, TupleTableSlot *slot)
{
	Relation	index = altered->result->ri_IndexRelationDescs[i];
	IndexInfo  *info = altered->result->ri_IndexRelationInfo[i];
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	GetPerTupleExprContext(altered->estate)->ecxt_scantuple = slot;
	FormIndexDatum(info, slot, altered->estate, values, isnull);
	if (info->ii_ExclusionOps)
		check_exclusion_constraint(altered->rel, index, info, &slot->tts_tid, values, isnull, altered->estate, false);
	else
		index_insert(index, values, isnull, &slot->tts_tid, altered->rel, UNIQUE_CHECK_EXISTING, false, info);
}

/*
 * es_altered_index puts a row that was written into the indexes, or only into those
 * that summarize pages.
 */
void
es_altered_index(EsAltered *altered, TupleTableSlot *slot, bool only_summarizing)
{
	List	   *unchecked = es_exec_insert_index_tuples(altered->result, slot, altered->estate, only_summarizing);

	for (int i = 0; unchecked != NIL && i < altered->result->ri_NumIndices; i++)
		if (list_member_oid(unchecked, RelationGetRelid(altered->result->ri_IndexRelationDescs[i])))
			check_entry_now(altered, i, slot);
	list_free(unchecked);
	ResetPerTupleExprContext(altered->estate);
}
