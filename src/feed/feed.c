/*
 * feed.c
 *		es_create_feed and what else is done with feeds, and how far consumers are behind.
 *
 * A feed is a logical replication slot named es_<feed> with our output plugin
 * (decode.c), and a definition: what it lets through, and how (definition.c).  The
 * slot is the server's and no part of a transaction, the definition is rows.  So either
 * can be without the other: a slot that was made by hand lets everything through until
 * es_alter_feed says otherwise; a definition whose slot is gone waits for one of that
 * name, or for es_create_feed, which replaces it.
 *
 * The seam between history and feed: first the slot reaches its consistent
 * point, then H, the last position ever given out, is read.  Whatever gets a
 * higher position afterwards commits after the consistent point, so the slot
 * has it.  Whatever has a position up to H is found by es_read_all once
 * es_settled_position() has reached H; the slot may have some of it too, which
 * the consumer drops by the plugin's option after_position = H.
 *
 * H is on disk before it is returned: a record is written after H was read,
 * one that decoding can use as well, and flushed.  A crash could otherwise take
 * the sequence back, and the same position would be given out once more, to an
 * event that the consumer takes for history that it has read.
 *
 * The slot is ephemeral until all is done.  An error on the way drops it,
 * when the server has cleaned up and no lock is held any more; so does the
 * end of the process, or a crash.  Once it is persistent nothing can fail.  The
 * definition is written before that: whoever reads the slot finds it, be it uncommitted
 * (asof.c).
 *
 * How many events a consumer is behind is estimated from marks in the WAL
 * (log/walmark.c); a new feed's seam is one, so its lag is exact at first.
 *
 * Locks: definitions' (definition.c), when the slot is there; for the mark,
 * eventstore.settled_mark to the end of the transaction, if it is free at once.
 * Reaching the consistent point waits for every transaction that is writing, prepared
 * ones and other databases' included, as creating a slot always does.
 */
#include "base/base.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "replication/logical.h"
#include "replication/slot.h"
#include "rights/right.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/standby.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/palloc.h"
#include "utils/pg_lsn.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"
#include "utils/varlena.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "feed/asof.h"
#include "feed/definition.h"
#include "feed/option.h"
#include "json/match.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/walmark.h"
#include "table/rows.h"

#define FEED_PLUGIN "eventstore"

PG_FUNCTION_INFO_V1(es_create_feed);
PG_FUNCTION_INFO_V1(es_alter_feed);
PG_FUNCTION_INFO_V1(es_share_feed);
PG_FUNCTION_INFO_V1(es_drop_feed);
PG_FUNCTION_INFO_V1(es_feed_head);
PG_FUNCTION_INFO_V1(es_events_after);

/* What a new feed's consumer starts from. */
typedef struct EsSeam
{
	XLogRecPtr	lsn;
	XLogRecPtr	written;		/* of a record of its own */
	int64		head_position;
} EsSeam;

/* Fetches an argument that names a feed, which need not exist, and makes the slot's name of it. */
static void
fetch_slot_name(FunctionCallInfo fcinfo, int argno, const char *name, char *slot_name)
{
	const int	max = NAMEDATALEN - 1 - strlen(ES_FEED_PREFIX);
	char	   *feed;

	es_call_require(fcinfo, argno, name);
	feed = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strlen(feed) < 1 || strlen(feed) > max)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("feed name must be 1 to %d bytes long, not %d", max, (int) strlen(feed)));
	if (feed[strspn(feed, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("feed name \"%s\" contains invalid character", feed),
				errhint("Feed names may only contain lower-case letters, digits and the underscore."));
	snprintf(slot_name, NAMEDATALEN, "%s%s", ES_FEED_PREFIX, feed);
}

/* Raises 42501 unless the caller may have feeds at all: with REPLICATION, and some 'read'. */
static void
check_feed_rights(void)
{
	CheckSlotPermissions();
	es_right_require_any(ES_RIGHT_READ);
}

/* Raises 42501 unless the caller may read all that a definition lets through. */
static void
check_definition_rights(const EsFeedDefinition *definition)
{
	es_right_require_all(ES_RIGHT_READ, &definition->categories);
}

/*
 * Raises 25001 where a slot cannot be made: it would wait for its own
 * transaction if that has written, and it stays if the rest is rolled back.
 */
static void
check_no_transaction(void)
{
	if (IsInTransactionBlock(true) || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("cannot create a feed inside a transaction block or after a write"),
				errdetail("A replication slot is not part of the transaction that creates it."),
				errhint("Call es_create_feed as a statement of its own."));
}

/*
 * Raises 55000 if the server does not let us be an output plugin; servers
 * before 15.19 let everyone.
 */
static void
check_plugin_is_allowed(void)
{
	const char *libraries = GetConfigOption("output_plugin_libraries", true, false);
	List	   *names = NIL;
	ListCell   *cell;
	StringInfoData wanted;

	if (libraries == NULL)
		return;
	(void) SplitDirectoriesString(pstrdup(libraries), ',', &names);
	initStringInfo(&wanted);
	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), FEED_PLUGIN) == 0)
			return;
		appendStringInfo(&wanted, "%s, ", quote_literal_cstr(lfirst(cell)));
	}
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("parameter \"output_plugin_libraries\" does not name \"%s\"", FEED_PLUGIN),
			errhint("Run ALTER SYSTEM SET output_plugin_libraries = %s'%s'; then run SELECT pg_reload_conf().",
					wanted.data, FEED_PLUGIN));
}

