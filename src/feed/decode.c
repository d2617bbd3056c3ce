/*
 * decode.c
 *		The output plugin "eventstore": one JSON message for each event, in
 *		the order of commits.
 *
 * An event is an INSERT into a partition of eventstore.events; no other change
 * gives a message.  Whether a relation is such a partition is looked up once
 * in the catalogs as they were when the change was made, and kept until the
 * relation changes.  Tables that are no partitions cost one test of a flag.
 *
 * By default a transaction's events are sent when it commits, all of them,
 * prepared transactions included, so every message is final.  That needs
 * disk space for large transactions while they are in progress, and time at
 * their end.  A consumer that asks for frames (include_transaction) can trade
 * this for work of its own:
 *
 *	plain		begin, events, commit
 *	two_phase	begin_prepare, events, prepare; later commit_prepared or
 *				rollback_prepared.  These two come for every prepared
 *				transaction, also for one that had no event to send: after a
 *				restart nobody knows any more.  What a consumer has no
 *				"prepare" of, it ignores.
 *	streaming	stream_start, events, stream_stop, any number of times and
 *				between other transactions' blocks; then stream_commit,
 *				stream_abort or stream_prepare.  The events carry their xid,
 *				that of a subtransaction if they are of one; a stream_abort
 *				with subxid takes back the events with that xid.
 *
 * Otherwise frames are sent only if an event is: the first event of a block
 * opens it.  two_phase must stay as it is for the life of a slot, as
 * everywhere in PostgreSQL: the server does not send a second time at the
 * commit what was due at the PREPARE.
 *
 * What the feed itself lets through, and in which format, is looked up before the
 * first event of each block (asof.c); what the consumer asks for narrows that.  Of what
 * is left it must have the right to read all (clearance.c).
 *
 * Nothing here runs SQL.  Catalogs are read through systable scans, which is
 * what allows the server to stop us when a transaction that is being streamed
 * turns out to be rolled back.  All state is in the decoding context's memory,
 * so an error leaves nothing behind; a crash neither, the slot is the server's.
 */
#include "feed/decode.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "replication/logical.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "replication/snapbuild.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/error.h"
#include "base/event.h"
#include "feed/asof.h"
#include "feed/clearance.h"
#include "feed/filter.h"
#include "feed/format.h"
#include "feed/option.h"

/* What the changes between two frames belong to. */
typedef enum EsBlock
{
	BLOCK_PLAIN,				/* a committed transaction */
	BLOCK_PREPARED,				/* a prepared one */
	BLOCK_STREAM				/* a part of one in progress */
} EsBlock;

/* State of one decoding session. */
typedef struct EsFeed
{
	EsFeedOptions *options;
	EsClearance clearance;		/* what its consumer may read */
	EsFeedAsOf	asof;			/* what the feed is, for this block */
	EsFeedFormat format;		/* of this block's messages */
	MemoryContext scratch;		/* reset before each change */
	TupleTableSlot *slot;		/* made at the first event */
	char	   *source;			/* made at the first event in CloudEvents */
	EsBlock		block;
	bool		defined;		/* asof and format are this block's */
	bool		opened;			/* has an event of this block been sent? */
	bool		repeated;		/* has the consumer had all of this block? */
	int			silent_changes; /* changes since something was sent */
} EsFeed;

/* After so many changes without a message the receiver gets a sign of life. */
#define SILENT_CHANGES_MAX 100

typedef struct EsDecodedRelation
{
	Oid			relid;			/* hash key */
	Oid			parent;
	bool		is_segment;		/* the parent is the log */
} EsDecodedRelation;

/* Partitions met by this session; NULL outside of one. */
static HTAB *partitions = NULL;

/* Set by each invalidation: what is being looked up meanwhile is not kept. */
static bool partitions_changed = false;

/* In output_plugin_private of a top transaction: something of it was streamed. */
static char streamed_mark;

/* Forgets a relation and what it is the parent of, or all of them. */
static void
forget_partition(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	EsDecodedRelation *entry;

	partitions_changed = true;
	if (partitions == NULL)
		return;
	hash_seq_init(&status, partitions);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || entry->relid == relid || entry->parent == relid)
			hash_search(partitions, &entry->relid, HASH_REMOVE, NULL);
}

/* Runs when the session's memory goes, on errors too. */
static void
forget_session_partitions(void *arg)
{
	partitions = NULL;
}

