/*
 * archive.c
 *		Segments that leave the log, and come back.
 *
 * Both change the partitions of the log, for which the server wants it for itself.  In a
 * user's transaction the lock would stay to its end, and everybody would wait for a
 * session that idles.  So a background worker does it, in transactions of its own, and the
 * function waits for the worker (base/errand.c); a rollback takes nothing back.
 *
 * Nor do others wait behind a worker that waits (base/patience.c).
 *
 * A snapshot that is older than the rows of a restored table would not see them, and
 * its reader would pass over events in silence.  So before such a table becomes a segment
 * the worker waits until all snapshots of this database see them, as CREATE INDEX
 * CONCURRENTLY does, and freezes the rows.
 *
 * A caller that is cancelled, or ends, stops the worker.  What that was at is undone;
 * segments that are gone by then stay so.
 */
#include "lifecycle/archive.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "rights/right.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "base/call.h"
#include "base/errand.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/patience.h"
#include "base/process.h"
#include "lifecycle/archived.h"
#include "lifecycle/attach.h"
#include "lifecycle/contents.h"
#include "lifecycle/detach.h"
#include "lifecycle/policy.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "segment/sealer.h"
#include "segment/typeindex.h"
#include "shared/headway.h"

PG_FUNCTION_INFO_V1(es_detach_segments);
PG_FUNCTION_INFO_V1(es_attach_segment);

/* What a worker is told. */
typedef struct ArchiveOrder
{
	bool		caller_keeps_snapshot;	/* from statement to statement */
	int			lock_timeout;	/* of the caller, ms */
	TimestampTz before;			/* detach */
	int64		segment;		/* attach; -1: detach */
	Oid			relid;
} ArchiveOrder;

/* The order that this worker works on. */
typedef struct ArchiveWork
{
	ArchiveOrder order;
	int			caller;			/* its pid */
	int64		nkept;			/* segments that those have who wait for it */
} ArchiveWork;

/* What comes of detaching. */
typedef struct DetachedRows
{
	ReturnSetInfo *result;
	int64		last;			/* segment; -1: none */
} DetachedRows;

static ArchiveWork work;		/* in the worker */
static bool indexing_stopped = false;	/* by this worker */

/* ---- in the worker: detaching ---- */

/* A segment that is looked at, and taken out of the log. */
typedef struct DetachSteps
{
	int64		segment;
	EsDetach	detach;
	bool		gone;
} DetachSteps;

/* A step: looks at a segment, and locks it if it may go. */
static void
look_at_segment(void *arg)
{
	DetachSteps *steps = arg;

	es_detach_begin(&steps->detach, steps->segment, work.order.before);
}

/* A step: takes it out of the log. */
static void
take_segment_out(void *arg)
{
	DetachSteps *steps = arg;

	steps->gone = es_detach_run(&steps->detach);
}

/* Adds a table's lock to those that a step needs. */
static List *
need_table_lock(List *locks, Oid relid, LOCKMODE mode)
{
	EsNeededLock *lock = palloc(sizeof(EsNeededLock));

	SET_LOCKTAG_RELATION(lock->tag, MyDatabaseId, relid);
	lock->mode = mode;
	return lappend(locks, lock);
}

/*
 * Takes a segment out of the log if it may go, and is free by then.  In one transaction, whose
 * lock keeps the segment as it was looked at while others are waited for.
 */
static EsPatienceEnd
try_detaching(DetachSteps *steps, Oid events, Oid relid)
{
	EsPatience	patience = {.caller = work.caller,.lock_timeout = work.order.lock_timeout,.within = true};
	EsPatienceEnd end;
	List	   *locks;

	StartTransactionCommand();
	end = es_patience_run(&patience, need_table_lock(NIL, relid, ShareRowExclusiveLock), look_at_segment, steps);
	es_headway_enter(ES_PHASE_WAITING, -1);
	locks = need_table_lock(need_table_lock(NIL, events, AccessExclusiveLock), relid, AccessExclusiveLock);
	if (end == ES_PATIENCE_DONE && OidIsValid(steps->detach.relid))
		end = es_patience_run(&patience, locks, take_segment_out, steps);
	CommitTransactionCommand();
	return end;
}