/* Raises 55000 if the server's state or settings do not allow feeds. */
static void
check_server_allows_feeds(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot create a feed on a standby"),
				errhint("Call es_create_feed on the primary."));
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("feeds require parameter \"wal_level\" to be \"logical\""),
				errhint("Set \"wal_level\" to \"logical\" and restart the server."));
	check_plugin_is_allowed();
}

/*
 * Reserves an ephemeral slot.  A name in use is 42710, with a hint, since it may be in
 * another database; that no slot is free is 55000 as all that the server lacks, where
 * PostgreSQL has a code of its own.
 */
static void
reserve_feed_slot(const char *slot_name)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		es_slot_create_ephemeral(slot_name);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		switch (error->sqlerrcode)
		{
			case ERRCODE_DUPLICATE_OBJECT:
				error->hint = "The databases of a server share the names of slots; "
					"the view pg_replication_slots shows which one has it.";
				break;
			case ERRCODE_CONFIGURATION_LIMIT_EXCEEDED:
				error->sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
				error->hint = "Drop a replication slot that is no longer used, "
					"or raise parameter \"max_replication_slots\" and restart the server.";
				break;
			default:
				PG_RE_THROW();
		}
		FlushErrorState();
		ReThrowError(error);
	}
	PG_END_TRY();
}

/*
 * Gives the last position ever given out, when it is on disk; *written is the
 * end of a record written after it was read, which decoding passes.
 */
static int64
flush_last_given(XLogRecPtr *written)
{
	int64		position = es_settle_last_given();

	*written = LogStandbySnapshot();
	XLogFlush(*written);
	return position;
}

/*
 * Makes the slot and reads the seam, in this order; the slot is persistent then.  What others have
 * changed in catalogs on the way is made known in a subtransaction of the server's, after
 * which it may not be the query's, but the transaction's context and owner that are current.
 */
static EsSeam
create_feed_slot(const char *slot_name)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	LogicalDecodingContext *ctx;
	EsSeam		seam;

	reserve_feed_slot(slot_name);
	ctx = CreateInitDecodingContext(FEED_PLUGIN, NIL, false, InvalidXLogRecPtr,
									XL_ROUTINE(.page_read = read_local_xlog_page,
											   .segment_open = wal_segment_open,
											   .segment_close = wal_segment_close),
									NULL, NULL, NULL);
	DecodingContextFindStartpoint(ctx);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	FreeDecodingContext(ctx);

	seam.head_position = flush_last_given(&seam.written);
	seam.lsn = MyReplicationSlot->data.confirmed_flush;
	return seam;
}

/* Gives a query's JSON, checked; NULL where null stands for no query. */
static char *
check_feed_query(Jsonb *query)
{
	if (query == NULL)
		return NULL;
	es_match_query_check_followed(es_match_query_from_json(query));
	return JsonbToCString(NULL, &query->root, VARSIZE(query));
}

/* Fetches the lists and the format; what is NULL is not set. */
static void
fetch_definition(FunctionCallInfo fcinfo, EsFeedDefinition *definition)
{
	memset(definition, 0, sizeof(*definition));
	definition->categories = es_names_arg(fcinfo, 1, ES_NAME_CATEGORY, "categories");
	definition->types = es_names_arg(fcinfo, 2, ES_NAME_TYPE, "types");
	if (PG_ARGISNULL(3))
		return;
	definition->format = PG_GETARG_TEXT_PP(3);
	(void) es_feedoption_format(text_to_cstring(definition->format));
}

/*
 * es_create_feed(feed, categories, types, format, query, OUT slot_name, OUT lsn, OUT
 * head_position) creates a feed and gives the seam: events up to head_position come from
 * es_read_all, all later ones from the slot.  NULL feed, format or name in a list:
 * 22004.  A bad name or format, a query that is none or has "last": 22023; the feed
 * exists: 42710; no REPLICATION, or no 'read' on all that it lets through: 42501; in a
 * transaction block or after a write: 25001; the server lacks something: 55000.  Waits
 * for the transactions in progress.  A rollback leaves the slot, without a definition.
 */
