/*
 * compact.c
 *		Giving back the room that removed events have left in a segment.
 *
 * What VACUUM FULL does under a lock that stops all readers is done beside them.  A
 * segment that is complete gets no rows any more, so its rows are copied to a new table
 * as CLUSTER copies them, with its functions: each with the transactions that wrote and
 * deleted it, so that a snapshot of before sees the same there.  The copy goes to disk while
 * it is made, so that nobody's commit waits for all of it.  The indexes are built on the
 * copy.  Only then the segment is locked, for some milliseconds, in which files are
 * exchanged: those of the table, its TOAST table, and each index.  The relations stay what
 * they are, with their OIDs and all that refers to them: publications, subscriptions, what
 * users have added.  The copy goes, with the old files, in the same transaction.
 *
 * That lock is waited for only for a moment at a time, since all who come later
 * queue behind it, and several times.  If somebody reads the segment all the time, the copy
 * is thrown away; whoever seals next tries again.  Where it cannot be had even before, none
 * is made.
 *
 * Who waits in es_scavenge() has a snapshot, too, of before the events were removed.  It
 * would keep them for as long as it waits; so of all snapshots it is left out.  If the
 * statement goes on to look at the log, it sees less events than when it began.
 *
 * Rows must not change meanwhile, so the copy is made under a lock that keeps out who
 * writes: the apply worker of a logical subscriber, a restore.  Nobody else does, as a segment
 * that is complete gets no rows, and only one process scavenges or seals at a time.
 *
 * A segment without a row is dropped, and its row in eventstore.segments says so.  That
 * locks the log as a whole, for as short.
 *
 * A crash leaves the segment as it was, and the files of the copy, which the server does
 * not know any more, as it does after a crash in the middle of VACUUM FULL.
 */
#include "segment/compact.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/relation.h"
#include "access/rewriteheap.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/cluster.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "parser/parse_utilcmd.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "storage/procarray.h"
#include "storage/smgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/objects.h"
#include "base/owner.h"
#include "base/patience.h"
#include "base/process.h"
#include "base/quiet.h"
#include "log/segment.h"
#include "segment/ddl.h"
#include "segment/horizon.h"
#include "shared/headway.h"

#define COPIED_ROWS		500		/* between looks at how many pages these make */
#define WRITE_BACK		128		/* pages to write at a time */
#define LOCK_TIMEOUT	"20ms"
#define LOCK_TRIES		60		/* where a copy would be thrown away */
#define FEW_TRIES		10		/* where nothing would be lost */
#define LOCK_PAUSE_MS	50		/* and more with each try */
#define MOST_PAUSE_MS	2000

/* A segment and its copy. */
typedef struct Compaction
{
	Relation	old;
	Relation	new;
	List	   *indexes;		/* OIDs of the segment's */
	List	   *copies;			/* of those that are built on the copy */
	TransactionId frozen;		/* no row of the copy has an older xid */
	MultiXactId oldest_multi;	/* and no older one of these */
	double		rows;
	BlockNumber written;		/* of the copy, pages that are on their way to
								 * disk */
	int			caller;			/* process whose snapshot does not count; or 0 */
} Compaction;

/* ---- locking ---- */

/* Lists a table that is open, its TOAST table, and their indexes. */
static List *
list_all_of_table(Relation rel)
{
	List	   *all = lcons_oid(RelationGetRelid(rel), RelationGetIndexList(rel));

	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);

		all = list_concat(lappend_oid(all, RelationGetRelid(toast)), RelationGetIndexList(toast));
		table_close(toast, AccessShareLock);
	}
	return all;
}

/* A step: locks relations against everybody. */
static void
lock_each_against_all(void *arg)
{
	ListCell   *cell;

	foreach(cell, (List *) arg)
	{
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
	}
}

/* Waits for a moment, after so many tries, for others to let go of relations. */
static void
pause_between_tries(int tries)
{
	static uint32 wait_event = 0;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(LOCK_PAUSE_MS * tries, MOST_PAUSE_MS),
					 es_base_wait_event(&wait_event, "EventstoreSegmentLock"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Locks relations against everybody, to the end of the transaction, without others queueing
 * for long; false if they cannot be had.  All or none: what is locked while another one
 * is waited for would stop others.
 */
static bool
lock_against_all(List *relids, int tries)
{
	EsPatience	patience = {.within = true};

	for (int i = 1; i <= tries; i++)
	{
		/*
		 * the commit flushes all WAL before the lock goes: let there be
		 * little
		 */
		es_process_flush_wal(true);
		if (es_patience_try(&patience, LOCK_TIMEOUT, lock_each_against_all, relids))
			return true;
		pause_between_tries(i);
	}
	return false;
}

/* Tells whether anybody else has one of some relations locked. */
static bool
is_any_locked(const List *relids)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		if (es_base_is_relation_locked(lfirst_oid(cell)))
			return true;
	}
	return false;
}

