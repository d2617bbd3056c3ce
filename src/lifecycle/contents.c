/*
 * contents.c
 *		What the table of a segment holds, read as a whole.
 *
 * A digest tells whether a table that comes back from an archive has the events that
 * it had when it left.  It is the sum of a hash of each event, so the order in which
 * they are stored does not matter, nor what a dump does not keep: where values are, how
 * they are compressed, what is dead between them.  It guards against mistakes and
 * not against somebody who computes an event to fit.  Hashes, and jsonb as it is
 * stored, are those of the machine's byte order.
 */
#include "lifecycle/contents.h"

#include "access/tableam.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "shared/headway.h"
#include "table/rows.h"

/* Goes on with a hash by the bytes of a stored value, which may be compressed or out of line. */
static uint64
hash_stored_value(Datum value, uint64 seed)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), seed);
}

/* Hashes all that an event is. */
static int64
hash_stored_event(const EsEvent *event)
{
	int64		numbers[] = {
		event->position, event->stream_id, event->version, event->recorded_at, event->category_key,
		event->type_version, event->run_length, event->id_given
	};
	uint64		hash = hash_bytes_extended((const unsigned char *) numbers, sizeof(numbers), 0);

	hash = hash_bytes_extended(event->event_id.data, UUID_LEN, hash);
	hash = hash_stored_value(event->stream, hash);
	hash = hash_stored_value(event->type, hash);
	hash = hash_stored_value(event->data, hash);
	return (int64) hash_stored_value(event->metadata, hash);
}

/* Takes an event into what has been found. */
static void
add_to_contents(EsContents *contents, const EsEvent *event, TransactionId writer)
{
	if (contents->events++ == 0)
		contents->first_position = contents->last_position = event->position;
	contents->first_position = Min(contents->first_position, event->position);
	contents->last_position = Max(contents->last_position, event->position);
	contents->newest = Max(contents->newest, event->recorded_at);
	contents->digest = (int64) ((uint64) contents->digest + (uint64) hash_stored_event(event));
	if (TransactionIdIsNormal(writer) &&
		(!TransactionIdIsValid(contents->writer) || TransactionIdPrecedes(contents->writer, writer)))
		contents->writer = writer;
}

/*
 * es_contents_look reads all events of a table that has the columns of a segment, is
 * open, and locked against changes; as they are committed now.
 */
void
es_contents_look(Relation rel, EsContents *contents)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore contents", ALLOCSET_DEFAULT_SIZES);
	Snapshot	snapshot = es_rows_fresh_snapshot();
	TableScanDesc scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	memset(contents, 0, sizeof(*contents));
	contents->newest = DT_NOBEGIN;
	es_headway_enter(ES_PHASE_CHECKING, RelationGetNumberOfBlocks(rel));
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		EsEvent		event;

		CHECK_FOR_INTERRUPTS();
		es_event_deform(slot, &event, true);
		add_to_contents(contents, &event, es_rows_slot_xmin(slot));
		es_headway_reach(ItemPointerGetBlockNumber(&slot->tts_tid));
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(scratch);
}

/* es_contents_all_frozen tells whether every page of a table is marked as seen by all, for ever. */
bool
es_contents_all_frozen(Relation rel)
{
	BlockNumber visible;
	BlockNumber frozen;

	visibilitymap_count(rel, &visible, &frozen);
	return frozen == RelationGetNumberOfBlocks(rel);
}