Datum
es_create_feed(PG_FUNCTION_ARGS)
{
	char		slot_name[NAMEDATALEN];
	EsFeedDefinition first;
	EsSeam		seam;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};
	HeapTuple	row;

	fetch_slot_name(fcinfo, 0, "feed", slot_name);
	fetch_definition(fcinfo, &first);
	es_call_require(fcinfo, 3, "format");
	first.query = check_feed_query(PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4));
	desc = es_call_result_desc(fcinfo);
	check_feed_rights();
	check_definition_rights(&first);
	check_no_transaction();
	check_server_allows_feeds();
	PreventCommandIfReadOnly("es_create_feed()");

	seam = create_feed_slot(slot_name);
	first.definition = seam.written;
	first.revision = 1;
	es_feeddefinition_lock();
	es_feeddefinition_create(slot_name + strlen(ES_FEED_PREFIX), &first);
	if (es_base_try_lock(&es_settle_mark, ShareRowExclusiveLock))
		es_walmark_add(seam.lsn, seam.head_position);
	values[0] = CStringGetTextDatum(slot_name);
	values[1] = LSNGetDatum(seam.lsn);
	values[2] = Int64GetDatum(seam.head_position);
	row = heap_form_tuple(desc, values, nulls);

	ReplicationSlotPersist();
	ReplicationSlotRelease();
	PG_RETURN_DATUM(HeapTupleGetDatum(row));
}

/* Tells whether a slot is a feed of this database. */
static bool
is_slot_a_feed(const char *slot_name)
{
	ReplicationSlot *slot;
	bool		result = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(slot_name, false);
	if (slot != NULL)
	{
		SpinLockAcquire(&slot->mutex);
		result = slot->data.database == MyDatabaseId &&
			strcmp(NameStr(slot->data.plugin), FEED_PLUGIN) == 0;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return result;
}

/* Raises VE004. */
static void
report_unknown_feed(const char *feed)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_UNDEFINED_OBJECT),
			errmsg("feed \"%s\" does not exist", es_names_show(feed)),
			errhint("The view es_feeds shows the feeds of this database."));
}