/*
 * Tells whether relations could be locked just now; who has them open may do so for hours.
 * They are only looked at: where they were locked, standbys would have them so for all of the copy.
 */
static bool
can_be_locked(const List *relids)
{
	for (int i = 1; i <= FEW_TRIES; i++)
	{
		if (!is_any_locked(relids))
			return true;
		pause_between_tries(i);
	}
	return false;
}

/*
 * Keeps VACUUM off the values out of line of a segment, which it goes by without a lock on
 * the segment: it would take those of rows that are still to be copied.  False if it is there.
 */
static bool
keep_values(Relation rel)
{
	Oid			toast = rel->rd_rel->reltoastrelid;

	return !OidIsValid(toast) || ConditionalLockRelationOid(toast, ShareUpdateExclusiveLock);
}

/* ---- copying ---- */

/*
 * Has the pages that were added to the copy since the last time written to disk, and waits
 * for their WAL alone.  Else they would all be written when the copy is complete, and whoever
 * commits meanwhile would wait for the disk.
 */
static void
write_copy_back(Compaction *c)
{
	SMgrRelation smgr = RelationGetSmgr(c->new);
	BlockNumber blocks = smgrnblocks(smgr, MAIN_FORKNUM);

	if (blocks - c->written < WRITE_BACK)
		return;
	smgrwriteback(smgr, MAIN_FORKNUM, c->written, blocks - c->written);
	c->written = blocks;
	es_process_flush_wal(false);
}

/* Tells whether a row has all columns of its table, and none that was dropped. */
static bool
is_row_complete(HeapTuple row, TupleDesc desc)
{
	if (HeapTupleHeaderGetNatts(row->t_data) < desc->natts)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			return false;
	}
	return true;
}

/* Makes a row anew, with columns that were added since, and without those that were dropped. */
static HeapTuple
complete_row(HeapTuple row, TupleDesc desc)
{
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *isnull = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(row, desc, values, isnull);
	for (int i = 0; i < desc->natts; i++)
		isnull[i] |= TupleDescAttr(desc, i)->attisdropped;
	return heap_form_tuple(desc, values, isnull);
}

/* A row that nobody may see any more, with its values. */
typedef struct DeletedRow
{
	HeapTuple	row;
	TupleDesc	desc;
	HeapTuple	whole;			/* with all values in it */
} DeletedRow;

/* Fetches a row's values that are out of line. */
static void
fetch_values_of_row(void *arg)
{
	DeletedRow *deleted = arg;

	deleted->whole = toast_flatten_tuple(deleted->row, deleted->desc);
}

/* Tells whether a row that a scan stands on is alive, and if not, whether some still see it. */
static HTSV_Result
judge_row(HeapTuple row, Buffer buffer, TransactionId oldest)
{
	HTSV_Result seen;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	seen = HeapTupleSatisfiesVacuum(row, oldest, buffer);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return seen;
}

/*
 * Gives a row that was deleted with its values in it; NULL if it has lost them.  Old snapshots
 * may end while the copy is made, and who reads the segment then clears pages of values that
 * nobody sees any more.  By then nobody sees the row either; else it is damaged.
 */
static HeapTuple
fetch_deleted_row(const Compaction *c, HeapTuple row, Buffer buffer)
{
	DeletedRow	deleted = {.row = row,.desc = RelationGetDescr(c->old)};
	ErrorData  *error;

	if (!HeapTupleHasExternal(row))
		return row;
	error = es_quiet_try(fetch_values_of_row, &deleted);
	if (error == NULL)
		return deleted.whole;
	if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED ||
		judge_row(row, buffer, es_horizon_find(c->old, c->caller)) != HEAPTUPLE_DEAD)
		ReThrowError(error);
	return NULL;
}

