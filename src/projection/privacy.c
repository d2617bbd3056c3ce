/*
 * privacy.c
 *		What protected data mean for projections.
 *
 * What is in indexes is stored plain, so it may not be taken from a protected field (for keys
 * see protect.c).  A state that is encrypted as a whole (fold/secrecy.c) is under a key
 * for each subject whose data went in, and there is a limit to these.  An asynchronous
 * projection stops at it.  An inline one would refuse appends from then on; so where its
 * states are of that kind it must fold by stream, or by the subject.  All this is asked when
 * a projection or an index is made, when its reducer is changed, and when more is protected.
 *
 * When subjects are shredded, states that are under their keys are lost.  Projections that
 * have such states are begun anew, in the transaction that shreds.
 *
 * An append in flight may seal a state of an inline projection under a key that is shredded
 * meanwhile, when its projections have been looked through.  So appends with protected events
 * share a lock on each such projection, which es_shred() takes alone: a state is there to be
 * seen, or is made of the nulls that a rebuild would make it of.
 *
 * Locks: es_shred() first keeps changes of projections off, and takes the locks of those
 * whose states may be lost, in order of their ids; then those on states of inline ones, in the
 * same order; then the keys' table.  An append takes its share before it makes a key.
 */
#include "projection/privacy.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "base/names.h"
#include "fold/define.h"
#include "fold/secrecy.h"
#include "json/node.h"
#include "json/scope.h"
#include "json/taint.h"
#include "json/value.h"
#include "projection/apply.h"
#include "projection/keymap.h"
#include "projection/rebuild.h"
#include "secret/bundle.h"
#include "secret/coverage.h"
#include "secret/dependent.h"
#include "secret/protection.h"
#include "segment/statetable.h"
#include "shared/headway.h"

#define MOST_STEPS	64			/* of a path in an index */

/* ---- keys of inline projections ---- */

/* Tells whether a path is that of the stream, or the subject that a category's events have now. */
static bool
is_key_of_one_subject(const EsValue *path, const text *category)
{
	const EsProtected *protected = es_protection_of_category(category);
	const EsProtection *now = protected ? es_protection_now(protected) : NULL;
	const EsValue *subject = now ? now->subject_value : NULL;

	if (path == NULL || path->kind != ES_VALUE_STEPS)
		return path == NULL;
	if (path->root == ES_ROOT_STREAM && path->nsteps == 1)
		return true;
	if (subject == NULL || subject->kind != ES_VALUE_STEPS || subject->nsteps != path->nsteps)
		return subject == NULL;
	for (int i = 0; i < path->nsteps; i++)
		if (path->steps[i].len != subject->steps[i].len ||
			memcmp(path->steps[i].bytes, subject->steps[i].bytes, path->steps[i].len) != 0)
			return false;
	return true;
}

/* Raises 55000 if states of an inline projection would come to be of too many subjects. */
static void
check_inline_key(const EsProjection *projection, const text *category)
{
	const EsKeyMap *map = projection->key_map;
	bool		fits = is_key_of_one_subject(map->others, category);

	for (int i = 0; i < map->count && fits; i++)
		fits = is_key_of_one_subject(map->types[i].path, category);
	if (!fits)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("states of inline projection \"%s\" would be made of protected data of many subjects",
					   text_to_cstring(projection->name)),
				errdetail("Its reducer \"%s\" does more than copy protected fields of category \"%s\", so a state is encrypted under a key for each subject; there is a limit to these, and appends would fail at it.",
						  text_to_cstring(projection->reducer), text_to_cstring(category)),
				errhint("Fold by the subject or by $.stream, let the reducer copy protected fields only, or make the projection async."));
}

/* ---- indexes ---- */

/* The members that an expression goes through in column state; false if it is something else. */
static bool
take_member_path(Node *node, EsKey *steps, int *count)
{
	OpExpr	   *op = (OpExpr *) node;
	Const	   *key;

	if (node != NULL && IsA(node, Var))
	{
		*count = 0;
		return ((Var *) node)->varattno == Anum_es_states_state;
	}
	if (node == NULL || !IsA(node, OpExpr) || list_length(op->args) != 2 ||
		(op->opfuncid != F_JSONB_OBJECT_FIELD && op->opfuncid != F_JSONB_OBJECT_FIELD_TEXT))
		return false;
	key = lsecond(op->args);
	if (!IsA(key, Const) || key->constisnull || key->consttype != TEXTOID ||
		!take_member_path(linitial(op->args), steps, count) || *count == MOST_STEPS)
		return false;
	steps[(*count)++] = es_node_key(VARDATA_ANY(DatumGetTextPP(key->constvalue)),
									VARSIZE_ANY_EXHDR(DatumGetTextPP(key->constvalue)));
	return true;
}

