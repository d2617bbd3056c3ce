/*
 * mirror.c
 *		The publisher's segments, made on a logical subscriber.
 *
 * Logical replication carries rows and no tables, and the log gets a table more with
 * each segment.  The workers of a subscription fail at a change of a table that is
 * not here, be it subscribed to or not; and at an event that no partition takes.  So
 * each segment is made here before any change of it can come, and a subscriber needs
 * nothing but CREATE EXTENSION and CREATE SUBSCRIPTION:
 *
 * - Before a statement that subscribes (an event trigger), the segments that the
 *   publisher has are made, as the statement fails if one of the tables is missing.
 *   The publisher is asked on a connection like the one that the statement is about
 *   to make.  It may get another segment before the statement asks by itself, so
 *   some are made ahead.
 * - After CREATE SUBSCRIPTION (another one) the rows of eventstore.segments are
 *   fetched, and the table counts as copied from the first moment.  The slot has been
 *   made by then, so what committed before its place is among the rows, and all that
 *   comes later is sent.  What is both is passed over when it comes (a row trigger).
 * - So the apply worker meets the row of each segment at its place in the WAL, before
 *   any event of it: who appends to a segment has seen it, so the event's commit comes
 *   later, or it is the same one, after the row.  With the row its table is made, and
 *   subscribed to (another row trigger).
 * - A worker that copies a table sees the publisher as it is by then, and the first
 *   change that it catches up with may be of a segment that the apply worker has not
 *   come to.  So before it copies it asks the publisher once more.  If segments are
 *   missing it makes them, and some ahead, and ends without an error; the apply worker
 *   starts it again.  (A COPY into eventstore.events goes on with the partitions that
 *   it found when it began, so nothing less would do, nor that another worker makes them
 *   meanwhile.)  Segments made after that
 *   are met by the apply worker first: the copy catches up to where that is, and what
 *   commits after that comes after the row, at which it stops.
 *
 * With publish_via_partition_root changes are addressed to eventstore.events, and no
 * segment is subscribed to.  Without it they are addressed to the segment, and
 * dropped if the subscription does not know that.  In which state it is entered
 * depends on who brings the row:
 *
 * - The apply worker: all events of the segment are still to be applied, so 'r', ready.
 * - Whoever fetches or copies rows: the apply worker may never come to this one, as its
 *   place is before the slot's; then neither it will come to events that are.  So the
 *   segment has to be copied, as ALTER SUBSCRIPTION ... REFRESH would have it: 'i'.
 *   The entry is there before eventstore.segments counts as copied, so the store never
 *   looks complete before it is.
 *
 * With copy_data = false the marks are copied nevertheless, see replace_marks().
 *
 * Where CREATE SUBSCRIPTION did not connect, eventstore.segments is copied as any other
 * table, after REFRESH.  The apply worker drops its rows meanwhile and so may meet a
 * segment that is not here: it fails, and goes on once that has been copied.
 *
 * A segment that the publisher has no more, but a row of, is not made: readers
 * are told that it is lost, here as there.
 *
 * Tables are made under the lock on the log that makers take.  A rollback leaves
 * nothing of them.
 */
#include "segment/mirror.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"
#include "utils/syscache.h"

#include "base/call.h"
#include "base/objects.h"
#include "base/owner.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "log/timeline.h"
#include "log/walmark.h"
#include "segment/ddl.h"
#include "segment/maker.h"
#include "segment/publisher.h"
#include "segment/statemirror.h"
#include "segment/statetable.h"
#include "table/columns.h"
#include "table/rows.h"

/*
 * How far segments are made ahead of the publisher's: in positions, and not more
 * segments than so many.
 */
#define POSITIONS_AHEAD	100000
#define MOST_AHEAD		32

PG_FUNCTION_INFO_V1(es_mirror_before_subscribe);
PG_FUNCTION_INFO_V1(es_mirror_after_subscription);
PG_FUNCTION_INFO_V1(es_mirror_segment_once);
PG_FUNCTION_INFO_V1(es_mirror_segment);
PG_FUNCTION_INFO_V1(es_mirror_forget);

