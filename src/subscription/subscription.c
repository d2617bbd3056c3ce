/*
 * subscription.c
 *		Subscriptions: their definitions.
 *
 * A subscription is a row of eventstore.subscriptions, and one row of
 * eventstore.subscription_partitions for each of its partitions.  A stream
 * belongs to the partition that its name hashes to, by a hash that is the same
 * on every platform, so its events stay in order and dumps travel.
 *
 * Locks, in order: eventstore.subscriptions in SHARE ROW EXCLUSIVE mode, by
 * whoever makes, changes or drops subscriptions; partitions, by whoever writes their rows
 * (partition.c), ascending by who waits for all; eventstore.subscription_members in
 * SHARE ROW EXCLUSIVE mode, by whoever drops one (member.c).
 *
 * Definitions are kept by session.  A relcache invalidation of
 * eventstore.subscriptions makes all of them forget: this session at once, others
 * at commit.  Who has one pins it (base/pin.h), since he may run users' code, an upcaster,
 * that makes others and asks for them.
 *
 * Who changes a definition has the locks of all partitions, and others hear of it before
 * these are free.  So who has locked a partition, and looks whether there were changes,
 * has the definition that holds to the end of his transaction.  A rewind is announced in
 * the same way: it brings events back that a poll, without any lock, has passed already.
 *
 * What a subscription delivers, and what tells of it, is for who may read all of its
 * categories; that is asked at each call, of whoever calls.  Changes are for who has made
 * it, and for an 'admin' of its categories.
 */
#include "subscription/subscription.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
#include "base/objects.h"
#include "base/pin.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "shared/wake.h"
#include "table/rows.h"
#include "table/sequence.h"

#define Anum_subscriptions_id			1
#define Anum_subscriptions_partitions	2
#define Anum_subscriptions_max_attempts	3
#define Anum_subscriptions_created_at	4
#define Anum_subscriptions_name			5
#define Anum_subscriptions_categories	6
#define Anum_subscriptions_types		7
#define Anum_subscriptions_query		8
#define Anum_subscriptions_system_id	9
#define Anum_subscriptions_creator_oid	10
#define Anum_subscriptions_creator		11
#define Natts_subscriptions				11

typedef struct KnownSubscription
{
	const text *name;			/* hash key */
	EsSubscription subscription;
} KnownSubscription;

static EsRelation subscriptions = {"subscriptions"};
static EsRelation subscriptions_by_name = {"subscriptions_by_name",
.index = {.keys = {Anum_subscriptions_name},.columns = "name",.unique = true}};

static const EsColumn subscription_columns[Natts_subscriptions] = {
	{"subscription_id", INT8OID}, {"partitions", INT4OID}, {"max_attempts", INT4OID, true},
	{"created_at", TIMESTAMPTZOID}, {"name", TEXTOID}, {"categories", TEXTARRAYOID, true}, {"types", TEXTARRAYOID, true},
	{"query", JSONBOID, true}, {"system_id", INT8OID}, {"creator_oid", OIDOID}, {"creator", TEXTOID}
};

/* Makes the column application of a new row: the session's application_name. */
static Datum
make_application(bool *isnull)
{
	*isnull = application_name == NULL || *application_name == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(application_name);
}

static const EsLaterColumn later_columns[] = {{"application", TEXTOID, make_application}, {NULL}};
const EsShape es_subscription_shape = {.table = &subscriptions,.key = &subscriptions_by_name,
.ncolumns = Natts_subscriptions,.columns = subscription_columns,.later = later_columns};

PG_FUNCTION_INFO_V1(es_subscription_forget);

/* The definitions that were asked for. */
typedef struct KnownSubscriptions
{
	EsPinned	pinned;
	HTAB	   *by_name;		/* KnownSubscription */
	uint64		changes;		/* of the table, by then */
} KnownSubscriptions;

static KnownSubscriptions *known = NULL;

/* ---- arguments ---- */

/*
 * es_subscription_name_arg fetches the argument that names a subscription, checked; 42501
 * for who may do nothing, and need not learn which names there are.
 */
text *
es_subscription_name_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name = es_call_name_arg(fcinfo, argno, "subscription", ES_MAX_SUBSCRIPTION_NAME);

	es_right_require_any(ES_RIGHTS_ALL);
	return name;
}

/*
 * es_subscription_member_arg fetches the argument that names a member; NULL is the
 * member without a name.
 */
text *
es_subscription_member_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	if (PG_ARGISNULL(argno))
		return cstring_to_text("");
	name = PG_GETARG_TEXT_PP(argno);
	es_names_check_name(name, "member", ES_MAX_MEMBER_NAME);
	return name;
}

