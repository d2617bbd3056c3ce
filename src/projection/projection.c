/*
 * projection.c
 *		Projections: which read models are kept up to date.
 *
 * A projection is a row of eventstore.projections.  Rows name their functions
 * and the role that made them; names survive dumps and upgrades, OIDs do not.
 * So a function or role may turn out to be gone when it is needed.
 *
 * Definitions are kept by session, all of them in one set.  A relcache
 * invalidation of eventstore.projections makes sessions read them anew: this one
 * at once, others at commit.  Who uses one while users' code runs pins the set:
 * that code may well change projections.  The pin is tied to a memory context and
 * so does not outlive an error.
 *
 * Locks, in order: eventstore.projections in SHARE ROW EXCLUSIVE mode, by whoever
 * makes or drops projections; a projection, an object lock of class
 * eventstore.projections, by whoever moves its checkpoint; the exclusion of
 * appends (stream/lock.c), by whoever makes or drops an inline projection or lets
 * one go over to another generation.  All are kept to the end of the transaction.
 * Because of the last, an appender that has begun knows the inline projections
 * that there are until it ends.
 */
#include "projection/projection.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "rights/right.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "base/settings.h"
#include "log/subscriber.h"
#include "segment/statemirror.h"
#include "shared/nudge.h"
#include "table/rows.h"
#include "table/sequence.h"

#define Anum_projections_id				1
#define Anum_projections_created_at		2
#define Anum_projections_name			3
#define Anum_projections_mode			4
#define Anum_projections_reducer		5
#define Anum_projections_key			6
#define Anum_projections_handler		7
#define Anum_projections_reset			8
#define Anum_projections_categories		9
#define Anum_projections_types			10
#define Anum_projections_creator		11
#define Natts_projections				11

static EsRelation projections_table = {"projections"};
static EsRelation projections_by_id = {"projections_by_id",
.index = {.keys = {Anum_projections_id},.columns = "projection_id",.unique = true}};

static const EsColumn columns[Natts_projections] = {
	{"projection_id", INT8OID}, {"created_at", TIMESTAMPTZOID}, {"name", TEXTOID}, {"mode", TEXTOID},
	{"reducer", TEXTOID, true}, {"key", TEXTOID, true}, {"handler", TEXTOID, true}, {"reset", TEXTOID, true},
	{"categories", TEXTARRAYOID, true}, {"types", TEXTARRAYOID, true}, {"creator", TEXTOID}
};
const EsShape es_projection_table_shape = ES_SHAPE(&projections_table, &projections_by_id, columns);

static EsProjectionSet *known = NULL;
static uint64 known_changes;	/* of the table, by then */
static bool has_work = false;	/* this transaction makes some for the worker */

PG_FUNCTION_INFO_V1(es_projection_forget);

/* ---- the set of all ---- */

/* Lets the worker know, once there is something new for it to do. */
static void
nudge_worker_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && has_work)
		es_nudge_worker();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		has_work = false;
}

/* Registers the callback; called once, from _PG_init. */
void
es_projection_init(void)
{
	RegisterXactCallback(nudge_worker_at_xact_end, NULL);
}

/* Fills in a definition from its row, in the current memory context. */
static void
take_projection_definition(void *element, const EsRows *rows)
{
	EsProjection *projection = element;
	const Datum *v = rows->values;
	const bool *n = rows->isnull;

	projection->id = DatumGetInt64(v[Anum_projections_id - 1]);
	projection->name = es_columns_text(v, n, Anum_projections_name);
	projection->is_inline = strcmp(es_columns_string(v, n, Anum_projections_mode), "inline") == 0;
	projection->reducer = es_columns_text(v, n, Anum_projections_reducer);
	projection->key = es_columns_text(v, n, Anum_projections_key);
	projection->handler = es_columns_string(v, n, Anum_projections_handler);
	projection->reset = es_columns_string(v, n, Anum_projections_reset);
	projection->categories = es_names_of_column(v[Anum_projections_categories - 1], n[Anum_projections_categories - 1]);
	projection->types = es_names_of_column(v[Anum_projections_types - 1], n[Anum_projections_types - 1]);
	projection->creator = es_columns_string(v, n, Anum_projections_creator);
	if (projection->key)
	{
		projection->key_map = es_keymap_compile(unconstify(text *, projection->key));
		projection->types = projection->key_map->wanted;
	}
	projection->memo = palloc0(sizeof(EsProjectionMemo));
	projection->memo->context = CurrentMemoryContext;
}