/* ---- asking ---- */

/* Asks the publisher of the subscription that this worker works for. */
static bool
ask_own_publisher(EsPublished *answer)
{
	EsPublisher publisher = es_publisher_own();

	return es_publisher_ask(&publisher, answer);
}

/* ---- making ---- */

/* Makes segments that are not there, in this transaction. */
static void
make_published_segments(const List *segments)
{
	EsOwnerContext saved;
	ListCell   *cell;

	es_maker_begin(&saved);
	es_timeline_follow();
	foreach(cell, segments)
	{
		const EsPublishedSegment *segment = lfirst(cell);

		es_maker_make_table(segment->number, segment->first_position, segment->last_position);
	}
	es_ddl_leave(&saved);
}

/* Tells whether there is a table of a segment's name, be it detached. */
static bool
has_segment_table(int64 segment)
{
	return OidIsValid(get_relname_relid(es_segment_name(segment), es_base_store()->schema));
}

/* Those segments that the publisher has and that are not here. */
static List *
find_missing_segments(const List *segments)
{
	List	   *missing = NIL;
	ListCell   *cell;

	foreach(cell, segments)
	{
		const EsPublishedSegment *segment = lfirst(cell);

		if (segment->has_table && !has_segment_table(segment->number))
			missing = lappend(missing, lfirst(cell));
	}
	return missing;
}

/*
 * Tells whether a snapshot sees all partitions of a table that the publisher has: a
 * COPY into the table goes on with those that it found when it began, also if another
 * worker has made some since.
 */
static bool
snapshot_sees_partitions(const EsPublished *answer, Oid table, Snapshot snapshot)
{
	ListCell   *cell;

	if (table == es_base_oid(&es_base_events))
		foreach(cell, answer->segments)
	{
		const EsPublishedSegment *segment = lfirst(cell);
		Oid			relid = segment->has_table ? es_segment_relid(segment->number) : InvalidOid;

		if (OidIsValid(relid) && !es_base_sees_relation(relid, snapshot))
			return false;
	}
	if (table == es_base_oid(&es_statetable_parent))
		foreach(cell, answer->states)
			if (!es_base_sees_relation(es_statetable_relid(*(int64 *) lfirst(cell)), snapshot))
			return false;
	return true;
}

/*
 * Gives the segments of a list and more that come after its last, at least so many:
 * the publisher may make them before it is asked again.
 */
static List *
add_segments_ahead(const List *publishers, int least)
{
	List	   *segments = list_copy(publishers);
	int64		room = 0;

	for (int n = 0; segments != NIL && (n < least || (n < MOST_AHEAD && room < POSITIONS_AHEAD)); n++)
	{
		const EsPublishedSegment *last = llast(segments);
		EsPublishedSegment *next = palloc0(sizeof(EsPublishedSegment));

		next->has_table = true;
		next->number = last->number + 1;
		next->first_position = last->last_position + 1;
		next->last_position = last->last_position + (last->last_position - last->first_position + 1);
		room += next->last_position - next->first_position;
		segments = lappend(segments, next);
	}
	return segments;
}

/*
 * Those segments that the publisher has given back, and whose placeholders are not here.
 * The server takes these for tables that are published, but nothing ever comes of them.
 */
static List *
find_missing_placeholders(const List *segments)
{
	List	   *missing = NIL;
	ListCell   *cell;

	foreach(cell, segments)
	{
		const EsPublishedSegment *segment = lfirst(cell);

		if (segment->has_placeholder &&
			!OidIsValid(get_relname_relid(psprintf("%s_detached", es_segment_name(segment->number)), es_base_store()->schema)))
			missing = lappend(missing, lfirst(cell));
	}
	return missing;
}

/* Makes tables in the place of placeholders, which none could be subscribed to. */
static void
make_published_placeholders(const List *segments)
{
	EsOwnerContext saved;
	ListCell   *cell;

	if (segments == NIL)
		return;
	es_maker_begin(&saved);
	foreach(cell, segments)
	{
		es_ddl_run("CREATE TABLE eventstore.%s_detached (LIKE eventstore.events)",
				   es_segment_name(((const EsPublishedSegment *) lfirst(cell))->number));
	}
	es_ddl_leave(&saved);
}