/* Fetches the argument that names a feed which should be there. */
static char *
fetch_feed(FunctionCallInfo fcinfo, int argno, const char *name)
{
	es_call_require(fcinfo, argno, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/*
 * es_drop_feed(feed) drops a feed, its slot and its definition; the server need
 * not keep WAL for it any more.  On a standby only the standby's own slot is dropped.
 * NULL: 22004; an unknown feed: VE004; a consumer is connected: 55006; no
 * REPLICATION or not the owner: 42501; a read-only transaction: 25006.  Waits for who
 * is changing feeds.  A rollback does not bring the slot back.
 */
Datum
es_drop_feed(PG_FUNCTION_ARGS)
{
	char	   *feed = fetch_feed(fcinfo, 0, "feed");
	char	   *slot_name = psprintf("%s%s", ES_FEED_PREFIX, feed);
	EsFeedDefinition definition;
	bool		known = false;
	bool		has_slot;

	check_feed_rights();
	if (!RecoveryInProgress())
	{
		PreventCommandIfReadOnly("es_drop_feed()");
		es_feeddefinition_lock();
	}
	has_slot = is_slot_a_feed(slot_name);
	known = es_feeddefinition_find(feed, &definition);
	if (!has_slot && (!known || RecoveryInProgress()))
		report_unknown_feed(feed);
	check_definition_rights(&definition);
	if (known && !RecoveryInProgress())
		(void) es_feeddefinition_drop(feed);
	if (has_slot)
		ReplicationSlotDrop(slot_name, true);
	PG_RETURN_VOID();
}

/* Raises what es_alter_feed and es_share_feed are refused with. */
static void
check_feed_can_change(const char *command)
{
	check_feed_rights();
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot alter a feed on a standby"),
				errhint("Call es_alter_feed on the primary."));
	PreventCommandIfReadOnly(command);
}

/*
 * Finds a feed's definition.  A slot that was made by hand gets one, whose first
 * revision says what has held until now: everything.
 */
static void
find_or_make_definition(const char *feed, EsFeedDefinition *definition)
{
	if (es_feeddefinition_find(feed, definition))
		return;
	if (!is_slot_a_feed(psprintf("%s%s", ES_FEED_PREFIX, feed)))
		report_unknown_feed(feed);
	definition->definition = LogStandbySnapshot();
	definition->revision = 1;
	definition->format = cstring_to_text("json");
	es_feeddefinition_create(feed, definition);
}

/* Puts a list that is given in the place of the one there is; an empty one lets everything pass. */
static void
alter_list(EsNames *list, EsNames given)
{
	if (!given.set)
		return;
	given.set = given.count > 0;
	*list = given;
}

/*
 * es_alter_feed(feed, categories, types, format, query) changes what a feed lets
 * through, from its transaction's commit on in the WAL.  NULL leaves as it is, an empty
 * list and a query that is JSON's null let everything through.  NULL feed or name in a
 * list: 22004; a bad name or format, a query that is none or has "last": 22023; an
 * unknown feed: VE004; no REPLICATION, or no 'read' on all that it lets through: 42501;
 * on a standby: 55000; a read-only transaction: 25006.  Waits for who is changing
 * feeds.  A rollback takes it back.
 */
Datum
es_alter_feed(PG_FUNCTION_ARGS)
{
	char	   *feed = fetch_feed(fcinfo, 0, "feed");
	EsFeedDefinition given;
	EsFeedDefinition next;
	bool		has_query = !PG_ARGISNULL(4);

	fetch_definition(fcinfo, &given);
	if (has_query)
		given.query = check_feed_query(es_match_query_or_none(PG_GETARG_JSONB_P(4)));
	check_feed_can_change("es_alter_feed()");
	es_feeddefinition_lock();
	find_or_make_definition(feed, &next);
	check_definition_rights(&next);
	alter_list(&next.categories, given.categories);
	alter_list(&next.types, given.types);
	if (has_query)
		next.query = given.query;
	if (given.format != NULL)
		next.format = given.format;
	check_definition_rights(&next);
	if (given.categories.set || given.types.set || has_query || given.format != NULL)
		es_feeddefinition_revise(&next);
	PG_RETURN_VOID();
}

/*
 * es_share_feed(feed, other) gives another feed the definition of a feed, with all its
 * revisions; before the feed's slot is copied.  Without one the other has none either.
 * NULL: 22004; what no feed can be called: 22023; else as es_alter_feed, for what the one
 * has and the other had.
 */
Datum
es_share_feed(PG_FUNCTION_ARGS)
{
	char	   *feed = fetch_feed(fcinfo, 0, "feed");
	char		slot_name[NAMEDATALEN];
	const char *other = slot_name + strlen(ES_FEED_PREFIX);
	EsFeedDefinition definition;
	bool		known;

	fetch_slot_name(fcinfo, 1, "other", slot_name);
	check_feed_can_change("es_share_feed()");
	es_feeddefinition_lock();
	if (es_feeddefinition_find(other, &definition))
		check_definition_rights(&definition);
	known = es_feeddefinition_find(feed, &definition);
	check_definition_rights(&definition);
	if (known)
		es_feeddefinition_share(&definition, other);
	else
		(void) es_feeddefinition_drop(other);
	PG_RETURN_VOID();
}

/*
 * es_feed_head(OUT head_position, OUT lsn) gives a seam for a feed that exists,
 * as es_create_feed does for a new one: every later event commits after the
 * call, so a slot that exists by then has it.  What has committed before the
 * call is before lsn, and a feed that is read gets past lsn.
 * 55000 on a standby; 42501 without 'read' on something.  Waits for the disk only, takes
 * no lock of ours, leaves nothing.
 */
Datum
es_feed_head(PG_FUNCTION_ARGS)
{
	XLogRecPtr	written;
	TupleDesc	desc = es_call_result_desc(fcinfo);
	Datum		values[2];
	bool		nulls[2] = {false};

	es_right_require_any(ES_RIGHT_READ);
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot tell the last position given out on a standby"),
				errhint("Call es_feed_head on the primary."));
	values[0] = Int64GetDatum(flush_last_given(&written));
	values[1] = LSNGetDatum(written);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * Where the WAL comes to the last event up to a settled position; to its end,
 * where there is no event to be found.
 */
static EsWalMark
find_last_event_in_wal(int64 settled)
{
	EsWalMark	last = {.position = settled};
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true,.nkeys = 1};

	last.lsn = RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetXLogInsertRecPtr();
	ScanKeyInit(&scan.keys[0], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(settled));
	if (settled > 0 && es_scan_begin(&scan, es_segment_of(settled)))
	{
		if (index_getnext_slot(scan.scan, BackwardScanDirection, scan.slot))
			last.lsn = BufferGetLSNAtomic(((BufferHeapTupleTableSlot *) scan.slot)->buffer);
		es_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
	return last;
}

/*
 * events_after(lsn) estimates how many events were committed after a place in
 * the WAL: exact where a feed was created, 0 behind the page of the last event.
 * NULL for NULL, for who has no right at all, and where the WAL is older than what is
 * known of it.  Waits for nobody.  Behind the view es_feeds.
 */
Datum
es_events_after(PG_FUNCTION_ARGS)
{
	int64		settled;
	int64		position;

	if (!es_right_has_any(ES_RIGHTS_ALL))
		PG_RETURN_NULL();
	settled = es_settle_compute();
	position = es_walmark_position(PG_GETARG_LSN(0), find_last_event_in_wal(settled));
	if (position < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(Max(settled - position, 0));
}
