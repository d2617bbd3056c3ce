/*
 * subscription.c
 *		Subscriptions: definitions, and how far their partitions are.
 *
 * A subscription is a row of eventstore.subscriptions, and one row of
 * eventstore.subscription_partitions for each of its partitions.  A stream
 * belongs to the partition that its name hashes to, by a hash that is the same
 * on every platform, so its events stay in order and dumps travel.
 *
 * Locks, in order: eventstore.subscriptions in SHARE ROW EXCLUSIVE mode, by
 * whoever makes or drops subscriptions; partitions, ascending, by whoever writes
 * their rows.  A partition's lock is an object lock of class
 * eventstore.subscription_partitions.  Both are kept to the end of the
 * transaction, so rows are read with a fresh snapshot under the lock, and what is
 * read is the newest.  Consumers that find a partition locked go on without it;
 * only those that must have it wait.
 *
 * Definitions are kept by session.  A relcache invalidation of
 * eventstore.subscriptions makes all of them forget: this session at once, others
 * at commit.
 */
#include "subscription/subscription.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
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
#define Natts_subscriptions				7

#define Anum_partitions_id				1
#define Anum_partitions_position		2
#define Anum_partitions_delivered_upto	3
#define Anum_partitions_scanned_upto	4
#define Anum_partitions_lapsed_upto		5
#define Anum_partitions_partition		6
#define Anum_partitions_delivered		7
#define Anum_partitions_lapses		8
#define Anum_partitions_pending		9
#define Anum_partitions_parked		10
#define Anum_partitions_retry_at		11
#define Anum_partitions_lease_until		12
#define Anum_partitions_member		13
#define Natts_partitions				13

typedef struct KnownSubscription
{
	const text *name;			/* hash key */
	EsSubscription subscription;
} KnownSubscription;

static EsRelation subscriptions = {"subscriptions"};
static EsRelation subscriptions_by_name = {"subscriptions_by_name",
.index = {.keys = {Anum_subscriptions_name},.columns = "name",.unique = true}};
static EsRelation subscription_id_seq = {"subscription_id_seq",.kind = RELKIND_SEQUENCE};
static EsRelation partitions_table = {"subscription_partitions"};
static EsRelation partitions_by_key = {"subscription_partitions_by_key",
.index = {.keys = {Anum_partitions_id, Anum_partitions_partition},.columns = "subscription_id, partition",.unique = true}};

EsRelation	es_subscription_members = {"subscription_members"};
static EsRelation members_by_key = {"subscription_members_by_key",
.index = {.keys = {1, 3},.columns = "subscription_id, member",.unique = true}};
static EsRelation failures_table = {"subscription_failures"};
static EsRelation failures_by_key = {"subscription_failures_by_key",
.index = {.keys = {1, 4, 2},.columns = "subscription_id, partition, position",.unique = true}};

static const EsColumn subscription_columns[Natts_subscriptions] = {
	{"subscription_id", INT8OID}, {"partitions", INT4OID}, {"max_attempts", INT4OID, true},
	{"created_at", TIMESTAMPTZOID}, {"name", TEXTOID}, {"categories", TEXTARRAYOID, true}, {"types", TEXTARRAYOID, true}
};
static const EsColumn partition_columns[Natts_partitions] = {
	{"subscription_id", INT8OID}, {"position", INT8OID}, {"delivered_upto", INT8OID}, {"scanned_upto", INT8OID},
	{"lapsed_upto", INT8OID}, {"partition", INT4OID}, {"delivered", INT4OID}, {"lapses", INT4OID},
	{"pending", INT4OID}, {"parked", INT4OID}, {"retry_at", TIMESTAMPTZOID, true},
	{"lease_until", TIMESTAMPTZOID, true}, {"member", TEXTOID, true}
};
static const EsColumn member_columns[] = {
	{"subscription_id", INT8OID}, {"alive_until", TIMESTAMPTZOID}, {"member", TEXTOID}
};
static const EsColumn failure_columns[] = {
	{"subscription_id", INT8OID}, {"position", INT8OID}, {"parked_at", TIMESTAMPTZOID, true},
	{"partition", INT4OID}, {"attempts", INT4OID}, {"delivered", BOOLOID}, {"reason", TEXTOID, true}
};
static const EsShape subscription_shape = ES_SHAPE(&subscriptions, &subscriptions_by_name, subscription_columns);
static const EsShape partition_shape = ES_SHAPE(&partitions_table, &partitions_by_key, partition_columns);
const EsShape es_subscription_member_shape = ES_SHAPE(&es_subscription_members, &members_by_key, member_columns);
const EsShape es_subscription_failure_shape = ES_SHAPE(&failures_table, &failures_by_key, failure_columns);