/*
 * es_subscription_after_arg fetches a position to begin after; NULL is where the
 * log is settled now.
 */
int64
es_subscription_after_arg(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		return es_settle_compute();
	return es_call_not_negative(PG_GETARG_INT64(argno), "after_position");
}

/* ---- definitions ---- */

/* Makes a set that knows nothing yet, in a context of its own. */
static KnownSubscriptions *
make_known_subscriptions(uint64 changes)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore subscriptions",
												  ALLOCSET_SMALL_SIZES);
	KnownSubscriptions *set = MemoryContextAllocZero(context, sizeof(KnownSubscriptions));

	set->pinned.context = context;
	set->by_name = es_names_map("eventstore subscriptions", 16, sizeof(KnownSubscription), context);
	set->changes = changes;
	MemoryContextSetParent(context, TopMemoryContext);
	set->pinned.current = true;
	return set;
}

/* Gives what is known, or an empty set in the place of one that may not hold any more. */
static KnownSubscriptions *
get_known_subscriptions(void)
{
	uint64		now = es_base_changes_of(&subscriptions);

	if (known && known->changes != now)
	{
		es_pin_outdate(&known->pinned);
		known = NULL;
	}
	if (known == NULL)
		known = make_known_subscriptions(now);
	return known;
}

/* es_subscription_report_unknown raises VE004. */
void
es_subscription_report_unknown(const text *name)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_UNDEFINED_OBJECT),
			errmsg("subscription \"%s\" does not exist", text_to_cstring(name)));
}

/*
 * es_subscription_set_query has a subscription be of what a query asks for, which stays
 * the caller's and is read in the current memory context; NULL is all.  22023 for
 * what is no query, or asks for a last event.
 */
void
es_subscription_set_query(EsSubscription *subscription, Jsonb *query)
{
	subscription->query_given = query;
	subscription->query = query ? es_match_query_from_json(query) : NULL;
	es_match_query_check_followed(subscription->query);
}

/* es_subscription_take_query is the same for a query that is stored. */
void
es_subscription_take_query(EsSubscription *subscription, Jsonb *query)
{
	subscription->query_given = query;
	subscription->query = query ? es_match_query_of_stored(query) : NULL;
	es_match_query_check_followed(subscription->query);
}

/* Fills in a definition from its row, in the current memory context. */
static void
take_subscription_definition(EsSubscription *subscription, const Datum *values, const bool *isnull)
{
	subscription->id = DatumGetInt64(values[Anum_subscriptions_id - 1]);
	subscription->name = DatumGetTextPCopy(values[Anum_subscriptions_name - 1]);
	subscription->created_at = DatumGetTimestampTz(values[Anum_subscriptions_created_at - 1]);
	subscription->partitions = DatumGetInt32(values[Anum_subscriptions_partitions - 1]);
	subscription->max_attempts = isnull[Anum_subscriptions_max_attempts - 1] ? 0 :
		DatumGetInt32(values[Anum_subscriptions_max_attempts - 1]);
	subscription->categories = es_names_of_column(values[Anum_subscriptions_categories - 1],
												  isnull[Anum_subscriptions_categories - 1]);
	subscription->types = es_names_of_column(values[Anum_subscriptions_types - 1],
											 isnull[Anum_subscriptions_types - 1]);
	es_subscription_take_query(subscription, es_columns_jsonb(values, isnull, Anum_subscriptions_query));
	subscription->creator.system_id = DatumGetInt64(values[Anum_subscriptions_system_id - 1]);
	subscription->creator.oid = DatumGetObjectId(values[Anum_subscriptions_creator_oid - 1]);
	subscription->creator.name = TextDatumGetCString(values[Anum_subscriptions_creator - 1]);
	subscription->interest = ES_WAKE_ALL;
	if (!subscription->categories.set)
		return;
	subscription->interest = es_wake_object(ES_WAKE_SUBSCRIPTION, subscription->id);
	for (int i = 0; i < subscription->categories.count; i++)
	{
		const text *category = subscription->categories.names[i];

		CHECK_FOR_INTERRUPTS();
		subscription->interest |=
			es_wake_category(es_names_category_key(VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category)));
	}
}

/*
 * es_subscription_find reads a definition, in the current memory context; false if
 * there is none of that name.
 */
bool
es_subscription_find(EsSubscription *subscription, const text *name)
{
	EsRows		rows = {.shape = &es_subscription_shape,.mode = AccessShareLock};
	bool		found;

	rows.fresh = true;
	es_rows_equal(&rows, PointerGetDatum(name));
	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	if (found)
		take_subscription_definition(subscription, rows.values, rows.isnull);
	es_rows_end(&rows);
	return found;
}