/* Makes the memory of partitions, which ends with the session. */
static void
start_partitions(MemoryContext context)
{
	static bool registered = false;
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(*callback));
	HASHCTL		ctl;

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(EsDecodedRelation);
	ctl.hcxt = context;
	partitions = hash_create("eventstore feed partitions", 64, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	callback->func = forget_session_partitions;
	callback->arg = NULL;
	MemoryContextRegisterResetCallback(context, callback);

	/* There is no way to take a callback back, so one serves all sessions. */
	if (!registered)
		CacheRegisterRelcacheCallback(forget_partition, (Datum) 0);
	registered = true;
}

/* Raises VE008 unless the first columns are those of eventstore.events. */
static void
check_partition_columns(Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);
	bool		fits = desc->natts >= Natts_es_events;

	for (int i = 0; fits && i < Natts_es_events; i++)
		fits = TupleDescAttr(desc, i)->atttypid == es_event_row_types[i];
	if (!fits)
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("partition \"%s\" of table \"eventstore.events\" does not have the columns of an event",
					   RelationGetRelationName(relation)));
}

/* Reads from the catalogs whether a partition is a segment of the log. */
static bool
look_up_partition(Relation relation, Oid parent)
{
	char	   *name = get_rel_name(parent);
	char	   *schema = get_namespace_name(get_rel_namespace(parent));

	if (name == NULL || strcmp(name, "events") != 0)
		return false;
	if (schema == NULL || strcmp(schema, "eventstore") != 0)
		return false;
	check_partition_columns(relation);
	return true;
}

/* Tells whether a relation is a segment of the log. */
static bool
relation_is_segment(Relation relation)
{
	Oid			relid = RelationGetRelid(relation);
	EsDecodedRelation *entry;
	Oid			parent;
	bool		result;

	if (!relation->rd_rel->relispartition)
		return false;
	entry = hash_search(partitions, &relid, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->is_segment;

	partitions_changed = false;
	parent = get_partition_parent(relid, true);
	result = look_up_partition(relation, parent);
	if (!partitions_changed)
	{
		entry = hash_search(partitions, &relid, HASH_ENTER, NULL);
		entry->parent = parent;
		entry->is_segment = result;
	}
	return result;
}

/*
 * Reads the event that a change is, if it is one.  The event is good until
 * the next change.
 */
static bool
read_decoded_event(LogicalDecodingContext *ctx, Relation relation,
				   ReorderBufferChange *change, EsEvent *event)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	HeapTuple	tuple;

	if (change->action != REORDER_BUFFER_CHANGE_INSERT || !relation_is_segment(relation))
		return false;
	tuple = es_change_new_tuple(change);
	if (tuple == NULL)
		return false;

	/* All segments have the same first columns, so one slot serves them all. */
	if (feed->slot == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(ctx->context);

		feed->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(relation)),
											  &TTSOpsHeapTuple);
		MemoryContextSwitchTo(caller);
	}
	ExecStoreHeapTuple(tuple, feed->slot, false);
	for (int i = 0; HeapTupleHasNulls(tuple) && i < Natts_es_events; i++)
		if (slot_attisnull(feed->slot, i + 1))
			elog(ERROR, "null in column %d of an event", i + 1);
	es_event_deform(feed->slot, event, true);
	return true;
}

/*
 * Sees to it that the feed's definition and the messages' format are those that hold for
 * the block.  The server decodes nothing else in between, so this is done once a block.
 */
static void
look_up_definition(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	if (feed->defined)
		return;
	es_feedasof_look(&feed->asof, es_decoding_snapshot(ctx->snapshot_builder, txn->xid));
	es_clearance_require(&feed->clearance, &feed->asof.kept, &feed->options->filter);
	feed->format = es_feedoption_agree(feed->asof.format, feed->options->format);
	feed->defined = true;
}

/* Tells whether the consumer is to get an event. */
static bool
is_for_consumer(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, const EsEvent *event)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	look_up_definition(ctx, txn);
	return es_feedfilter_passes(&feed->asof.kept, &feed->options->filter, event);
}

/* Sends a frame. */
static void
write_frame(LogicalDecodingContext *ctx, const EsFeedFrame *frame, bool last_write)
{
	OutputPluginPrepareWrite(ctx, last_write);
	es_feedformat_frame(ctx->out, frame);
	OutputPluginWrite(ctx, last_write);
}

/* Gives the transaction that a (sub)transaction is part of, or is. */
static ReorderBufferTXN *
top_transaction(ReorderBufferTXN *txn)
{
	return txn->toptxn ? txn->toptxn : txn;
}