static HTAB *known = NULL;		/* in a context of its own */
static MemoryContext known_context = NULL;
static bool stale = false;		/* what is known may not hold any more */
static Oid	known_relation = InvalidOid;

PG_FUNCTION_INFO_V1(es_subscribe);
PG_FUNCTION_INFO_V1(es_unsubscribe);

/* ---- arguments ---- */

/* es_subscription_name_arg fetches the argument that names a subscription, checked. */
text *
es_subscription_name_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	es_base_require(fcinfo, argno, "subscription");
	name = PG_GETARG_TEXT_PP(argno);
	es_base_check_name(name, "subscription", ES_MAX_SUBSCRIPTION_NAME);
	return name;
}

/* es_subscription_member_arg fetches the argument that names a member; NULL is the member without a name. */
text *
es_subscription_member_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	if (PG_ARGISNULL(argno))
		return cstring_to_text("");
	name = PG_GETARG_TEXT_PP(argno);
	es_base_check_name(name, "member", ES_MAX_MEMBER_NAME);
	return name;
}

/* es_subscription_after_arg fetches a position to begin after; NULL is where the log is settled now. */
int64
es_subscription_after_arg(FunctionCallInfo fcinfo, int argno)
{
	int64		after;

	if (PG_ARGISNULL(argno))
		return es_settle_compute();
	after = PG_GETARG_INT64(argno);
	if (after < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("after_position must not be negative"));
	return after;
}

/* ---- definitions ---- */

/* Forgets definitions when a subscription changes, or anything may have. */
static void
forget_subscriptions(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == known_relation)
		stale = true;
}

/* Registers the invalidation callback; called once, from _PG_init. */
void
es_subscription_init(void)
{
	es_base_on_relation_change(forget_subscriptions);
}

/* Gives the table of what is known, emptied if it may not hold any more. */
static HTAB *
current_known(void)
{
	if (known && (stale || known_relation != es_base_oid(&subscriptions)))
	{
		MemoryContextDelete(known_context);
		known = NULL;
	}
	if (known == NULL)
	{
		known_context = AllocSetContextCreate(TopMemoryContext, "eventstore subscriptions",
											  ALLOCSET_SMALL_SIZES);
		known = es_base_name_map("eventstore subscriptions", 16, sizeof(KnownSubscription), known_context);
		known_relation = es_base_oid(&subscriptions);
		stale = false;
	}
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

/* Fills in a definition from its row, in the current memory context. */
static void
take_definition(EsSubscription *subscription, const Datum *values, const bool *isnull)
{
	subscription->id = DatumGetInt64(values[Anum_subscriptions_id - 1]);
	subscription->partitions = DatumGetInt32(values[Anum_subscriptions_partitions - 1]);
	subscription->max_attempts = isnull[Anum_subscriptions_max_attempts - 1] ? 0 :
		DatumGetInt32(values[Anum_subscriptions_max_attempts - 1]);
	subscription->categories = es_names_of_column(values[Anum_subscriptions_categories - 1],
												  isnull[Anum_subscriptions_categories - 1]);
	subscription->types = es_names_of_column(values[Anum_subscriptions_types - 1],
											 isnull[Anum_subscriptions_types - 1]);
	subscription->interest = ES_WAKE_ALL;
	if (!subscription->categories.set)
		return;
	subscription->interest = es_wake_subscription(subscription->id);
	for (int i = 0; i < subscription->categories.count; i++)
	{
		const text *category = subscription->categories.names[i];

		CHECK_FOR_INTERRUPTS();
		subscription->interest |=
			es_wake_category(es_base_category_key(VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category)));
	}
}

/* Reads a definition, in the current memory context; false if there is none of that name. */
static bool
read_definition(EsSubscription *subscription, const text *name)
{
	EsRows		rows = {.shape = &subscription_shape,.mode = AccessShareLock};
	bool		found;

	rows.fresh = true;
	es_rows_equal(&rows, PointerGetDatum(name));
	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	if (found)
		take_definition(subscription, rows.values, rows.isnull);
	es_rows_end(&rows);
	return found;
}

