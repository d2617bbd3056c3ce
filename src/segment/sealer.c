/*
 * sealer.c
 *		Sealing segments that are complete.
 *
 * A segment gets no more events once every position up to its last is final.  Then it
 * is vacuumed and frozen, once, and its events are counted for good.  That is done by
 * the segment maker that nobody waits for, one at a time.
 *
 * Scavenging takes events out of segments, and what they were counted as with them.  So
 * what is sealed and not counted is vacuumed again, and if much of it is free by then, what is
 * left is put together (compact.c).  What old snapshots may still see cannot be given back:
 * such a segment stays uncounted, until somebody seals after their end.  So does one that somebody
 * has locked.  Whether that was the reason, or that the process ended, the roster tells.
 *
 * A logical subscriber gets the rows that say all this from its publisher, and its tables
 * lose events by replication.  There only the room is given back.
 */
#include "segment/sealer.h"

#include "access/table.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/pg_list.h"
#include "nodes/value.h"
#include "parser/parse_node.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/objects.h"
#include "base/process.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "segment/compact.h"
#include "shared/headway.h"
#include "shared/roster.h"
#include "table/rows.h"

#define LOOKS	1000			/* at pages, for how full a segment is */
#define WORTH	4				/* this part of it is free, or more */
#define SMALL	16				/* pages; it is not worth it */

/* A segment that is to be sealed, or was and has lost events since. */
typedef struct Unsealed
{
	int64		segment;		/* -1: there is none */
	bool		sealed;			/* it was */
	bool		emptied;		/* on a subscriber: the publisher's is gone */
} Unsealed;

/* Tells whether a segment's row says that there is something to do; all: in any case. */
static bool
is_row_unsealed(const EsRows *rows, bool again, bool all)
{
	return all || !DatumGetBool(rows->values[Anum_es_segments_sealed - 1]) ||
		(again && rows->isnull[Anum_es_segments_events - 1]);
}

/*
 * Finds the oldest segment after one that is attached, final up to its last position, and
 * not sealed; again: or not counted; on a logical subscriber, where the publisher says so, any.
 */
static Unsealed
find_unsealed_segment(int64 after, int64 settled, bool again)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock,.fresh = true};
	Unsealed	found = {.segment = -1};
	bool		all = es_subscriber_is();

	es_rows_between(&rows, after, PG_INT64_MAX);
	es_rows_begin(&rows);
	while (found.segment < 0 && es_rows_next(&rows))
	{
		int64		segment = DatumGetInt64(rows.values[Anum_es_segments_segment - 1]);

		CHECK_FOR_INTERRUPTS();
		if (!is_row_unsealed(&rows, again, all) ||
			DatumGetInt64(rows.values[Anum_es_segments_last_position - 1]) > settled ||
			!OidIsValid(es_segment_relid(segment)))
			continue;
		found.segment = segment;
		found.sealed = DatumGetBool(rows.values[Anum_es_segments_sealed - 1]);
		found.emptied = DatumGetBool(rows.values[Anum_es_segments_emptied - 1]);
	}
	es_rows_end(&rows);
	return found;
}

/*
 * es_sealer_has_work tells whether a segment is to be sealed, as far as is known; again: or
 * has lost events since.
 */
bool
es_sealer_has_work(bool again)
{
	return find_unsealed_segment(-1, es_settle_known(), again).segment >= 0;
}

/*
 * Marks a segment as sealed, and counts its events for good, as it gets no more; unless
 * there are some that are gone and not given back.
 */
static void
mark_segment_sealed(int64 segment, bool clean)
{
	EsSegmentNote note = {.sealed = true,.events = clean ? es_scan_count(segment, NULL) : -1};

	es_segment_note(segment, &note);
}

/*
 * Runs VACUUM (FREEZE) on a table, or does without its indexes, which tells soon how much
 * of it is free; unless somebody else vacuums it, say, or makes an index.  Commits the
 * transaction it is called in, and begins another; the statement outlives both.
 */