/* Sends the frame that opens a block, before its first event. */
static void
open_block(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	ReorderBufferTXN *top = top_transaction(txn);
	EsFeedFrame frame = {0};

	if (feed->opened)
		return;
	feed->opened = true;
	if (!feed->options->include_transaction)
		return;
	frame.xid = top->xid;
	switch (feed->block)
	{
		case BLOCK_PLAIN:
			frame.name = "begin";
			frame.moment = "commit";
			frame.lsn = top->final_lsn;
			frame.time = top->xact_time.commit_time;
			break;
		case BLOCK_PREPARED:
			frame.name = "begin_prepare";
			frame.gid = top->gid;
			frame.moment = "prepare";
			frame.lsn = top->final_lsn;
			frame.time = top->xact_time.prepare_time;
			break;
		case BLOCK_STREAM:
			frame.name = "stream_start";
			top->output_plugin_private = &streamed_mark;
			break;
	}
	write_frame(ctx, &frame, false);
}

/* Gives the CloudEvents source of this database. */
static const char *
get_session_source(LogicalDecodingContext *ctx)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	if (feed->source == NULL)
		feed->source = es_feedformat_source(ctx->context);
	return feed->source;
}

/* Sends an event; xid is that of its (sub)transaction. */
static void
write_event_message(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, const EsEvent *event,
					TransactionId xid)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	const char *source = NULL;

	if (feed->block != BLOCK_STREAM)
		xid = InvalidTransactionId;
	es_feedformat_check(event, feed->format);
	if (feed->format == ES_FEED_CLOUDEVENTS)
		source = get_session_source(ctx);
	open_block(ctx, txn);
	OutputPluginPrepareWrite(ctx, true);
	if (source != NULL)
		es_feedformat_cloudevent(ctx->out, event, source, xid);
	else
		es_feedformat_json(ctx->out, event, xid);
	OutputPluginWrite(ctx, true);
}

/* Says in the log that an event is left out. */
static void
report_skipped_event(const EsEvent *event)
{
	ereport(WARNING,
			errmsg("the feed goes on without the event at position " INT64_FORMAT, event->position),
			errdetail("It is version " INT64_FORMAT " of stream \"%s\", of type \"%s\"; the option \"skip_positions\" names it.",
					  event->version, TextDatumGetCString(event->stream), TextDatumGetCString(event->type)));
}

/* Any change, of a finished transaction or of one in progress. */
static void
decode_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn,
			  Relation relation, ReorderBufferChange *change)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	EsEvent		event;
	MemoryContext caller;

	MemoryContextReset(feed->scratch);
	caller = MemoryContextSwitchTo(feed->scratch);
	if (!feed->repeated && read_decoded_event(ctx, relation, change, &event) &&
		is_for_consumer(ctx, txn, &event))
	{
		if (es_feedfilter_skips(&feed->options->filter, &event))
			report_skipped_event(&event);
		else
			write_event_message(ctx, txn, &event, change->txn->xid);
		feed->silent_changes = 0;
	}
	else if (++feed->silent_changes >= SILENT_CHANGES_MAX)
	{
		OutputPluginUpdateProgress(ctx, false);
		feed->silent_changes = 0;
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Ends a transaction or a block of one: sends the frame if the consumer knows
 * of the transaction, and reports how far we are in any case, so that the slot
 * of a feed without events moves on.
 */
static void
close_decoded_transaction(LogicalDecodingContext *ctx, const EsFeedFrame *frame, bool known)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	OutputPluginUpdateProgress(ctx, !known);
	if (known && feed->options->include_transaction)
		write_frame(ctx, frame, true);
	feed->opened = false;
	feed->silent_changes = 0;
}

/* Starts a block of changes. */
static void
start_block(LogicalDecodingContext *ctx, EsBlock block)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	feed->block = block;
	feed->defined = false;
	feed->opened = false;
	feed->repeated = false;
}

/*
 * Tells whether a transaction that the server is about to stream was sent at
 * its PREPARE, before this session began.  The server has read it again and
 * streams it once more if its memory runs short before the COMMIT PREPARED.
 * What was prepared before the slot was told of two_phase has not been sent.
 */
static bool
was_sent_prepared(LogicalDecodingContext *ctx, ReorderBufferTXN *top)
{
	return rbtxn_skip_prepared(top) &&
		top->final_lsn >= SnapBuildGetTwoPhaseAt(ctx->snapshot_builder);
}