/* Copies a row with what it says of transactions, unless no snapshot can see it any more. */
static void
copy_row(Compaction *c, RewriteState state, TupleTableSlot *slot, TransactionId oldest)
{
	HeapTuple	row = ExecFetchSlotHeapTuple(slot, false, NULL);
	Buffer		buffer = ((BufferHeapTupleTableSlot *) slot)->buffer;
	TupleDesc	desc = RelationGetDescr(c->old);
	HTSV_Result seen = judge_row(row, buffer, oldest);
	HeapTuple	whole = seen == HEAPTUPLE_RECENTLY_DEAD ? fetch_deleted_row(c, row, buffer) : row;

	if (seen == HEAPTUPLE_DEAD || whole == NULL)
	{
		/* the next version of a row may wait for this one */
		(void) rewrite_heap_dead_tuple(state, row);
		return;
	}
	c->rows += seen == HEAPTUPLE_LIVE;
	rewrite_heap_tuple(state, row, is_row_complete(whole, desc) ? heap_copytuple(whole) : complete_row(whole, desc));
}

/* Copies rows in the order they have on disk. */
static void
copy_rows_in_order(Compaction *c, TransactionId oldest)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore copy", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	RewriteState state = begin_heap_rewrite(c->old, c->new, oldest, c->frozen, c->oldest_multi);
	TableScanDesc scan = table_beginscan_strat(c->old, SnapshotAny, 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(c->old, NULL);

	es_headway_enter(ES_PHASE_COMPACTING, c->old->rd_rel->reltuples > 0 ? (int64) c->old->rd_rel->reltuples : -1);
	old = MemoryContextSwitchTo(scratch);
	for (int64 n = 1; table_scan_getnextslot(scan, ForwardScanDirection, slot); n++)
	{
		CHECK_FOR_INTERRUPTS();
		es_headway_reach(n);
		copy_row(c, state, slot, oldest);
		if (n % COPIED_ROWS != 0)
			continue;
		write_copy_back(c);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	end_heap_rewrite(state);
	MemoryContextDelete(scratch);
}

/* Copies the rows that any snapshot may still see. */
static void
copy_rows(Compaction *c)
{
	TransactionId oldest;

	/* who is left out does not see rows of later, by their being frozen */
	c->frozen = GetOldestNonRemovableTransactionId(c->old);
	oldest = es_horizon_find(c->old, c->caller);
	if (TransactionIdPrecedes(oldest, c->frozen))
		c->frozen = oldest;
	if (TransactionIdPrecedes(c->frozen, c->old->rd_rel->relfrozenxid))
		c->frozen = c->old->rd_rel->relfrozenxid;
	c->oldest_multi = GetOldestMultiXactId();
	if (MultiXactIdPrecedes(c->oldest_multi, c->old->rd_rel->relminmxid))
		c->oldest_multi = c->old->rd_rel->relminmxid;

	/* values out of line name the TOAST table that their chunks will be in */
	c->new->rd_toastoid = c->old->rd_rel->reltoastrelid;
	copy_rows_in_order(c, oldest);
	c->new->rd_toastoid = InvalidOid;
}

/*
 * Makes the statement that builds an index as another one on the copy, whose file will be
 * used, and no more of it.  One that is not valid, as CREATE INDEX CONCURRENTLY leaves it
 * when it fails, nobody looks into before REINDEX; what it failed for would be in the way
 * here, too, so it gets a file with nothing in it.
 */
static IndexStmt *
make_index_statement(RangeVar *name, Relation index, const AttrMap *same)
{
	Oid			constraint;
	IndexStmt  *statement = generateClonedIndexStmt(name, index, same, &constraint);

	/* of what is a constraint's the copy has the index alone */
	statement->isconstraint = statement->primary = false;
	statement->deferrable = statement->initdeferred = false;
	es_index_forget_overlaps(statement);
	/* not where a setting says */
	if (statement->tableSpace == NULL)
		statement->tableSpace = get_tablespace_name(MyDatabaseTableSpace);
	if (!index->rd_index->indisvalid)
	{
		statement->unique = false;
		statement->excludeOpNames = NIL;
		statement->whereClause = makeBoolConst(false, false);
	}
	return statement;
}

/*
 * Builds on the copy what indexes the segment has, without parallel workers: they would
 * take the processors that appends and readers are to have.
 */
static void
build_indexes(Compaction *c)
{
	AttrMap    *same = make_attrmap(RelationGetDescr(c->old)->natts);
	RangeVar   *name = makeRangeVar(get_namespace_name(RelationGetNamespace(c->new)),
									pstrdup(RelationGetRelationName(c->new)), -1);
	int			nest = NewGUCNestLevel();
	ListCell   *cell;

	(void) set_config_option("max_parallel_maintenance_workers", "0", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	for (int i = 0; i < same->maplen; i++)
		same->attnums[i] = i + 1;
	c->indexes = RelationGetIndexList(c->old);
	es_headway_enter(ES_PHASE_INDEXING, list_length(c->indexes));
	foreach(cell, c->indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		IndexStmt  *statement = make_index_statement(name, index, same);

		index_close(index, NoLock);
		c->copies = lappend_oid(c->copies, es_define_index_copy(RelationGetRelid(c->new), statement).objectId);
		es_headway_add(1);
		CHECK_FOR_INTERRUPTS();
	}
	AtEOXact_GUC(false, nest);
}

/* Makes the copy of a segment that is open and locked. */
static void
make_copy(Compaction *c)
{
	Oid			relid = make_new_heap(RelationGetRelid(c->old), c->old->rd_rel->reltablespace, c->old->rd_rel->relam,
									  c->old->rd_rel->relpersistence, ShareUpdateExclusiveLock);

	c->new = table_open(relid, AccessExclusiveLock);
	copy_rows(c);
	build_indexes(c);
}

/* ---- exchanging ---- */

/* Exchanges what two rows of pg_class say of files, and of what is in them. */
static void
exchange_file_columns(Form_pg_class a, Form_pg_class b)
{
	FormData_pg_class was = *a;

	a->relfilenode = b->relfilenode;
	a->reltablespace = b->reltablespace;
	a->relpages = b->relpages;
	a->reltuples = b->reltuples;
	a->relallvisible = b->relallvisible;
	es_class_set_all_frozen(a, es_class_all_frozen(b));
	b->relfilenode = was.relfilenode;
	b->reltablespace = was.reltablespace;
	b->relpages = was.relpages;
	b->reltuples = was.reltuples;
	b->relallvisible = was.relallvisible;
	es_class_set_all_frozen(b, es_class_all_frozen(&was));
}

/* Gives the row of pg_class of a relation, to be changed. */
static HeapTuple
copy_class_row(Oid relid)
{
	HeapTuple	row = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return row;
}

/*
 * Gives a relation the file of another one, and the other way round.  Both are locked
 * against everybody.  Of tables the first one has no older transaction ids then than these.
 */
static void
exchange_files(const Compaction *c, Oid relid, Oid other)
{
	Relation	pg_class = table_open(RelationRelationId, RowExclusiveLock);
	CatalogIndexState indexes = CatalogOpenIndexes(pg_class);
	HeapTuple	row = copy_class_row(relid);
	HeapTuple	other_row = copy_class_row(other);
	Form_pg_class form = (Form_pg_class) GETSTRUCT(row);
	Relation	rel = relation_open(relid, NoLock);
	Relation	other_rel = relation_open(other, NoLock);

	if (!OidIsValid(form->relfilenode))
		elog(ERROR, "relation %u is mapped", relid);
	exchange_file_columns(form, (Form_pg_class) GETSTRUCT(other_row));
	if (form->relkind != RELKIND_INDEX)
	{
		form->relfrozenxid = c->frozen;
		form->relminmxid = c->oldest_multi;
	}
	es_relation_take_new_file(rel, other_rel);
	relation_close(rel, NoLock);
	relation_close(other_rel, NoLock);
	CatalogTupleUpdateWithInfo(pg_class, &row->t_self, row, indexes);
	CatalogTupleUpdateWithInfo(pg_class, &other_row->t_self, other_row, indexes);
	CatalogCloseIndexes(indexes);
	table_close(pg_class, RowExclusiveLock);
	heap_freetuple(row);
	heap_freetuple(other_row);
	es_relation_close_files(relid);
	es_relation_close_files(other);
}

/* Exchanges the files of two TOAST tables, and of their indexes. */
static void
exchange_toast_files(const Compaction *c)
{
	Oid			toast = c->old->rd_rel->reltoastrelid;
	Oid			copy = c->new->rd_rel->reltoastrelid;

	if (!OidIsValid(toast))
		return;
	LockRelationOid(toast, AccessExclusiveLock);
	LockRelationOid(copy, AccessExclusiveLock);
	exchange_files(c, toast, copy);
	exchange_files(c, toast_get_valid_index(toast, AccessExclusiveLock), toast_get_valid_index(copy, AccessExclusiveLock));
}

/* Says how many rows the copy has, and pages, as CREATE INDEX does of what it builds. */
static void
note_size_of_copy(const Compaction *c)
{
	Relation	pg_class = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	row = copy_class_row(RelationGetRelid(c->new));
	Form_pg_class form = (Form_pg_class) GETSTRUCT(row);

	form->relpages = RelationGetNumberOfBlocks(c->new);
	form->reltuples = c->rows;
	form->relallvisible = 0;
	es_class_set_all_frozen(form, 0);
	CatalogTupleUpdate(pg_class, &row->t_self, row);
	table_close(pg_class, RowExclusiveLock);
	heap_freetuple(row);
	CommandCounterIncrement();
}

/* Puts the copy in the segment's place; all is locked by now that others may have open. */
static void
put_copy_in_place(Compaction *c)
{
	ListCell   *index;
	ListCell   *copy;

	TransferPredicateLocksToHeapRelation(c->old);
	note_size_of_copy(c);
	forboth(index, c->indexes, copy, c->copies)
	{
		LockRelationOid(lfirst_oid(index), AccessExclusiveLock);
		LockRelationOid(lfirst_oid(copy), AccessExclusiveLock);
		exchange_files(c, lfirst_oid(index), lfirst_oid(copy));
	}
	exchange_toast_files(c);
	exchange_files(c, RelationGetRelid(c->old), RelationGetRelid(c->new));
}

/* Drops the copy, which has the segment's old files by now. */
static void
drop_copy(Oid relid)
{
	ObjectAddress address = {.classId = RelationRelationId,.objectId = relid};

	CommandCounterIncrement();
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

/*
 * es_compact_segment gives a segment that is complete a new file of what is left of it,
 * in this transaction; false if it cannot be had without stopping others.  This
 * process is the only one that scavenges or seals, which it does for a caller that waits,
 * if there is one.
 */
bool
es_compact_segment(int64 segment, int caller)
{
	Compaction	c = {.caller = caller};
	EsOwnerContext saved;
	List	   *all;
	bool		lost;
	bool		done;
	Oid			copy;

	/* an index that is being made on it, or a restore, may take long */
	if (!OidIsValid(es_segment_relid(segment)) || !ConditionalLockRelationOid(es_segment_relid(segment), ShareRowExclusiveLock))
		return false;
	c.old = es_segment_open(segment, ShareRowExclusiveLock, &lost);
	if (c.old == NULL)
		return false;
	all = list_all_of_table(c.old);
	if (!can_be_locked(all) || !keep_values(c.old))
	{
		table_close(c.old, NoLock);
		return false;
	}
	es_ddl_enter(&saved);
	make_copy(&c);
	copy = RelationGetRelid(c.new);
	done = lock_against_all(all, LOCK_TRIES);
	if (done)
		put_copy_in_place(&c);
	table_close(c.new, NoLock);
	table_close(c.old, NoLock);
	drop_copy(copy);
	es_ddl_leave(&saved);
	return done;
}

/* ---- dropping ---- */

/* Drops the table of an empty segment; false if something of a user's depends on it. */
static bool
drop_emptied_table(int64 segment)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	EsOwnerContext saved;
	volatile bool dropped = true;

	es_ddl_enter(&saved);
	(void) set_config_option("eventstore.allow_drop", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		es_ddl_run("DROP TABLE eventstore.%s", es_segment_name(segment));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		dropped = false;
		if (geterrcode() != ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	es_ddl_leave(&saved);
	return dropped;
}

/*
 * es_compact_drop drops a segment that is complete and has no row at all, not even one that
 * an old snapshot might see, in this transaction; not if it has, or cannot be had without
 * stopping others, or users have views of it.
 */
EsDropResult
es_compact_drop(int64 segment)
{
	bool		lost;
	Relation	rel = es_segment_open(segment, ShareRowExclusiveLock, &lost);
	EsSegmentNote emptied = {.sealed = true,.emptied = true,.events = 0};
	List	   *all;
	bool		empty;

	if (rel == NULL)
		return ES_DROP_LATER;
	empty = RelationGetNumberOfBlocks(rel) == 0;
	all = lcons_oid(es_base_oid(&es_base_events), list_all_of_table(rel));
	table_close(rel, NoLock);
	if (!empty || !lock_against_all(all, FEW_TRIES))
		return ES_DROP_LATER;
	if (!drop_emptied_table(segment))
		return ES_DROP_NEVER;
	es_segment_note(segment, &emptied);
	CommandCounterIncrement();
	es_base_announce(&es_base_events);
	return ES_DROPPED;
}