static void
vacuum_table(char *schema, char *table, bool whole)
{
	MemoryContext old = MemoryContextSwitchTo(PortalContext);
	VacuumStmt *statement = makeNode(VacuumStmt);
	RangeVar   *name = makeRangeVar(pstrdup(schema), pstrdup(table), -1);

	statement->options = list_make2(makeDefElem("freeze", (Node *) makeBoolean(true), -1),
									makeDefElem("skip_locked", (Node *) makeBoolean(true), -1));
	/* parallel workers would take the processors that appends are to have */
	statement->options = lappend(statement->options, makeDefElem("parallel", (Node *) makeInteger(0), -1));
	if (!whole)
		statement->options = lappend(statement->options, makeDefElem("index_cleanup", (Node *) makeString("off"), -1));
	statement->rels = list_make1(makeVacuumRelation(name, InvalidOid, NIL));
	statement->is_vacuumcmd = true;
	MemoryContextSwitchTo(old);
	ExecVacuum(make_parsestate(NULL), statement, true);
	MemoryContextSwitchTo(PortalContext);
}

/*
 * es_sealer_freeze freezes the rows of a table, of a segment or one that is to become one;
 * called in a worker, outside of transactions.
 */
void
es_sealer_freeze(Oid relid)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore freeze", ALLOCSET_DEFAULT_SIZES);
	char	   *table;

	PortalContext = context;	/* ExecVacuum keeps its things there */
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	table = get_rel_name(relid);
	if (table != NULL)
		vacuum_table(get_namespace_name(get_rel_namespace(relid)), table, true);
	CommitTransactionCommand();
	PortalContext = NULL;
	MemoryContextDelete(context);
}

/*
 * Does so with a segment; false if somebody else has it locked.  VACUUM would not tell that, so it
 * is locked before, for the session, as VACUUM's transactions are others than this.
 */