/* Adds the definition of a subscription to a set that is pinned; NULL if there is none. */
static const EsSubscription *
add_known_subscription(KnownSubscriptions *set, const text *name)
{
	MemoryContext old = MemoryContextSwitchTo(set->pinned.context);
	EsSubscription subscription = {.changes = set->changes};
	KnownSubscription *entry = NULL;
	bool		found;

	/*
	 * what writes pending events first may have asked for the same one
	 * meanwhile
	 */
	if (es_subscription_find(&subscription, name))
	{
		entry = hash_search(set->by_name, &subscription.name, HASH_ENTER, &found);
		if (!found)
			entry->subscription = subscription;
	}
	MemoryContextSwitchTo(old);
	return entry ? &entry->subscription : NULL;
}

/*
 * es_subscription_look_up gives the definition of a subscription, which stays as it is until
 * the current memory context is reset or deleted; NULL if there is none.
 */
const EsSubscription *
es_subscription_look_up(const text *name)
{
	MemoryContextCallback *callback = es_pin_prepare(CurrentMemoryContext);
	KnownSubscriptions *set;
	KnownSubscription *entry;

	AcceptInvalidationMessages();
	set = get_known_subscriptions();
	es_pin_hold(&set->pinned, callback, CurrentMemoryContext);
	entry = hash_search(set->by_name, &name, HASH_FIND, NULL);
	return entry ? &entry->subscription : add_known_subscription(set, name);
}

/*
 * es_subscription_look_up_again is es_subscription_look_up for who has had it before; one of
 * the same name that was made since is another one.
 */
const EsSubscription *
es_subscription_look_up_again(const text *name, int64 id)
{
	const EsSubscription *subscription = es_subscription_look_up(name);

	return subscription && subscription->id == id ? subscription : NULL;
}

/* es_subscription_get is es_subscription_look_up for who needs it; VE004 if there is none. */
const EsSubscription *
es_subscription_get(const text *name)
{
	const EsSubscription *subscription = es_subscription_look_up(name);

	if (subscription == NULL)
		es_subscription_report_unknown(name);
	return subscription;
}

/*
 * es_subscription_get_again is es_subscription_get for who has had it before, by now
 * under the lock of a partition.
 */
const EsSubscription *
es_subscription_get_again(const text *name, int64 id)
{
	const EsSubscription *subscription = es_subscription_look_up_again(name, id);

	if (subscription == NULL)
		es_subscription_report_unknown(name);
	return subscription;
}

/* Takes the name of a subscription's row. */
static void
take_subscription_name(void *element, const EsRows *rows)
{
	*(text **) element = DatumGetTextPCopy(rows->values[Anum_subscriptions_name - 1]);
}

/* es_subscription_names gives the names of all subscriptions, and how many there are. */
text	  **
es_subscription_names(int *count)
{
	EsRows		rows = {.shape = &es_subscription_shape,.mode = AccessShareLock,.fresh = true};

	es_rows_begin(&rows);
	return es_rows_all(&rows, sizeof(text *), take_subscription_name, count);
}

/*
 * es_subscription_has_changed tells whether there may have been changes of definitions, or
 * rewinds, since one was read that knew of so many.  While a partition is locked there are
 * none of its subscription.
 */
bool
es_subscription_has_changed(uint64 changes)
{
	AcceptInvalidationMessages();
	return changes != es_base_changes_of(&subscriptions);
}

/* ---- rights ---- */

/*
 * es_subscription_require_read raises 42501 unless the current user may read all that a
 * subscription delivers: its categories, or, if it names none, '*'.
 */
void
es_subscription_require_read(const EsSubscription *subscription)
{
	es_right_require_all(ES_RIGHT_READ, &subscription->categories);
}

/*
 * es_subscription_require_manager raises 42501 unless the current user may change a
 * subscription: who has made it, or has 'admin' on its categories.
 */
void
es_subscription_require_manager(const EsSubscription *subscription)
{
	if (!es_role_is_user(&subscription->creator))
		es_right_require_all(ES_RIGHT_ADMIN, &subscription->categories);
}

/* es_subscription_is_of tells whether a subscription is of a stream's category. */
bool
es_subscription_is_of(const EsSubscription *subscription, const text *stream)
{
	const char *name = VARDATA_ANY(stream);

	return !subscription->categories.set ||
		es_names_have(&subscription->categories, name, es_names_category_length(name, VARSIZE_ANY_EXHDR(stream)));
}

/*
 * es_subscription_passes tells whether an event is what a subscription wants.  May leave
 * something in the current memory context.
 */
bool
es_subscription_passes(const EsSubscription *subscription, const EsEvent *event)
{
	return es_names_pass(&subscription->categories, &subscription->types, event) &&
		(subscription->query == NULL || es_match_query(subscription->query, event));
}