/* es_subscription_get gives the definition of a subscription; raises VE004 if there is none. */
const EsSubscription *
es_subscription_get(const text *name)
{
	KnownSubscription *entry;
	EsSubscription subscription;
	MemoryContext old;

	AcceptInvalidationMessages();
	entry = hash_search(current_known(), &name, HASH_FIND, NULL);
	if (entry)
		return &entry->subscription;
	old = MemoryContextSwitchTo(known_context);
	if (!read_definition(&subscription, name))
	{
		MemoryContextSwitchTo(old);
		es_subscription_report_unknown(name);
	}
	name = memcpy(palloc(VARSIZE_ANY(name)), name, VARSIZE_ANY(name));
	entry = hash_search(known, &name, HASH_ENTER, NULL);
	entry->subscription = subscription;
	MemoryContextSwitchTo(old);
	return &entry->subscription;
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
	return filter;
}

/* es_subscription_partition_of tells which partition a stream belongs to, from 0 on. */
int
es_subscription_partition_of(const EsSubscription *subscription, const text *stream)
{
	if (subscription->partitions == 1)
		return 0;
	return murmurhash32((uint32) es_base_category_key(VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream))) %
		subscription->partitions;
}

/* ---- partitions ---- */

/*
 * es_subscription_lock takes the lock on a partition, to the end of the
 * transaction; false if it is not free and the caller does not want to wait.
 */