/* Makes the tables that the publisher has and that are not here, and segments ahead. */
static void
make_published_tables(const EsPublished *answer)
{
	make_published_placeholders(find_missing_placeholders(answer->segments));
	make_published_segments(find_missing_segments(add_segments_ahead(answer->segments, 1)));
	es_statemirror_make(answer->states);
}

/* ---- before subscribing ---- */

/* Reads a boolean among the options of a statement. */
static bool
read_boolean_option(const List *options, const char *name, bool otherwise)
{
	ListCell   *cell;

	foreach(cell, options)
		if (strcmp(((DefElem *) lfirst(cell))->defname, name) == 0)
		return defGetBoolean(lfirst(cell));
	return otherwise;
}

/* Takes the segment size out again that was set here: the publisher's will be copied. */
static void
clear_segment_size(void)
{
	(void) es_rows_take_away(&es_segment_config_shape, NULL, 0);
	es_base_announce(&es_base_events);
}

/* Sees to it that a store is empty that another one is to be copied into. */
static void
prepare_store_for_copy(void)
{
	if (es_subscriber_is())
		return;
	if (es_segment_newest_reaching(PG_INT64_MAX) >= 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot copy a publication into the event store of this database because it is not empty"),
				errdetail("Its events and the publisher's would have the same positions."),
				errhint("Subscribe in a database where CREATE EXTENSION has just been run, or with copy_data = false if this store is a copy of the publisher's."));
	clear_segment_size();
}

/*
 * Asks the publisher that CREATE SUBSCRIPTION names; false if it does not connect,
 * or publishes no store.
 */
static bool
ask_named_publisher(const CreateSubscriptionStmt *statement, EsPublished *answer)
{
	EsPublisher publisher = {.conninfo = statement->conninfo,.needs_password = !superuser(),
	.subscription = statement->subname,.publications = statement->publication};

	return read_boolean_option(statement->options, "connect", true) && es_may_subscribe(GetUserId()) &&
		es_publisher_ask(&publisher, answer) && answer->publishes;
}

/* Before CREATE SUBSCRIPTION.  Whoever may not make one is told so by the statement itself. */
static void
prepare_create_subscription(const CreateSubscriptionStmt *statement)
{
	EsPublished answer;

	if (!ask_named_publisher(statement, &answer))
		return;
	if (read_boolean_option(statement->options, "copy_data", true))
		prepare_store_for_copy();
	make_published_tables(&answer);
}

/*
 * Before ALTER SUBSCRIPTION that looks at what is published.  Errors are left to
 * the statement itself.
 */
static void
prepare_alter_subscription(const AlterSubscriptionStmt *statement)
{
	Oid			oid = get_subscription_oid(statement->subname, true);
	EsPublisher publisher = {.subscription = statement->subname};
	Subscription *subscription;
	EsPublished answer;

	if (!OidIsValid(oid) || !es_owns_subscription(oid, GetUserId()))
		return;
	subscription = GetSubscription(oid, false);
	publisher.conninfo = subscription->conninfo;
	publisher.needs_password = es_subscription_needs_password(subscription);
	publisher.publications = subscription->publications;
	switch (statement->kind)
	{
		case ALTER_SUBSCRIPTION_SET_PUBLICATION:
			publisher.publications = statement->publication;
			break;
		case ALTER_SUBSCRIPTION_ADD_PUBLICATION:
			publisher.publications = list_concat_copy(subscription->publications, statement->publication);
			break;
		case ALTER_SUBSCRIPTION_DROP_PUBLICATION:
		case ALTER_SUBSCRIPTION_REFRESH:
			break;
		default:
			return;
	}
	if (!read_boolean_option(statement->options, "refresh", true) ||
		!es_publisher_ask(&publisher, &answer) || !answer.publishes)
		return;

	/*
	 * as the statement itself will: workers lock the subscription before the
	 * log
	 */
	LockSharedObject(SubscriptionRelationId, oid, 0, AccessExclusiveLock);
	make_published_tables(&answer);
}