static bool
vacuum_segment(int64 segment, bool whole)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, es_segment_relid(segment));
	if (LockAcquire(&tag, ShareUpdateExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	vacuum_table("eventstore", es_segment_name(segment), whole);
	LockRelease(&tag, ShareUpdateExclusiveLock, true);
	return true;
}

/*
 * Tells whether all of a segment is seen by everybody: nothing is gone that is not given
 * back; *empty becomes whether nothing is there at all.
 */
static bool
is_segment_clean(int64 segment, bool *empty)
{
	bool		lost;
	Relation	rel = es_segment_open(segment, AccessShareLock, &lost);
	BlockNumber visible;
	BlockNumber blocks;

	*empty = false;
	if (rel == NULL)
		return true;
	visibilitymap_count(rel, &visible, NULL);
	blocks = RelationGetNumberOfBlocks(rel);
	table_close(rel, AccessShareLock);
	*empty = blocks == 0;
	return visible == blocks;
}

/* Ends the transaction and begins another one. */
static void
commit_and_go_on(void)
{
	CommitTransactionCommand();
	StartTransactionCommand();
	MemoryContextSwitchTo(PortalContext);
}

/* Adds up how many pages a table has, and how much of them is free, by a sample. */
static void
add_free_space(Relation rel, BlockNumber blocks, double *pages, double *free)
{
	BlockNumber step = Max(blocks / LOOKS, 1);

	for (BlockNumber block = 0; block < blocks; block += step)
	{
		*pages += step;
		*free += step * (double) GetRecordedFreeSpace(rel, block) / BLCKSZ;
	}
}

/*
 * Tells whether so much of a segment is free, by what VACUUM has found out, or because so many
 * bytes have just been removed, that it should be compacted.
 */
static bool
is_worth_compacting(int64 segment, int64 removed)
{
	bool		lost;
	Relation	rel = es_segment_open(segment, AccessShareLock, &lost);
	BlockNumber blocks;
	double		pages = 0;
	double		free = 0;

	if (rel == NULL)
		return false;
	blocks = RelationGetNumberOfBlocks(rel);
	add_free_space(rel, blocks, &pages, &free);
	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);
		BlockNumber more = RelationGetNumberOfBlocks(toast);

		add_free_space(toast, more, &pages, &free);
		blocks += more;
		table_close(toast, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	return (blocks > SMALL && Max(free, (double) removed / BLCKSZ) * WORTH >= pages) ||
		(removed > 0 && blocks > 0 && es_scan_count(segment, NULL) == 0);
}

/*
 * Seals a segment that has just lost some bytes of events, for a caller that waits, or none;
 * false if somebody's lock was in the way of something; then it stays uncounted.
 * What has lost events since it was sealed is looked at first without its indexes, which
 * are made anew if it is compacted; if it has lost so much that this is plain, not at all.
 */
static bool
seal_segment(Unsealed unsealed, int64 removed, int caller)
{
	int64		segment = unsealed.segment;
	bool		plain = unsealed.sealed && is_worth_compacting(segment, removed);
	EsDropResult dropped = ES_DROP_NEVER;
	bool		clean;
	bool		empty;
	bool		all = plain || vacuum_segment(segment, !unsealed.sealed);

	if (plain || is_worth_compacting(segment, removed))
	{
		all &= es_compact_segment(segment, caller);
		commit_and_go_on();
		all &= vacuum_segment(segment, true);
	}
	else if (unsealed.sealed)
		all &= vacuum_segment(segment, true);
	clean = is_segment_clean(segment, &empty);
	if (empty && unsealed.sealed)
		dropped = es_compact_drop(segment);
	all &= dropped != ES_DROP_LATER;
	if (dropped != ES_DROPPED)
		mark_segment_sealed(segment, clean && all);
	return all;
}

/* Compacts a segment of a logical subscriber, or drops it if the publisher's is empty. */
static void
tidy_mirrored_segment(int64 segment, bool emptied)
{
	bool		empty;

	if (is_worth_compacting(segment, 0))
		(void) es_compact_segment(segment, 0);
	else if (emptied && is_segment_clean(segment, &empty) && empty)
		(void) es_compact_drop(segment);
}

/*
 * es_sealer_become makes this the only process that seals or scavenges, until it ends; false
 * if another one is and it is not to be waited for, or the extension is gone.
 */
bool
es_sealer_become(bool wait)
{
	LOCKTAG		tag;
	bool		got = false;

	StartTransactionCommand();
	if (es_base_is_installed())
	{
		tag = es_base_tag(&es_segment_table, 0, ES_SEGMENT_TAG_SEALER);
		got = LockAcquire(&tag, ExclusiveLock, true, !wait) != LOCKACQUIRE_NOT_AVAIL;
		if (got)
			es_process_release_at_exit();
	}
	CommitTransactionCommand();
	return got;
}

/* es_sealer_resign lets others seal and scavenge, while this process goes on. */
void
es_sealer_resign(void)
{
	LOCKTAG		tag;

	StartTransactionCommand();
	if (es_base_is_installed())
	{
		tag = es_base_tag(&es_segment_table, 0, ES_SEGMENT_TAG_SEALER);
		LockRelease(&tag, ExclusiveLock, true);
	}
	CommitTransactionCommand();
}

/* es_sealer_is_at_work tells whether another process seals or scavenges. */
bool
es_sealer_is_at_work(void)
{
	return es_base_is_row_locked(&es_segment_table, 0, ES_SEGMENT_TAG_SEALER);
}

/* How many bytes of events have just been removed from a segment. */
static int64
bytes_removed_from(HTAB *removed, int64 segment)
{
	const EsLoss *loss = removed ? hash_search(removed, &segment, HASH_FIND, NULL) : NULL;

	return loss ? loss->bytes : 0;
}

/*
 * Seals the segments that are final, oldest first: each is vacuumed and frozen once, with
 * its last rows still in memory, and then has no need of vacuum for ever.  False if somebody's
 * lock was in the way.
 */
static bool
seal_segments(const EsSealing *sealing)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore seal",
												  ALLOCSET_DEFAULT_SIZES);
	Unsealed	next = {.segment = -1};
	int64		done = 0;
	bool		all = true;

	PortalContext = context;	/* ExecVacuum keeps its things there */
	es_headway_enter(ES_PHASE_FREEZING, -1);
	do
	{
		StartTransactionCommand();
		next = find_unsealed_segment(next.segment, es_settle_compute(), sealing->again);
		if (next.segment >= 0)
		{
			MemoryContextSwitchTo(context);
			if (es_subscriber_is())
				tidy_mirrored_segment(next.segment, next.emptied);
			else
				all &= seal_segment(next, bytes_removed_from(sealing->removed, next.segment), sealing->caller);
		}
		CommitTransactionCommand();
		es_headway_enter(ES_PHASE_FREEZING, -1);
		es_headway_reach(++done);
		MemoryContextReset(context);
	} while (next.segment >= 0);
	PortalContext = NULL;
	MemoryContextDelete(context);
	return all;
}

/*
 * es_sealer_run seals what is complete, and gives back the room of what was removed, in
 * a worker that es_sealer_become has made the only one; outside of transactions.
 */
void
es_sealer_run(const EsSealing *sealing)
{
	bool		all;

	pgstat_report_activity(STATE_RUNNING, "sealing segments of eventstore.events");
	if (sealing->again)
		es_roster_set_room_left(true);	/* unless it gets to the end */
	all = seal_segments(sealing);
	if (sealing->again || !all)
		es_roster_set_room_left(!all);
}