bool
es_subscription_lock(int64 id, int partition, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, es_base_oid(&partitions_table), (uint32) id, partition + 1);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* A time in a row, NULL for none. */
static TimestampTz
time_column(Datum value, bool isnull)
{
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* Takes a row, in the current memory context. */
static void
take_partition(EsPartition *row, const Datum *v, const bool *n)
{
	row->subscription_id = DatumGetInt64(v[Anum_partitions_id - 1]);
	row->position = DatumGetInt64(v[Anum_partitions_position - 1]);
	row->delivered_upto = DatumGetInt64(v[Anum_partitions_delivered_upto - 1]);
	row->scanned_upto = DatumGetInt64(v[Anum_partitions_scanned_upto - 1]);
	row->lapsed_upto = DatumGetInt64(v[Anum_partitions_lapsed_upto - 1]);
	row->partition = DatumGetInt32(v[Anum_partitions_partition - 1]);
	row->delivered = DatumGetInt32(v[Anum_partitions_delivered - 1]);
	row->lapses = DatumGetInt32(v[Anum_partitions_lapses - 1]);
	row->pending = DatumGetInt32(v[Anum_partitions_pending - 1]);
	row->parked = DatumGetInt32(v[Anum_partitions_parked - 1]);
	row->retry_at = time_column(v[Anum_partitions_retry_at - 1], n[Anum_partitions_retry_at - 1]);
	row->lease_until = time_column(v[Anum_partitions_lease_until - 1], n[Anum_partitions_lease_until - 1]);
	row->member = n[Anum_partitions_member - 1] ? NULL : DatumGetTextPCopy(v[Anum_partitions_member - 1]);
}

/* Reads the rows of a subscription, or of one partition (-1: all), at most so many, and tells how many there are. */
static int
read_rows(int64 id, int partition, EsPartition *rows, int most)
{
	EsRows		look = {.shape = &partition_shape,.mode = AccessShareLock};
	int			count = 0;

	look.fresh = true;
	es_rows_equal(&look, Int64GetDatum(id));
	if (partition >= 0)
		es_rows_equal(&look, Int32GetDatum(partition));
	es_rows_begin(&look);
	while (count < most && es_rows_next(&look))
		take_partition(&rows[count++], look.values, look.isnull);
	es_rows_end(&look);
	return count;
}

/* Compares two rows by the numbers of their partitions, for sorting. */
static int
compare_partitions(const void *a, const void *b)
{
	return ((const EsPartition *) a)->partition - ((const EsPartition *) b)->partition;
}

/* es_subscription_read_all reads the rows of all partitions, by number; NULL if the subscription is gone. */
EsPartition *
es_subscription_read_all(const EsSubscription *subscription)
{
	EsPartition *rows = palloc(sizeof(EsPartition) * subscription->partitions);

	if (read_rows(subscription->id, -1, rows, subscription->partitions) < subscription->partitions)
		return NULL;
	qsort(rows, subscription->partitions, sizeof(EsPartition), compare_partitions);
	return rows;
}

/* es_subscription_read reads the row of one partition; false if it is gone. */
bool
es_subscription_read(int64 id, int partition, EsPartition *row)
{
	return read_rows(id, partition, row, 1) == 1;
}

/* Makes the columns of a row. */
static void
make_row(const EsPartition *row, Datum *v, bool *n)
{
	memset(n, false, sizeof(bool) * Natts_partitions);
	v[Anum_partitions_id - 1] = Int64GetDatum(row->subscription_id);
	v[Anum_partitions_position - 1] = Int64GetDatum(row->position);
	v[Anum_partitions_delivered_upto - 1] = Int64GetDatum(row->delivered_upto);
	v[Anum_partitions_scanned_upto - 1] = Int64GetDatum(row->scanned_upto);
	v[Anum_partitions_lapsed_upto - 1] = Int64GetDatum(row->lapsed_upto);
	v[Anum_partitions_partition - 1] = Int32GetDatum(row->partition);
	v[Anum_partitions_delivered - 1] = Int32GetDatum(row->delivered);
	v[Anum_partitions_lapses - 1] = Int32GetDatum(row->lapses);
	v[Anum_partitions_pending - 1] = Int32GetDatum(row->pending);
	v[Anum_partitions_parked - 1] = Int32GetDatum(row->parked);
	v[Anum_partitions_retry_at - 1] = TimestampTzGetDatum(row->retry_at);
	n[Anum_partitions_retry_at - 1] = row->retry_at == DT_NOBEGIN;
	v[Anum_partitions_lease_until - 1] = TimestampTzGetDatum(row->lease_until);
	n[Anum_partitions_lease_until - 1] = row->lease_until == DT_NOBEGIN;
	v[Anum_partitions_member - 1] = PointerGetDatum(row->member);
	n[Anum_partitions_member - 1] = row->member == NULL;
}

/* es_subscription_write writes a row that was read under the partition's lock. */
void
es_subscription_write(const EsPartition *row)
{
	Datum		values[Natts_partitions];
	bool		isnull[Natts_partitions];

	make_row(row, values, isnull);
	es_rows_replace(&partition_shape, values, isnull);
}

/*
 * es_subscription_begin_delivery is es_base_begin_rows for rows of es_delivery;
 * 55000 if it has not the attributes that it was made with.
 */
ReturnSetInfo *
es_subscription_begin_delivery(FunctionCallInfo fcinfo)
{
	static const Oid types[] = {
		INT8OID, TEXTOID, INT8OID, TEXTOID, INT4OID, JSONBOID, JSONBOID, UUIDOID, TIMESTAMPTZOID, INT4OID, INT4OID
	};

	ReturnSetInfo *result = es_base_begin_rows(fcinfo);

	es_base_check_type(result->setDesc, types, lengthof(types));
	return result;
}

/* es_subscription_is_leased tells whether somebody has a partition. */
bool
es_subscription_is_leased(const EsPartition *row, TimestampTz now)
{
	return row->member != NULL && row->lease_until > now;
}

/* ---- changes of definitions ---- */

/* Opens eventstore.subscriptions for a change; waits for other changes' transactions. */
static Relation
open_for_change(const char *command)
{
	es_subscriber_prevent_write(command);
	PreventCommandIfParallelMode(command);
	return es_base_open(&subscriptions, ShareRowExclusiveLock);
}

/* Makes a change known, to this command's rest and, at commit, to all. */
static void
announce_change(Relation rel)
{
	CacheInvalidateRelcache(rel);
	CommandCounterIncrement();
	table_close(rel, NoLock);
}

/* Inserts the rows of a new subscription's partitions. */
static void
insert_partitions(int64 id, int count, int64 after)
{
	Datum		values[Natts_partitions];
	bool		isnull[Natts_partitions];
	EsPartition row = {.subscription_id = id,.position = after,.delivered_upto = after,
		.scanned_upto = after,.lapsed_upto = after,.retry_at = DT_NOBEGIN,.lease_until = DT_NOBEGIN
	};

	for (row.partition = 0; row.partition < count; row.partition++)
	{
		make_row(&row, values, isnull);
		es_rows_insert(&partition_shape, values, isnull);
	}
}

/* Fetches an int argument in a range; null_value for NULL, where that is allowed (else 22004). */
static int
int_arg(FunctionCallInfo fcinfo, int argno, const char *name, int most, bool null_allowed)
{
	int			value;

	if (null_allowed && PG_ARGISNULL(argno))
		return 0;
	es_base_require(fcinfo, argno, name);
	value = PG_GETARG_INT32(argno);
	if (value < 1 || value > most)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be between 1 and %d, not %d", name, most, value));
	return value;
}

/*
 * es_subscribe(subscription, after_position, categories, types, partitions,
 * max_attempts): makes a subscription to what follows a position.
 *
 * after_position NULL: from now on; categories, types NULL: all; max_attempts
 * NULL: without limit.  An existing subscription is 42710; other NULLs, and
 * nulls in the arrays, are 22004; a bad name, a negative position, partitions
 * out of 1 to 1000 are 22023.  Waits for other changes of subscriptions; a
 * rollback undoes it.
 */
Datum
es_subscribe(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	EsNames		categories = es_names_arg(fcinfo, 2, ES_NAME_CATEGORY, "categories");
	EsNames		types = es_names_arg(fcinfo, 3, ES_NAME_TYPE, "types");
	Datum		values[Natts_subscriptions];
	bool		isnull[Natts_subscriptions] = {false};
	int			partitions = int_arg(fcinfo, 4, "partitions", ES_MAX_PARTITIONS, false);
	int			max_attempts = int_arg(fcinfo, 5, "max_attempts", PG_INT32_MAX, true);
	EsSubscription existing;
	int64		after;
	int64		id;
	Relation	rel;

	rel = open_for_change("es_subscribe()");
	if (read_definition(&existing, name))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("subscription \"%s\" already exists", text_to_cstring(name)));
	after = es_subscription_after_arg(fcinfo, 1);
	id = es_sequence_take(&subscription_id_seq, 1);
	values[Anum_subscriptions_id - 1] = Int64GetDatum(id);
	values[Anum_subscriptions_partitions - 1] = Int32GetDatum(partitions);
	values[Anum_subscriptions_max_attempts - 1] = Int32GetDatum(max_attempts);
	isnull[Anum_subscriptions_max_attempts - 1] = max_attempts == 0;
	values[Anum_subscriptions_created_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_subscriptions_name - 1] = PointerGetDatum(name);
	values[Anum_subscriptions_categories - 1] = PointerGetDatum(es_names_array(&categories));
	isnull[Anum_subscriptions_categories - 1] = !categories.set;
	values[Anum_subscriptions_types - 1] = PointerGetDatum(es_names_array(&types));
	isnull[Anum_subscriptions_types - 1] = !types.set;
	es_rows_insert(&subscription_shape, values, isnull);
	insert_partitions(id, partitions, after);
	announce_change(rel);
	PG_RETURN_VOID();
}

