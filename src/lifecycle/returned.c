/*
 * returned.c
 *		What is to be done again once a segment is back.
 *
 * While a segment is away, events of it may be hidden, and streams lose the mark that some
 * of their events are hidden once none of those that are here is left (remove.c).  So when
 * it is back, the streams in it that have been truncated are marked again; whose mark is
 * not due loses it the next time that somebody scavenges.
 */
#include "lifecycle/returned.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/owner.h"
#include "log/segment.h"
#include "segment/ddl.h"
#include "stream/change.h"
#include "stream/stream.h"
#include "table/rows.h"

#define STREAMS_BATCH	200		/* in a transaction */

/* Lists the streams of a segment that have been truncated and have no mark, as texts. */
static List *
find_truncated_streams(int64 segment, MemoryContext context)
{
	EsOwnerContext saved;
	List	   *names = NIL;

	StartTransactionCommand();
	es_ddl_enter(&saved);
	if (SPI_execute(psprintf("SELECT s.name FROM eventstore.streams s WHERE NOT s.has_hidden"
							 " AND s.truncated_before OPERATOR(pg_catalog.>) 1 AND EXISTS (SELECT FROM eventstore.%s e"
							 " WHERE e.stream_id OPERATOR(pg_catalog.=) s.stream_id)", es_segment_name(segment)),
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for truncated streams");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		name = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		names = lappend(names, DatumGetTextPCopy(name));
		MemoryContextSwitchTo(old);
	}
	es_ddl_leave(&saved);
	CommitTransactionCommand();
	return names;
}

/* Tells whether a stream cannot be changed because its last event is away. */
static bool
has_lost_tip(const text *name)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsStream	stream;
	bool		lost = es_stream_find(name, &snapshot, true, &stream) && es_segment_is_lost(stream.last_segment);

	UnregisterSnapshot(snapshot);
	return lost;
}

/* Marks a stream, if it can be changed. */
static void
mark_stream_hidden(const text *name)
{
	EsChange	change;

	if (has_lost_tip(name) || es_change_begin(&change, name, true) != ES_CHANGE_OPEN)
		return;
	change.stream.has_hidden = true;
	change.stream.name = name;
	es_change_write(&change);
	es_change_end(&change);
}

/*
 * es_returned_mark_hidden marks the streams of a segment that may have hidden events there;
 * in a worker, outside of transactions.
 */
void
es_returned_mark_hidden(int64 segment)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore returned", ALLOCSET_DEFAULT_SIZES);
	List	   *names = find_truncated_streams(segment, context);
	int			count = list_length(names);

	for (int i = 0; i < count; i += STREAMS_BATCH)
	{
		StartTransactionCommand();
		for (int n = i; n < Min(count, i + STREAMS_BATCH); n++)
			mark_stream_hidden(list_nth(names, n));
		CommitTransactionCommand();
	}
	MemoryContextDelete(context);
}