/*
 * es_subscription_filter gives the filter for what a subscription wants between
 * two positions, the second of which the log is taken to be settled up to.
 */
EsLogFilter
es_subscription_filter(const EsSubscription *subscription, int64 after, int64 upto)
{
	EsLogFilter filter = {.after = after,.upto = upto,.settled = upto,.max_count = 1};

	filter.categories = subscription->categories;
	filter.types = subscription->types;
	filter.query = subscription->query;
	return filter;
}

/* es_subscription_partition_of tells which partition a stream belongs to, from 0 on. */
int
es_subscription_partition_of(const EsSubscription *subscription, const text *stream)
{
	if (subscription->partitions == 1)
		return 0;
	return murmurhash32((uint32) es_names_category_key(VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream))) %
		subscription->partitions;
}

/*
 * es_subscription_begin_delivery is es_call_begin_rows for rows of es_delivery;
 * 55000 if it has not the attributes that it was made with.
 */
ReturnSetInfo *
es_subscription_begin_delivery(FunctionCallInfo fcinfo)
{
	Oid			types[Natts_es_event + 2];
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);

	memcpy(types, es_event_types, sizeof(es_event_types));
	types[Natts_es_event] = types[Natts_es_event + 1] = INT4OID;	/* partition, attempt */
	es_event_check_type(result->setDesc, types, lengthof(types));
	return result;
}

/* ---- changes of definitions ---- */

/*
 * es_subscription_begin_change begins a change of eventstore.subscriptions; waits
 * for other changes' transactions.
 */
void
es_subscription_begin_change(const char *command)
{
	es_subscriber_begin_change(&subscriptions, command);
}

/* es_subscription_announce makes a change known, to this command's rest and, at commit, to all. */
void
es_subscription_announce(void)
{
	es_base_announce(&subscriptions);
	CommandCounterIncrement();
}

/* Makes the columns of a row. */
static void
make_subscription_row(const EsSubscription *subscription, Datum *values, bool *isnull)
{
	memset(isnull, false, sizeof(bool) * Natts_subscriptions);
	values[Anum_subscriptions_id - 1] = Int64GetDatum(subscription->id);
	values[Anum_subscriptions_partitions - 1] = Int32GetDatum(subscription->partitions);
	values[Anum_subscriptions_max_attempts - 1] = Int32GetDatum(subscription->max_attempts);
	isnull[Anum_subscriptions_max_attempts - 1] = subscription->max_attempts == 0;
	values[Anum_subscriptions_created_at - 1] = TimestampTzGetDatum(subscription->created_at);
	values[Anum_subscriptions_name - 1] = PointerGetDatum(subscription->name);
	es_columns_put_names(values, isnull, Anum_subscriptions_categories, &subscription->categories);
	es_columns_put_names(values, isnull, Anum_subscriptions_types, &subscription->types);
	es_columns_put(values, isnull, Anum_subscriptions_query, subscription->query_given);
	values[Anum_subscriptions_system_id - 1] = Int64GetDatum(subscription->creator.system_id);
	values[Anum_subscriptions_creator_oid - 1] = ObjectIdGetDatum(subscription->creator.oid);
	values[Anum_subscriptions_creator - 1] = CStringGetTextDatum(subscription->creator.name);
}

/* es_subscription_insert puts in the row of a new subscription, and gives it its id. */
void
es_subscription_insert(EsSubscription *subscription)
{
	Datum		values[Natts_subscriptions];
	bool		isnull[Natts_subscriptions];

	subscription->id = es_sequence_take(&es_base_subscription_id_seq, 1);
	subscription->created_at = GetCurrentTimestamp();
	subscription->creator = es_role_current();
	make_subscription_row(subscription, values, isnull);
	es_rows_insert(&es_subscription_shape, values, isnull);
}

/* es_subscription_update writes the row of a subscription that was read within the change. */
void
es_subscription_update(const EsSubscription *subscription)
{
	Datum		values[Natts_subscriptions];
	bool		isnull[Natts_subscriptions];

	make_subscription_row(subscription, values, isnull);
	es_rows_replace(&es_subscription_shape, values, isnull);
}

/* es_subscription_delete takes away the row of a subscription. */
void
es_subscription_delete(const text *name)
{
	Datum		key = PointerGetDatum(name);

	(void) es_rows_take_away(&es_subscription_shape, &key, 1);
}

/*
 * eventstore.forget_subscriptions() is the row trigger for rows that a subscription of
 * the server's changes.
 */
Datum
es_subscription_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&subscriptions);
	PG_RETURN_POINTER(NULL);
}