/*
 * before_subscribe(): event trigger before CREATE and ALTER SUBSCRIPTION.
 *
 * Makes the segments that the publisher has.  For the store's owner, who is to
 * be the one who subscribes; does nothing for others, nor where the publisher
 * cannot be reached or publishes no store.  55000 if a store would be copied into
 * one that is not empty, 08006 if the publisher does not tell.
 */
Datum
es_mirror_before_subscribe(PG_FUNCTION_ARGS)
{
	const Node *statement;

	es_call_require_trigger(CALLED_AS_EVENT_TRIGGER(fcinfo), "before_subscribe");
	statement = ((EventTriggerData *) fcinfo->context)->parsetree;
	if (!es_base_owns_store(GetUserId()))
		PG_RETURN_NULL();
	if (IsA(statement, CreateSubscriptionStmt))
		prepare_create_subscription((const CreateSubscriptionStmt *) statement);
	else if (IsA(statement, AlterSubscriptionStmt))
		prepare_alter_subscription((const AlterSubscriptionStmt *) statement);
	PG_RETURN_NULL();
}

/* ---- after subscribing ---- */

/* Puts a row into eventstore.segments. */
static void
insert_segment_row(const EsPublishedSegment *segment)
{
	Datum		values[Natts_es_segments];
	bool		isnull[Natts_es_segments] = {false};

	values[Anum_es_segments_segment - 1] = Int64GetDatum(segment->number);
	values[Anum_es_segments_first_position - 1] = Int64GetDatum(segment->first_position);
	values[Anum_es_segments_last_position - 1] = Int64GetDatum(segment->last_position);
	values[Anum_es_segments_sealed - 1] = BoolGetDatum(segment->sealed);
	values[Anum_es_segments_emptied - 1] = BoolGetDatum(segment->emptied);
	values[Anum_es_segments_events - 1] = Int64GetDatum(segment->events);
	isnull[Anum_es_segments_events - 1] = segment->events < 0;
	es_rows_insert(&es_segment_shape, values, isnull);
}

/*
 * Makes eventstore.segments a table that is copied: with these rows, in a
 * subscription that has just been made.
 */
static void
fill_segments_table(Oid subscription, const List *segments)
{
	Relation	rel = es_base_open(&es_segment_table, RowExclusiveLock);
	ListCell   *cell;

	foreach(cell, segments)
	{
		const EsPublishedSegment *segment = lfirst(cell);

		insert_segment_row(segment);
		if (segment->has_table)
			es_statemirror_enter(subscription, &es_base_events, es_segment_relid(segment->number), SUBREL_STATE_INIT);
	}
	RemoveSubscriptionRel(subscription, RelationGetRelid(rel));
	CommandCounterIncrement();
	es_subscription_add(subscription, RelationGetRelid(rel), SUBREL_STATE_READY);
	es_base_announce(&es_base_events);
	table_close(rel, NoLock);
}

/* Has a table of marks copied, whose row may have been written here. */
static void
copy_marks(Oid subscription, const EsShape *marks)
{
	Oid			relid = es_base_oid(marks->table);
	XLogRecPtr	lsn;

	if (GetSubscriptionRelState(subscription, relid, &lsn) != SUBREL_STATE_READY)
		return;
	(void) es_rows_take_away(marks, NULL, 0);
	RemoveSubscriptionRel(subscription, relid);
	CommandCounterIncrement();
	es_subscription_add(subscription, relid, SUBREL_STATE_INIT);
	CommandCounterIncrement();
}

/*
 * After CREATE SUBSCRIPTION in a store that is the publisher's already.  As long as it
 * was one of its own, after a promotion say, it has taken for holes what was in
 * flight over there, and noted so; and the publisher's next mark replaces its last one,
 * which is not here then.
 */
static void
replace_marks(Oid subscription)
{
	es_base_lock(&es_settle_mark, ShareRowExclusiveLock);
	copy_marks(subscription, &es_settle_mark_shape);
	copy_marks(subscription, &es_walmark_shape);
}