/*
 * Stops the worker that indexes types, which waits for the caller's snapshot to be gone while
 * it has a segment; false if it is not that.
 */
static bool
stop_indexing(void)
{
	bool		stopped;

	StartTransactionCommand();
	stopped = es_typeindex_stop();
	CommitTransactionCommand();
	indexing_stopped = indexing_stopped || stopped;
	return stopped;
}

/* Tells the caller of a segment that was detached. */
static void
send_detached(int64 segment)
{
	StringInfoData row;

	es_errand_begin_row(&row);
	pq_sendint64(&row, segment);
	es_errand_end_row(&row);
}

/* Takes a segment out of the log if it may go, and tells the caller. */
static void
detach_segment(const EsDetach *candidate, Oid events)
{
	DetachSteps steps = {.segment = candidate->segment};
	EsPatienceEnd end;

	do
	{
		end = try_detaching(&steps, events, candidate->relid);
	} while (end == ES_PATIENCE_SELF || (end == ES_PATIENCE_CALLER && stop_indexing()));
	if (end == ES_PATIENCE_CALLER)
		work.nkept++;
	if (steps.gone)
		send_detached(candidate->segment);
}

/* Takes all out of the log that may go, one after the other. */
static void
detach_segments(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore detach", ALLOCSET_DEFAULT_SIZES);
	int			count;
	EsDetach   *candidates;
	Oid			events;

	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	candidates = es_detach_candidates(&count);
	events = es_base_oid(&es_base_events);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	for (int i = 0; i < count; i++)
	{
		es_headway_enter(ES_PHASE_DETACHING, count);
		es_headway_reach(i);
		detach_segment(&candidates[i], events);
	}
}

/* ---- in the worker: attaching ---- */

/*
 * Finds who wrote last to a table of which not all is frozen, in a transaction; invalid
 * if all is.
 */
static TransactionId
find_last_writer(const EsAttach *attach)
{
	Relation	rel = try_table_open(attach->relid, ShareLock);
	EsContents	contents = {.writer = InvalidTransactionId};

	if (rel == NULL)
		return InvalidTransactionId;
	es_attach_check_shape(rel, attach->segment);
	if (!es_contents_all_frozen(rel))
		es_contents_look(rel, &contents);
	table_close(rel, ShareLock);
	return contents.writer;
}

/* Raises 55000: a transaction waits for us, or would not see the events. */
ES_NORETURN static void
report_old_snapshot(const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot attach segment " INT64_FORMAT " now", work.order.segment),
			errdetail_internal("%s", detail),
			errhint("Call the function in a transaction of its own, when nobody waits for it."));
}

/*
 * Waits until no snapshot of this database is older than a transaction, but that of the
 * caller's statement.
 */
static void
wait_for_snapshots(TransactionId writer)
{
	EsPatience	patience = {.caller = work.caller,.lock_timeout = work.order.lock_timeout};
	int			count;
	VirtualTransactionId *old = GetCurrentVirtualXIDs(writer, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &count);

	es_headway_enter(ES_PHASE_WAITING, count);
	for (int i = 0; i < count; i++)
	{
		PGPROC	   *process = es_vxid_process(old[i]);

		es_headway_reach(i);
		if (process == NULL || process->pid != work.caller)
		{
			if (!es_patience_await(&patience, old[i]))
				report_old_snapshot("A transaction that does not see its events waits for this one.");
		}
		else if (work.order.caller_keeps_snapshot)
			report_old_snapshot("The snapshot of this transaction is older than its events.");
	}
}

/* Waits until everybody sees the rows of a table, and freezes them. */
static void
settle_rows(EsAttach *attach)
{
	StartTransactionCommand();
	attach->writer = find_last_writer(attach);
	CommitTransactionCommand();
	if (!TransactionIdIsValid(attach->writer))
		return;
	wait_for_snapshots(attach->writer);
	es_sealer_freeze(attach->relid);
}