/* Tells whether an expression over a state may have a protected field in its result. */
static bool
expression_takes_leaf(Node *node, void *leaves)
{
	EsKey		steps[MOST_STEPS];
	int			count;

	if (node == NULL)
		return false;
	if (take_member_path(node, steps, &count))
		return es_taint_meets(leaves, steps, count);
	if (IsA(node, Var))
		return ((Var *) node)->varattno == Anum_es_states_state_text || ((Var *) node)->varattno == 0;
	return expression_tree_walker(node, expression_takes_leaf, leaves);
}

/* Tells whether an expression over a row of states may have protected data in its result. */
static bool
expression_has_protected_data(const EsProjection *projection, Node *expression)
{
	EsLeaves	leaves = {0};

	if (expression == NULL || !es_apply_is_protected(projection))
		return false;
	/* where the reducer does more than copy, all of the state may be */
	if (!es_secrecy_follow(es_apply_reducer(projection), &projection->categories, &leaves))
		es_taint_take_whole(&leaves);
	return expression_takes_leaf(expression, &leaves);
}

/* Tells whether an index has. */
static bool
index_has_protected_data(const EsProjection *projection, Relation index)
{
	bool		has = expression_has_protected_data(projection, (Node *) RelationGetIndexExpressions(index)) ||
	expression_has_protected_data(projection, (Node *) RelationGetIndexPredicate(index));

	for (int i = 0; i < index->rd_index->indnatts && !has; i++)
	{
		AttrNumber	column = index->rd_index->indkey.values[i];

		has = (column == Anum_es_states_state || column == Anum_es_states_state_text) &&
			es_apply_is_protected(projection);
	}
	return has;
}

/*
 * es_privacy_check_index raises 22023 if what an index is made of, an expression over the
 * columns of a table of states, takes in what may be made of protected fields.
 */
void
es_privacy_check_index(const EsProjection *projection, Node *expression)
{
	if (expression_has_protected_data(projection, expression))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("index on projection \"%s\" would have protected data", text_to_cstring(projection->name)),
				errdetail("What is in an index is stored as it is."),
				errhint("Index members of the state that are not made of protected fields: ((state ->> 'status')) is an example."));
}

/* Raises 55000 if an index that is there has it. */
static void
check_existing_indexes(const EsProjection *projection)
{
	Oid			relid = es_statetable_relid(projection->id);
	Relation	table = OidIsValid(relid) ? table_open(relid, AccessShareLock) : NULL;
	ListCell   *cell;

	if (table == NULL)
		return;
	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index_has_protected_data(projection, index))
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("cannot protect fields that are in index \"%s\" on projection \"%s\"",
						   RelationGetRelationName(index), text_to_cstring(projection->name)),
					errdetail("What is in an index is stored as it is."),
					errhint("Drop the index with es_drop_projection_index."));
		index_close(index, AccessShareLock);
	}
	table_close(table, AccessShareLock);
}

/* ---- all of it ---- */

/* Raises 55000 if a projection cannot be over a category as that is protected. */
static void
check_category(const EsProjection *projection, const text *category)
{
	EsNames		names = es_names_of_one(unconstify(text *, category));

	if (projection->is_inline && es_secrecy_of(es_apply_reducer(projection), &names) == ES_SECRECY_SEALED)
		check_inline_key(projection, category);
}

/*
 * es_privacy_check raises 55000 if a projection that is to be made cannot be over what it is
 * over, as that is protected: appends would come to fail.
 */
void
es_privacy_check(const EsProjection *projection)
{
	ListCell   *cell;

	if (projection->reducer == NULL || !es_apply_is_protected(projection))
		return;
	foreach(cell, es_coverage_categories(&projection->categories))
	{
		CHECK_FOR_INTERRUPTS();
		check_category(projection, lfirst(cell));
	}
}