/* Orders projections by id. */
static int
compare_projections(const void *a, const void *b)
{
	int64		x = ((const EsProjection *) a)->id;
	int64		y = ((const EsProjection *) b)->id;

	return x < y ? -1 : x > y;
}

/* Reads all definitions into the current memory context. */
static void
read_projection_definitions(EsProjectionSet *set)
{
	EsRows		rows = {.shape = &es_projection_table_shape,.mode = AccessShareLock};

	es_rows_begin(&rows);
	set->projections = es_rows_all(&rows, sizeof(EsProjection), take_projection_definition, &set->count);
	for (int i = 0; i < set->count; i++)
		set->any_inline = set->any_inline || set->projections[i].is_inline;
	qsort(set->projections, set->count, sizeof(EsProjection), compare_projections);
}

/* Reads the set of all projections, in a context of its own. */
static EsProjectionSet *
read_projection_set(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore projections",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EsProjectionSet *set = palloc0(sizeof(EsProjectionSet));

	set->pinned.context = context;
	read_projection_definitions(set);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	return set;
}

/* Gives the set as it is now. */
static EsProjectionSet *
get_projection_set(void)
{
	if (likely(known && known_changes == es_base_changes_of(&projections_table)))
		return known;
	if (known)
	{
		es_pin_outdate(&known->pinned);
		known = NULL;
	}
	do
	{
		/* the reading may take in invalidations, too */
		EsProjectionSet *set;

		known_changes = es_base_changes_of(&projections_table);
		set = read_projection_set();
		if (known_changes != es_base_changes_of(&projections_table))
			MemoryContextDelete(set->pinned.context);
		else
			known = set;
	} while (known == NULL);
	known->pinned.current = true;
	return known;
}

/* es_projection_any_inline tells whether appends have something to do for projections. */
bool
es_projection_any_inline(void)
{
	return get_projection_set()->any_inline;
}

/*
 * es_projection_pin gives all projections as they are now, and keeps them so
 * until the memory context of their holder is reset or deleted.
 */
const EsProjectionSet *
es_projection_pin(MemoryContext holder)
{
	MemoryContextCallback *callback = es_pin_prepare(holder);
	EsProjectionSet *set;

	AcceptInvalidationMessages();
	set = get_projection_set();
	es_pin_hold(&set->pinned, callback, holder);
	return set;
}

/* es_projection_find finds a projection by its name; NULL if there is none. */
const EsProjection *
es_projection_find(const EsProjectionSet *set, const text *name)
{
	for (int i = 0; i < set->count; i++)
		if (es_names_same(set->projections[i].name, name))
			return &set->projections[i];
	return NULL;
}

/* es_projection_find_by_id finds a projection by its id; NULL if there is none. */
const EsProjection *
es_projection_find_by_id(const EsProjectionSet *set, int64 id)
{
	EsProjection key = {.id = id};

	return bsearch(&key, set->projections, set->count, sizeof(EsProjection), compare_projections);
}

/*
 * es_projection_name_arg fetches the argument that names a projection, checked; 42501 for
 * who may do nothing, and need not learn which names there are.
 */
text *
es_projection_name_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name = es_call_name_arg(fcinfo, argno, "projection", ES_MAX_PROJECTION_NAME);

	es_right_require_any(ES_RIGHTS_ALL);
	return name;
}

/*
 * es_projection_get gives a projection, which stays as it is as long as the
 * current memory context; raises VE004 if there is none of that name.
 */
const EsProjection *
es_projection_get(const text *name)
{
	const EsProjection *projection = es_projection_find(es_projection_pin(CurrentMemoryContext), name);

	if (projection == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("projection \"%s\" does not exist", text_to_cstring(name)));
	return projection;
}

/*
 * es_projection_require raises 42501 unless the current user has one of some rights in all
 * categories that a projection is made of, on '*' if it names none.
 */
void
es_projection_require(const EsProjection *projection, int rights)
{
	es_right_require_all(rights, &projection->categories);
}

/* es_projection_memo gives what is kept beside a projection, for as long as its set is pinned. */
EsProjectionMemo *
es_projection_memo(const EsProjection *projection)
{
	return projection->memo;
}