/* A step: puts a table into the log. */
static void
put_segment_in(void *arg)
{
	es_attach_enter_log(arg);
}

/* Takes a table into the log. */
static void
attach_segment(void)
{
	EsAttach	attach = {.segment = work.order.segment,.relid = work.order.relid};
	EsPatience	patience = {.caller = work.caller,.lock_timeout = work.order.lock_timeout,.within = true};
	List	   *locks;

	settle_rows(&attach);
	StartTransactionCommand();
	es_attach_prepare(&attach);
	es_headway_enter(ES_PHASE_WAITING, -1);
	locks = need_table_lock(NIL, es_base_oid(&es_policy_table), ES_POLICY_LOCK);
	locks = need_table_lock(locks, es_base_oid(&es_base_events), AccessExclusiveLock);
	if (es_patience_run(&patience, locks, put_segment_in, &attach) != ES_PATIENCE_DONE)
		report_old_snapshot("A transaction that uses the log, or has changed a rule of retention, waits for this one.");
	CommitTransactionCommand();
}

/* ---- the worker ---- */

/* Starts the worker that indexes types again if this one has stopped it. */
static void
go_on_indexing(void)
{
	if (indexing_stopped && !es_typeindex_start())
		ereport(WARNING,
				errmsg("no background worker is free to go on indexing types of events"),
				errhint("Raise parameter \"max_worker_processes\", and call es_index_type again."));
}

/* Does what the caller wants. */
static void
work_for_caller(void)
{
	PG_TRY();
	{
		if (work.order.segment < 0)
			detach_segments();
		else
			attach_segment();
	}
	PG_CATCH();
	{
		go_on_indexing();
		PG_RE_THROW();
	}
	PG_END_TRY();
	go_on_indexing();
	if (work.nkept > 0)
		ereport(NOTICE,
				errmsg("segments were left in the log because others have them locked who wait for this statement"),
				errhint("Call the function again once indexes are no longer being made."));
}

/* es_archive_main is the background worker: does what its caller wants, and ends. */
void
es_archive_main(Datum main_arg)
{
	work.caller = es_errand_begin(&work.order, sizeof(work.order));
	es_process_release_at_exit();
	/* what is not there to be dropped is nobody's business */
	if (work.order.segment >= 0)
		SetConfigOption("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION);
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, work.order.segment < 0 ? "detaching segments of eventstore.events"
						   : "attaching a segment to eventstore.events");
	es_headway_begin(work.order.segment < 0 ? ES_COMMAND_DETACH : ES_COMMAND_ATTACH);
	work_for_caller();
	es_headway_end();
	pgstat_report_activity(STATE_IDLE, NULL);
	es_errand_end();
}

/* ---- asking ---- */

/* Has a worker do what is asked for. */
static void
have_worker_do(ArchiveOrder *order, EsErrandTake take, void *arg)
{
	EsErrand	errand = {.function = "es_archive_main",.type = "eventstore archiver",
		.purpose = order->segment < 0 ? "detach segments" : "attach a segment",.order = order,.size = sizeof(*order)
	};

	order->lock_timeout = LockTimeout;
	order->caller_keeps_snapshot = IsolationUsesXactSnapshot();
	es_errand_run(&errand, take, arg);
}

/* ---- the functions ---- */

/*
 * Raises 42501 unless the user may have a table attached.  What its owner has put on it,
 * an index or a trigger with functions, will run with the rights of the store's owner.  So
 * it is the store's owner's own, as es_detach_segments leaves it, or he brings it himself.
 */