/* Tells whether a projection keeps states of a category. */
static bool
keeps_states_of(const EsProjection *projection, const text *category)
{
	return projection->reducer &&
		(!projection->categories.set ||
		 es_names_have(&projection->categories, VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category)));
}

/*
 * es_privacy_check_protect raises 55000 if a projection, or an index on one, is in the way of
 * what is protected of a category now, while projections are kept as they are.
 */
void
es_privacy_check_protect(const text *category)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);

	es_headway_enter(ES_PHASE_PROJECTIONS, set->count);
	for (int i = 0; i < set->count; i++)
	{
		const EsProjection *projection = &set->projections[i];

		CHECK_FOR_INTERRUPTS();
		es_headway_reach(i);
		if (!keeps_states_of(projection, category))
			continue;
		check_category(projection, category);
		check_existing_indexes(projection);
	}
}

/* Raises 55000 if inline projections cannot be by a reducer as it is now. */
static void
check_changed_reducer(const text *reducer)
{
	const EsProjectionSet *set;

	if (!es_protection_any())
		return;
	set = es_projection_pin(CurrentMemoryContext);
	for (int i = 0; i < set->count; i++)
		if (set->projections[i].reducer && es_names_same(set->projections[i].reducer, reducer))
			es_privacy_check(&set->projections[i]);
}

/* ---- shredding ---- */

/* Tells whether states of a projection may be encrypted as a whole. */
static bool
may_have_sealed_states(const EsProjection *projection)
{
	return projection->reducer && es_apply_is_protected(projection);
}

/*
 * es_privacy_keep_keys keeps keys of protected data that inline projections are made of from being
 * shredded, to the end of the transaction.  Waits for es_shred(), and takes in what that did.
 */
void
es_privacy_keep_keys(void)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);

	for (int i = 0; i < set->count; i++)
		if (set->projections[i].is_inline && may_have_sealed_states(&set->projections[i]))
			es_projection_lock_states(set->projections[i].id, false);
	AcceptInvalidationMessages();
}

/*
 * Keeps projections whose states may be lost from moving on: first all of them, then the
 * states of those that are inline.  A rebuild of one of them, which has its lock, waits for
 * appends in flight before it goes live, and these may wait for states that are locked here.
 */
static void
begin_shred(void)
{
	const EsProjectionSet *set;

	es_projection_keep_defined();
	set = es_projection_pin(CurrentMemoryContext);
	for (int i = 0; i < set->count; i++)
		if (may_have_sealed_states(&set->projections[i]))
			(void) es_projection_lock(set->projections[i].id, true);
	for (int i = 0; i < set->count; i++)
		if (set->projections[i].is_inline && may_have_sealed_states(&set->projections[i]))
			es_projection_lock_states(set->projections[i].id, true);
}

/*
 * Tells whether a projection has states under one of some keys, also those that appends in
 * flight have written.
 */
static bool
has_lost_states(const EsProjection *projection, const EsKeyring *keys)
{
	Oid			relid = es_statetable_relid(projection->id);
	Relation	table = OidIsValid(relid) ? table_open(relid, AccessShareLock) : NULL;
	SnapshotData dirty;
	TupleTableSlot *slot;
	TableScanDesc scan;
	bool		lost = false;

	if (table == NULL)
		return false;
	InitDirtySnapshot(dirty);
	slot = table_slot_create(table, NULL);
	scan = table_beginscan(table, &dirty, 0, NULL);
	while (!lost && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		sealed = slot_getattr(slot, Anum_es_states_sealed, &isnull);

		CHECK_FOR_INTERRUPTS();
		es_headway_add(1);
		lost = !isnull && es_bundle_is_under(DatumGetTextPP(sealed), keys);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, AccessShareLock);
	return lost;
}

/* Begins projections anew that have lost states. */
static void
end_shred(const EsKeyring *keys)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);

	es_headway_enter(ES_PHASE_STATES, -1);
	for (int i = 0; i < set->count; i++)
		if (may_have_sealed_states(&set->projections[i]) && has_lost_states(&set->projections[i], keys))
			es_rebuild_begin(&set->projections[i]);
}

/* Has projections told of what is shredded; called once, from _PG_init. */
void
es_privacy_init(void)
{
	es_define_change_hook = check_changed_reducer;
	es_dependent_hooks.begin_shred = begin_shred;
	es_dependent_hooks.end_shred = end_shred;
}