/*
 * Brings the catalog snapshot of a transaction that is being streamed up to
 * date, after a subtransaction of it was rolled back.  The server reads the
 * catalogs with the snapshot it finds in snapshot_now, and with later ones that
 * lie among the changes; but when it meets a change of a subtransaction that
 * has been rolled back meanwhile, it drops all that is queued, snapshots
 * included.  With what is left it would not find tables that others made
 * since, such as the next segment: "could not map filenode".
 *
 * The newest snapshot is right: the transaction has a lock on each table it
 * writes, so nobody has changed those.  The copy is like the server's own,
 * which makes another one, with the subtransactions, before it uses it.
 */
static void
renew_streamed_snapshot(LogicalDecodingContext *ctx, ReorderBufferTXN *top)
{
	Snapshot	newest;
	Snapshot	copy;

	if (top->snapshot_now == NULL)
		return;
	Assert(top->snapshot_now->copied);
	newest = es_decoding_snapshot(ctx->snapshot_builder, top->xid);
	copy = MemoryContextAllocZero(ctx->reorder->context,
								  sizeof(SnapshotData) + sizeof(TransactionId) * newest->xcnt);
	memcpy(copy, newest, sizeof(SnapshotData));
	copy->copied = true;
	copy->active_count = 1;
	copy->regd_count = 0;
	copy->xip = (TransactionId *) (copy + 1);
	memcpy(copy->xip, newest->xip, sizeof(TransactionId) * newest->xcnt);
	copy->subxip = copy->xip + copy->xcnt;
	copy->subxcnt = 0;
	copy->curcid = top->snapshot_now->curcid;
	pfree(top->snapshot_now);
	top->snapshot_now = copy;
}

/* A committed transaction begins; nothing is sent before its first event. */
static void
decode_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	start_block(ctx, BLOCK_PLAIN);
}

/* A committed transaction ends. */
static void
decode_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	EsFeedFrame frame = {.name = "commit",.xid = txn->xid,.moment = "commit",
	.lsn = commit_lsn,.time = txn->xact_time.commit_time};

	close_decoded_transaction(ctx, &frame, feed->opened);
}

/* A prepared transaction begins. */
static void
decode_begin_prepare(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	start_block(ctx, BLOCK_PREPARED);
}

/* A prepared transaction ends. */
static void
decode_prepare(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr prepare_lsn)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	EsFeedFrame frame = {.name = "prepare",.xid = txn->xid,.gid = txn->gid,.moment = "prepare",
	.lsn = prepare_lsn,.time = txn->xact_time.prepare_time};

	close_decoded_transaction(ctx, &frame, feed->opened);
}

/* COMMIT PREPARED of a transaction that was decoded at its PREPARE. */
static void
decode_commit_prepared(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	EsFeedFrame frame = {.name = "commit_prepared",.xid = txn->xid,.gid = txn->gid,
	.moment = "commit",.lsn = commit_lsn,.time = txn->xact_time.commit_time};

	close_decoded_transaction(ctx, &frame, true);
}

/* ROLLBACK PREPARED of a transaction that was decoded at its PREPARE. */
static void
decode_rollback_prepared(LogicalDecodingContext *ctx, ReorderBufferTXN *txn,
						 XLogRecPtr prepare_end_lsn, TimestampTz prepare_time)
{
	EsFeedFrame frame = {.name = "rollback_prepared",.xid = txn->xid,.gid = txn->gid,
	.moment = "rollback",.lsn = txn->final_lsn,.time = txn->xact_time.commit_time};

	close_decoded_transaction(ctx, &frame, true);
}

/* A part of a transaction in progress begins. */
static void
decode_stream_start(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	start_block(ctx, BLOCK_STREAM);
	feed->repeated = was_sent_prepared(ctx, top_transaction(txn));
}

/* A part of a transaction in progress ends. */
static void
decode_stream_stop(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	EsFeed	   *feed = ctx->output_plugin_private;
	EsFeedFrame frame = {.name = "stream_stop",.xid = top_transaction(txn)->xid};

	if (feed->opened)
		write_frame(ctx, &frame, true);
	feed->opened = false;
}