static void
require_table_right(Relation rel)
{
	Oid			owner = rel->rd_rel->relowner;

	if (owner == es_base_store()->owner ||
		(es_base_owns_store(GetUserId()) && has_privs_of_role(GetUserId(), owner)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("must be owner of table \"%s\" and of the event store", RelationGetRelationName(rel)),
			errhint("A table that belongs to the owner of the event store can be attached by who has \"admin\" on \"*\"."));
}

/* Tells whether this transaction holds a lock on a relation. */
static bool
is_locked_here(Oid relid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (LOCKMODE mode = AccessShareLock; mode <= AccessExclusiveLock; mode++)
		if (es_holds_lock(&tag, mode))
			return true;
	return false;
}

/* Raises 55000 if the worker would wait for a lock that this transaction holds. */
static void
refuse_own_lock(Oid relid)
{
	if (OidIsValid(relid) && is_locked_here(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot detach or attach a segment because this transaction uses table \"%s\"", get_rel_name(relid)),
				errdetail("A background worker does it, which would wait for this transaction."),
				errhint("Call the function in a transaction of its own."));
}

/* Says, in a NOTICE, who has not come past a segment yet. */
static void
tell_who_needs(int64 last_detached)
{
	EsOwnerContext saved;
	char	   *names = NULL;

	es_owner_enter(&saved);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute(psprintf("SELECT pg_catalog.string_agg(n.name, ', ' ORDER BY n.name) FROM ("
							 "SELECT pg_catalog.concat('projection \"', p.name, '\"') AS name FROM eventstore.projections p"
							 " JOIN eventstore.projection_progress g ON g.projection_id OPERATOR(pg_catalog.=) p.projection_id"
							 " WHERE (p.mode OPERATOR(pg_catalog.=) 'async' OR NOT g.live)"
							 " AND g.position OPERATOR(pg_catalog.<) " INT64_FORMAT " GROUP BY p.name"
							 " UNION ALL SELECT pg_catalog.concat('subscription \"', s.name, '\"') FROM eventstore.subscriptions s"
							 " JOIN eventstore.subscription_partitions g ON g.subscription_id OPERATOR(pg_catalog.=) s.subscription_id"
							 " WHERE g.position OPERATOR(pg_catalog.<) " INT64_FORMAT " GROUP BY s.name) n", last_detached, last_detached),
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for projections and subscriptions");
	names = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (names)
		ereport(NOTICE,
				errmsg("not all that follow the log have come past the segments that were detached"),
				errdetail("These have not: %s.", names),
				errhint("They fail with 55000 where they need an event of a detached segment, and go on once it is attached again."));
	PopActiveSnapshot();
	SPI_finish();
	es_owner_leave(&saved);
}

/* Gives the name of a segment that was detached. */
static void
return_detached(StringInfo row, void *arg)
{
	DetachedRows *rows = arg;
	Datum		name;
	bool		isnull = false;

	rows->last = pq_getmsgint64(row);
	name = CStringGetTextDatum(psprintf("eventstore.%s", es_segment_name(rows->last)));
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, &name, &isnull);
}

/*
 * es_detach_segments(before): takes segments out of the log that are complete and
 * whose events are all older than a time, and returns the names of their tables.
 *
 * For who has 'admin' on '*', else 42501; NULL is 22004.  A background worker does it, each
 * segment in a transaction of its own: a rollback takes nothing back.  Waits for those who
 * use the log, or a segment, as long as lock_timeout says, without keeping others off;
 * 55000 if this transaction is one of them, 53400 if no worker is free.  An error
 * leaves those detached that were by then; es_segments has them.
 */
Datum
es_detach_segments(PG_FUNCTION_ARGS)
{
	ArchiveOrder order = {.segment = -1};
	DetachedRows rows = {.last = -1};
	int64		newest;

	es_call_require(fcinfo, 0, "before");
	order.before = PG_GETARG_TIMESTAMPTZ(0);
	es_right_require(ES_RIGHT_ADMIN, NULL);
	es_subscriber_prevent_write("es_detach_segments()");
	refuse_own_lock(es_base_oid(&es_base_events));
	newest = es_segment_newest_reaching(PG_INT64_MAX);
	for (int64 n = 0; n <= newest; n++)
		refuse_own_lock(es_segment_relid(n));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	rows.result = (ReturnSetInfo *) fcinfo->resultinfo;
	have_worker_do(&order, return_detached, &rows);
	if (rows.last >= 0)
		tell_who_needs(es_segment_last_position(rows.last));
	PG_RETURN_NULL();
}

/* Reads which segment a table's name stands for; -1 for none. */
static int64
parse_segment_name(const char *name)
{
	int64		segment;
	char	   *end;

	if (strncmp(name, "events_", 7) != 0 || name[7] < '0' || name[7] > '9')
		return -1;
	errno = 0;
	segment = strtoll(name + 7, &end, 10);
	return errno == 0 && *end == '\0' && strcmp(es_segment_name(segment), name) == 0 ? segment : -1;
}

/* Takes the name of a table apart that may say its schema; NULL if it is none. */
static RangeVar *
parse_table_name(const text *name)
{
	List	   *parts;

	if (!SplitIdentifierString(text_to_cstring(name), '.', &parts) || parts == NIL || list_length(parts) > 2)
		return NULL;
	return list_length(parts) == 1 ? makeRangeVar(NULL, linitial(parts), -1) : makeRangeVar(linitial(parts), lsecond(parts), -1);
}

/* Finds the table that is to be attached, and which segment it is. */
static void
find_table_to_attach(const text *name, ArchiveOrder *order)
{
	RangeVar   *table = parse_table_name(name);
	EsArchived	known;

	order->segment = table ? parse_segment_name(table->relname) : -1;
	if (order->segment < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" is not the name of a segment", es_names_show_text(name)),
				errhint("Segments are called eventstore.events_0, eventstore.events_1 and so on."));
	if (!es_archived_find(order->segment, &known))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("the event store never had a segment " INT64_FORMAT, order->segment));
	if (table->schemaname == NULL)
		table->schemaname = "eventstore";
	/* which others than the owner may use in no other way */
	if (strcmp(table->schemaname, "eventstore") == 0)
		order->relid = get_relname_relid(table->relname, es_base_store()->schema);
	else
		order->relid = RangeVarGetRelid(table, NoLock, true);
	if (!OidIsValid(order->relid))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("table \"%s.%s\" does not exist", table->schemaname, table->relname),
				errhint("Restore it from the archive first."));
}