/* es_projection_wants tells whether an event is of the categories and types of a projection. */
bool
es_projection_wants(const EsProjection *projection, const EsEvent *event)
{
	return es_names_pass(&projection->categories, &projection->types, event);
}

/* ---- functions and roles ---- */

/* es_projection_shape tells what a handler, or a reset function, must look like. */
EsSignature
es_projection_shape(bool takes_event)
{
	EsSignature shape = {.nargs = takes_event ? 1 : 0,.args = {es_base_event_type()}};

	return shape;
}

/* Finds a function by its qualified name and arguments; VE004 if it is gone. */
static Oid
find_projection_function(const EsProjection *projection, const char *name, bool takes_event)
{
	EsSignature shape = es_projection_shape(takes_event);
	EsOwnerContext caller;
	Oid			function;

	/* names are resolved as the owner, as those of reducers' handlers are */
	es_owner_enter(&caller);
	function = LookupFuncName(textToQualifiedNameList(cstring_to_text(name)), shape.nargs, shape.args, true);
	es_owner_leave(&caller);
	if (!OidIsValid(function) || !es_handler_fits(function, &shape))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("function %s(%s) of projection \"%s\" no longer exists",
					   name, takes_event ? "es_event" : "", text_to_cstring(projection->name)),
				errhint("Create the function again, or drop the projection with es_drop_projection."));
	return function;
}

/* es_projection_handler finds the handler; VE004 if it is gone. */
Oid
es_projection_handler(const EsProjection *projection)
{
	return find_projection_function(projection, projection->handler, true);
}

/*
 * es_projection_reset finds the function that empties what the handler writes;
 * VE004 if it is gone.
 */
Oid
es_projection_reset(const EsProjection *projection)
{
	return find_projection_function(projection, projection->reset, false);
}

/* Raises 55000 if a projection is running in this session: its own code must not change it. */
static void
refuse_if_running(const EsProjection *projection)
{
	if (es_handler_runs_projection(projection->id))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot run or change projection \"%s\" from a function that it calls",
					   text_to_cstring(projection->name)));
}

/* es_projection_become_caller undoes es_projection_become_creator. */
void
es_projection_become_caller(const EsOwnerContext *saved)
{
	es_owner_leave(saved);
	es_handler_leave_behalf();
}

/*
 * es_projection_become_creator makes a projection's creator the current user,
 * with the server's own settings, for the code of users, and the projection one that
 * is running; es_projection_become_caller undoes it, and so does an error.  Where that
 * role could not act as the session's user by itself, it must not leave anything behind
 * that would run as such, like a deferred trigger.
 */
void
es_projection_become_creator(const EsProjection *projection, EsOwnerContext *saved)
{
	Oid			creator = get_role_oid(projection->creator, true);
	int			restrict_to = SECURITY_LOCAL_USERID_CHANGE;

	if (!OidIsValid(creator))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("role \"%s\", which created projection \"%s\", no longer exists",
					   projection->creator, text_to_cstring(projection->name)),
				errhint("Drop the projection with es_drop_projection, and create it again."));
	es_handler_enter_behalf(projection->id);
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	if (!es_may_become(creator, saved->user) || !es_may_become(creator, GetSessionUserId()))
		restrict_to |= SECURITY_RESTRICTED_OPERATION;
	SetUserIdAndSecContext(creator, saved->sec_context | restrict_to);
	saved->guc_level = es_settings_enter();
}

/* ---- locks and changes ---- */

/*
 * es_projection_try_keep keeps the store from being dropped while this transaction
 * runs; false if somebody is about to drop it, or has.
 */
bool
es_projection_try_keep(void)
{
	return es_base_try_lock(&projections_table, AccessShareLock);
}

/*
 * es_projection_lock takes the lock on a projection, to the end of the
 * transaction; false if it is not free and the caller does not want to wait.
 */
bool
es_projection_lock(int64 id, bool wait)
{
	return es_base_lock_row(&projections_table, (uint32) id, 1, wait);
}

/*
 * es_projection_lock_states takes, to the end of the transaction, the lock that keeps the keys
 * which states of an inline projection are sealed under: shared by who appends, alone for who
 * shreds.
 */
void
es_projection_lock_states(int64 id, bool alone)
{
	LOCKTAG		tag = es_base_tag(&projections_table, (uint32) id, 2);

	(void) LockAcquire(&tag, alone ? ExclusiveLock : ShareLock, false, false);
}