/* After CREATE SUBSCRIPTION that is to copy a store. */
static void
complete_create_subscription(const CreateSubscriptionStmt *statement)
{
	Oid			subscription = get_subscription_oid(statement->subname, true);
	XLogRecPtr	lsn;
	EsPublished answer;

	if (!OidIsValid(subscription))
		return;
	es_statemirror_leave_to_rows(subscription);
	replace_marks(subscription);
	if (GetSubscriptionRelState(subscription, es_base_oid(&es_segment_table), &lsn) != SUBREL_STATE_INIT ||
		es_segment_newest_reaching(PG_INT64_MAX) >= 0 || !ask_named_publisher(statement, &answer))
		return;
	make_published_tables(&answer);
	fill_segments_table(subscription, answer.segments);
}

/* After ALTER SUBSCRIPTION, which may have looked at what is published. */
static void
complete_alter_subscription(const AlterSubscriptionStmt *statement)
{
	Oid			subscription = get_subscription_oid(statement->subname, true);

	if (OidIsValid(subscription) && es_subscriber_is())
		es_statemirror_leave_to_rows(subscription);
}

/*
 * after_subscription(): event trigger after CREATE, ALTER and DROP SUBSCRIPTION.
 *
 * A subscriber is given the rows of eventstore.segments; tables of states are subscribed
 * to with the rows of their projections.  What was one goes on by itself, see
 * log/timeline.c.
 */
Datum
es_mirror_after_subscription(PG_FUNCTION_ARGS)
{
	const Node *statement;

	es_call_require_trigger(CALLED_AS_EVENT_TRIGGER(fcinfo), "after_subscription");
	statement = ((EventTriggerData *) fcinfo->context)->parsetree;
	if (IsA(statement, CreateSubscriptionStmt) && es_base_owns_store(GetUserId()))
		complete_create_subscription((const CreateSubscriptionStmt *) statement);
	else if (IsA(statement, AlterSubscriptionStmt) && es_base_owns_store(GetUserId()))
		complete_alter_subscription((const AlterSubscriptionStmt *) statement);
	else if (IsA(statement, DropSubscriptionStmt) && !es_subscriber_is())
		es_timeline_take_over();
	PG_RETURN_NULL();
}

/* ---- in the workers of a subscription ---- */

/*
 * Tells whether the publisher has the table of a segment whose row was copied;
 * as long as this worker lives it is asked once.
 */
static bool
publisher_has_segment(int64 segment)
{
	static EsPublished answer;
	static bool asked = false;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *cell;

	asked = asked || ask_own_publisher(&answer);
	MemoryContextSwitchTo(old);
	foreach(cell, answer.segments)
		if (((const EsPublishedSegment *) lfirst(cell))->number == segment)
		return ((const EsPublishedSegment *) lfirst(cell))->has_table;
	/* what it has made since was not there to be lost */
	return answer.segments == NIL || segment > ((const EsPublishedSegment *) llast(answer.segments))->number;
}

/*
 * segment_once(): BEFORE INSERT row trigger on eventstore.segments.  In a worker of
 * a subscription it passes over a row that is there.
 */
Datum
es_mirror_segment_once(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock};
	bool		isnull;
	bool		exists;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo) &&
							RelationGetRelid(trigger->tg_relation) == es_base_oid(&es_segment_table), "segment_once");
	if (!IsLogicalWorker())
		return PointerGetDatum(trigger->tg_trigtuple);
	rows.snapshot = RegisterSnapshot(GetLatestSnapshot());
	es_rows_equal(&rows, heap_getattr(trigger->tg_trigtuple, Anum_es_segments_segment,
									  RelationGetDescr(trigger->tg_relation), &isnull));
	es_rows_begin(&rows);
	exists = es_rows_next(&rows);
	es_rows_end(&rows);
	UnregisterSnapshot(rows.snapshot);
	return PointerGetDatum(exists ? NULL : trigger->tg_trigtuple);
}

/*
 * mirror_segment(): AFTER INSERT row trigger on eventstore.segments.  In a worker
 * of a subscription it makes the segment's table and subscribes to it; does
 * nothing else.
 */