/* A transaction of which parts may have been sent, or a subtransaction of it, is rolled back. */
static void
decode_stream_abort(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr abort_lsn)
{
	ReorderBufferTXN *top = top_transaction(txn);
	EsFeedFrame frame = {.name = "stream_abort",.xid = top->xid};

	if (txn != top)
	{
		frame.subxid = txn->xid;
		renew_streamed_snapshot(ctx, top);
	}
	close_decoded_transaction(ctx, &frame, top->output_plugin_private != NULL);
}

/* A transaction of which parts may have been sent is prepared. */
static void
decode_stream_prepare(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr prepare_lsn)
{
	EsFeedFrame frame = {.name = "stream_prepare",.xid = txn->xid,.gid = txn->gid,
	.moment = "prepare",.lsn = prepare_lsn,.time = txn->xact_time.prepare_time};

	close_decoded_transaction(ctx, &frame, txn->output_plugin_private != NULL);
}

/* A transaction of which parts may have been sent is committed. */
static void
decode_stream_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	EsFeedFrame frame = {.name = "stream_commit",.xid = txn->xid,.moment = "commit",
	.lsn = commit_lsn,.time = txn->xact_time.commit_time};

	close_decoded_transaction(ctx, &frame, txn->output_plugin_private != NULL);
}

/* Tells whether the consumer does not want what came here by replication. */
static bool
is_unwanted_origin(LogicalDecodingContext *ctx, RepOriginId origin)
{
	EsFeed	   *feed = ctx->output_plugin_private;

	return origin != InvalidRepOriginId && feed->options->origin == ES_FEED_NONE;
}

/*
 * Takes what the consumer may read, and sees to it that this is all of the feed that it
 * asks for, as the feed is now.
 */
static void
check_clearance(LogicalDecodingContext *ctx, EsFeed *feed)
{
	EsFeedAsOf	now;
	Snapshot	present = RegisterSnapshot(GetLatestSnapshot());

	es_clearance_take(&feed->clearance);
	es_feedasof_begin(&now, NameStr(ctx->slot->data.name), ctx->context);
	es_feedasof_look(&now, present);
	es_clearance_require(&feed->clearance, &now.kept, &feed->options->filter);
	MemoryContextDelete(now.context);
	UnregisterSnapshot(present);
}

/* The same where there may be no transaction, as in a walsender. */
static void
check_clearance_in_transaction(LogicalDecodingContext *ctx, EsFeed *feed)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		starts = !IsTransactionState();

	if (starts)
		StartTransactionCommand();
	MemoryContextSwitchTo(ctx->context);
	check_clearance(ctx, feed);
	if (starts)
		CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}

/*
 * Starts a session: reads the options, and asks for the rights that it takes to get
 * something, which is_init does not.  A walsender has no transaction here.
 */
static void
decode_startup(LogicalDecodingContext *ctx, OutputPluginOptions *output, bool is_init)
{
	EsFeed	   *feed = palloc0(sizeof(EsFeed));

	feed->options = es_feedoption_read(ctx->output_plugin_options);
	feed->scratch = AllocSetContextCreate(ctx->context, "eventstore feed event",
										  ALLOCSET_DEFAULT_SIZES);
	es_feedasof_begin(&feed->asof, NameStr(ctx->slot->data.name), ctx->context);
	if (!is_init)
		check_clearance_in_transaction(ctx, feed);
	start_partitions(ctx->context);
	output->output_type = OUTPUT_PLUGIN_TEXTUAL_OUTPUT;
	ctx->output_plugin_private = feed;
	ctx->streaming &= feed->options->streaming;
	ctx->twophase &= feed->options->two_phase;
	ctx->twophase_opt_given = feed->options->two_phase;
}

/* The server's entry: names the callbacks. */
void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	callbacks->startup_cb = decode_startup;
	callbacks->begin_cb = decode_begin;
	callbacks->change_cb = decode_change;
	callbacks->commit_cb = decode_commit;
	callbacks->filter_by_origin_cb = is_unwanted_origin;

	callbacks->begin_prepare_cb = decode_begin_prepare;
	callbacks->prepare_cb = decode_prepare;
	callbacks->commit_prepared_cb = decode_commit_prepared;
	callbacks->rollback_prepared_cb = decode_rollback_prepared;

	callbacks->stream_start_cb = decode_stream_start;
	callbacks->stream_stop_cb = decode_stream_stop;
	callbacks->stream_abort_cb = decode_stream_abort;
	callbacks->stream_prepare_cb = decode_stream_prepare;
	callbacks->stream_commit_cb = decode_stream_commit;
	callbacks->stream_change_cb = decode_change;
}