/* es_projection_is_locked tells whether somebody else has the lock on a projection. */
bool
es_projection_is_locked(int64 id)
{
	return es_base_is_row_locked(&projections_table, (uint32) id, 1);
}

/* Gives a projection for somebody who wants to run or change it, which takes 'admin'. */
static const EsProjection *
get_for_admin(const text *name)
{
	const EsProjection *projection = es_projection_get(name);

	es_projection_require(projection, ES_RIGHT_ADMIN);
	return projection;
}

/*
 * es_projection_get_locked is es_projection_get with the projection's lock, which it
 * waits for; 42501 without 'admin' on what it is made of, 55000 if the projection itself
 * calls.
 */
const EsProjection *
es_projection_get_locked(const text *name)
{
	const EsProjection *projection = get_for_admin(name);
	int64		id;

	refuse_if_running(projection);
	do
	{
		id = projection->id;
		(void) es_projection_lock(id, true);
		projection = get_for_admin(name);	/* another one by now? */
	} while (projection->id != id);
	return projection;
}

/*
 * es_projection_begin_change begins a change of projections; waits for other
 * changes' transactions.
 */
void
es_projection_begin_change(const char *command)
{
	es_subscriber_begin_change(&projections_table, command);
}

/*
 * es_projection_keep_defined keeps changes of projections off to the end of the
 * transaction, but for those that replication brings.
 */
void
es_projection_keep_defined(void)
{
	es_base_lock(&projections_table, ShareUpdateExclusiveLock);
}

/* es_projection_insert adds a projection, which gets its id, within a change of them. */
void
es_projection_insert(EsProjection *projection)
{
	Datum		v[Natts_projections];
	bool		n[Natts_projections] = {false};

	projection->id = es_sequence_take(&es_base_projection_id_seq, 1);
	v[Anum_projections_id - 1] = Int64GetDatum(projection->id);
	v[Anum_projections_created_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	es_columns_put(v, n, Anum_projections_name, projection->name);
	es_columns_put_string(v, n, Anum_projections_mode, projection->is_inline ? "inline" : "async");
	es_columns_put(v, n, Anum_projections_reducer, projection->reducer);
	es_columns_put(v, n, Anum_projections_key, projection->key);
	es_columns_put_string(v, n, Anum_projections_handler, projection->handler);
	es_columns_put_string(v, n, Anum_projections_reset, projection->reset);
	es_columns_put_names(v, n, Anum_projections_categories, &projection->categories);
	es_columns_put_names(v, n, Anum_projections_types, &projection->types);
	es_columns_put_string(v, n, Anum_projections_creator, projection->creator);
	es_rows_insert(&es_projection_table_shape, v, n);
}

/* es_projection_delete takes the row of a projection away, within a change of them. */
void
es_projection_delete(const EsProjection *projection)
{
	Datum		key = Int64GetDatum(projection->id);

	(void) es_rows_take_away(&es_projection_table_shape, &key, 1);
}

/*
 * es_projection_announce makes a change known, to this command's rest and, at
 * commit, to all; and to the worker, if there is something for it to do.
 */
void
es_projection_announce(bool work)
{
	es_base_announce(&projections_table);
	CommandCounterIncrement();
	has_work = has_work || work;
}

/*
 * eventstore.forget_projections() is the row trigger for rows that others insert and
 * delete: a restore, a subscription.  The table of the projection's states is made,
 * or dropped.
 */
Datum
es_projection_forget(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		has_handler;
	bool		isnull;
	int64		id;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo) &&
							RelationGetRelid(trigger->tg_relation) == es_base_oid(&projections_table), "forget_projections");
	es_columns_check(trigger->tg_relation, columns, lengthof(columns));
	id = DatumGetInt64(heap_getattr(trigger->tg_trigtuple, Anum_projections_id,
									RelationGetDescr(trigger->tg_relation), &isnull));
	(void) heap_getattr(trigger->tg_trigtuple, Anum_projections_reducer,
						RelationGetDescr(trigger->tg_relation), &has_handler);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		es_statemirror_forget(id);
	else if (!has_handler)
		es_statemirror_follow(id);
	es_base_announce(&projections_table);
	has_work = true;
	return PointerGetDatum(NULL);
}