Datum
es_mirror_segment(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	EsPublishedSegment segment = {.has_table = true};
	TupleDesc	desc;
	HeapTuple	row;
	Oid			relid;
	bool		isnull;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo) &&
							RelationGetRelid(trigger->tg_relation) == es_base_oid(&es_segment_table), "mirror_segment");
	if (!IsLogicalWorker())
		return PointerGetDatum(NULL);

	/*
	 * before the log, as ALTER SUBSCRIPTION does; es_statemirror_enter()
	 * keeps it, too
	 */
	LockSharedObject(SubscriptionRelationId, MyLogicalRepWorker->subid, 0, AccessShareLock);
	desc = RelationGetDescr(trigger->tg_relation);
	row = trigger->tg_trigtuple;
	segment.number = DatumGetInt64(heap_getattr(row, Anum_es_segments_segment, desc, &isnull));
	segment.first_position = DatumGetInt64(heap_getattr(row, Anum_es_segments_first_position, desc, &isnull));
	segment.last_position = DatumGetInt64(heap_getattr(row, Anum_es_segments_last_position, desc, &isnull));
	if (!has_segment_table(segment.number) && (!am_tablesync_worker() || publisher_has_segment(segment.number)))
		make_published_segments(list_make1(&segment));
	relid = es_segment_relid(segment.number);
	if (OidIsValid(relid))
		es_statemirror_enter_now(&es_base_events, relid);
	/* sessions keep which one is the newest */
	es_base_announce(&es_base_events);
	return PointerGetDatum(NULL);
}

/*
 * Tells whether the rows of eventstore.segments come by the apply worker, or will
 * if it has not come so far yet.
 */
static bool
segments_are_copied(void)
{
	XLogRecPtr	lsn;
	char		state = GetSubscriptionRelState(MyLogicalRepWorker->subid, es_base_oid(&es_segment_table), &lsn);

	return state == SUBREL_STATE_READY || state == SUBREL_STATE_SYNCDONE || state == SUBREL_STATE_UNKNOWN;
}

/*
 * Ends this worker, which will be started again; what it has done is undone, missing
 * partitions are made first.
 */
ES_NORETURN static void
begin_copy_again(Relation rel, List *segments, List *states)
{
	ereport(LOG,
			errmsg("the copy of \"eventstore.%s\" begins again when all partitions are here", RelationGetRelationName(rel)));
	AbortOutOfAnyTransaction();
	if (segments != NIL || states != NIL)
	{
		StartTransactionCommand();
		make_published_segments(segments);
		es_statemirror_make(states);
		CommitTransactionCommand();
	}
	proc_exit(0);
}

/*
 * es_mirror_before_copy is called before something is put into a table of the store by
 * INSERT or COPY: ends a worker that is about to copy one, unless all segments and
 * tables of states are here that it may meet.
 */
void
es_mirror_before_copy(Relation rel)
{
	MemoryContext old;
	EsPublished answer = {0};
	List	   *segments;
	List	   *states;

	if (!IsLogicalWorker() || !am_tablesync_worker())
		return;
	if (RelationGetRelid(rel) == es_base_oid(&es_base_events) && !segments_are_copied())
		begin_copy_again(rel, NIL, NIL);
	/* to be made once the transaction, and its memory, are gone */
	old = MemoryContextSwitchTo(TopMemoryContext);
	(void) ask_own_publisher(&answer);
	segments = find_missing_segments(answer.segments);
	states = es_statemirror_missing(answer.states);
	if (segments != NIL)
		segments = find_missing_segments(add_segments_ahead(answer.segments, list_length(segments) + 1));
	if (segments != NIL || states != NIL || !snapshot_sees_partitions(&answer, RelationGetRelid(rel), GetActiveSnapshot()))
		begin_copy_again(rel, segments, states);
	MemoryContextSwitchTo(old);
}

/*
 * forget_segments(): AFTER row trigger on eventstore.config.  Has all sessions
 * forget what they keep of segments.
 */
Datum
es_mirror_forget(PG_FUNCTION_ARGS)
{
	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo), "forget_segments");
	es_base_announce(&es_base_events);
	return PointerGetDatum(NULL);
}