/* Raises unless a table may be attached, as far as can be said without looking into it. */
static void
check_table_to_attach(const ArchiveOrder *order)
{
	Relation	rel;

	refuse_own_lock(order->relid);
	refuse_own_lock(es_base_oid(&es_base_events));
	if (OidIsValid(es_segment_relid(order->segment)))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("segment \"eventstore.%s\" is part of the log", es_segment_name(order->segment)));
	rel = relation_open(order->relid, AccessShareLock);
	require_table_right(rel);
	es_attach_check_shape(rel, order->segment);
	relation_close(rel, AccessShareLock);
}

/*
 * es_attach_segment(name): takes the table of a segment into the log again, the
 * one that was detached or one restored since.
 *
 * For who has 'admin' on '*', if the table is the store's owner's, or is its own and it is
 * the store's owner, else 42501; NULL is 22004.  22023 for a
 * name or a table that cannot be a segment's, VE004 if there is none, VE008 if its events
 * are not the segment's, 55000 if the segment is there.  A background worker does it, as
 * it does es_detach_segments, and waits in the same way, here also for snapshots that
 * do not see the table's rows.
 */
Datum
es_attach_segment(PG_FUNCTION_ARGS)
{
	ArchiveOrder order = {0};

	es_call_require(fcinfo, 0, "name");
	es_right_require(ES_RIGHT_ADMIN, NULL);
	es_subscriber_prevent_write("es_attach_segment()");
	find_table_to_attach(PG_GETARG_TEXT_PP(0), &order);
	check_table_to_attach(&order);
	have_worker_do(&order, NULL, NULL);
	PG_RETURN_VOID();
}