/* es_subscription_lock_all takes the locks of all partitions, waiting for who has them. */
void
es_subscription_lock_all(const EsSubscription *subscription)
{
	for (int i = 0; i < subscription->partitions; i++)
		(void) es_subscription_lock(subscription->id, i, true);
}

/*
 * es_unsubscribe(subscription): drops a subscription, its parked events
 * included.
 *
 * Unknown: VE004.  Waits for transactions that poll or acknowledge in it; later
 * acknowledgements of its members are VE004.  A rollback undoes it.
 */
Datum
es_unsubscribe(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	Relation	rel = open_for_change("es_unsubscribe()");
	EsSubscription subscription;
	Datum		key = PointerGetDatum(name);
	Datum		id;

	if (!read_definition(&subscription, name))
		es_subscription_report_unknown(name);
	es_subscription_lock_all(&subscription);
	es_base_lock(&es_subscription_members, ShareRowExclusiveLock);
	id = Int64GetDatum(subscription.id);
	(void) es_rows_take_away(&partition_shape, &id, 1);
	(void) es_rows_take_away(&es_subscription_member_shape, &id, 1);
	(void) es_rows_take_away(&es_subscription_failure_shape, &id, 1);
	(void) es_rows_take_away(&subscription_shape, &key, 1);
	es_wake_note(es_wake_subscription(subscription.id));
	announce_change(rel);
	PG_RETURN_VOID();
}
