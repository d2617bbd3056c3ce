/*
 * scavenged.c
 *		What scavenging has removed of a store that is sealed.
 *
 * A leaf whose event is gone is as it should be only if scavenging has taken the event
 * away.  So that is noted, in the transaction that deletes the rows: position, stream and
 * version of each.  A row has those of one batch (lifecycle/remove.c) that are within BLOCK
 * positions, so a range of positions is found by the first one that a row has.  Rows are
 * only added: nobody waits for anybody.
 *
 * What is noted need not have been sealed, and counts for nothing then.
 */
#include "evidence/scavenged.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "base/objects.h"
#include "evidence/varint.h"
#include "table/rows.h"

#define BLOCK	4096			/* positions that one row is about, at most */

#define Anum_scavenged_position		1
#define Anum_scavenged_events		2
#define Natts_scavenged				2

static EsRelation scavenged_table = {"scavenged"};
static EsRelation scavenged_pkey = {"scavenged_pkey",
.index = {.keys = {Anum_scavenged_position},.columns = "position",.unique = true}};

static const EsColumn scavenged_columns[Natts_scavenged] = {{"position", INT8OID}, {"events", BYTEAOID}};
const EsShape es_scavenged_shape = ES_SHAPE(&scavenged_table, &scavenged_pkey, scavenged_columns);

/* A list of events that grows. */
typedef struct EventList
{
	EsScavenged *events;
	int			count;
	int			room;
} EventList;

/* Orders removed events by position. */
static int
compare_scavenged(const void *a, const void *b)
{
	int64		left = ((const EsScavenged *) a)->position;
	int64		right = ((const EsScavenged *) b)->position;

	return left < right ? -1 : left > right;
}

/* ---- reading ---- */

/* A difference, as a number without a sign: small ones stay small. */
static inline uint64
fold_sign(int64 difference)
{
	return ((uint64) difference << 1) ^ (uint64) (difference >> 63);
}

/* The difference again. */
static inline int64
unfold_sign(uint64 number)
{
	return (int64) (number >> 1) ^ -(int64) (number & 1);
}

/* Adds an event to a list. */
static void
add_to_list(EventList *list, const EsScavenged *event)
{
	if (list->count == list->room)
	{
		list->room = Max(2 * list->room, 64);
		list->events = list->events ?
			repalloc_huge(list->events, sizeof(EsScavenged) * list->room) :
			MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsScavenged) * list->room);
	}
	list->events[list->count++] = *event;
}

/* Adds the events of a row that are in a range of positions; what cannot be read is left out. */
static void
unpack_events(const EsRows *rows, int64 first, int64 last, EventList *list)
{
	bytea	   *stored;
	const uint8 *at;
	const uint8 *end;
	EsScavenged event = {0};
	uint64		gap;
	uint64		stream;
	uint64		version;

	if (rows->damaged)
		return;
	stored = DatumGetByteaPP(rows->values[Anum_scavenged_events - 1]);
	at = (const uint8 *) VARDATA_ANY(stored);
	end = at + VARSIZE_ANY_EXHDR(stored);
	event.position = DatumGetInt64(rows->values[Anum_scavenged_position - 1]);
	while (es_varint_read(&at, end, &gap) && es_varint_read(&at, end, &stream) && es_varint_read(&at, end, &version))
	{
		event.position += gap % BLOCK;
		event.stream_id += unfold_sign(stream);
		event.version = version;
		if (event.position >= first && event.position <= last)
			add_to_list(list, &event);
	}
}

/* es_scavenged_any tells whether anything is noted, as a snapshot sees it. */
bool
es_scavenged_any(Snapshot snapshot)
{
	EsRows		rows = {.shape = &es_scavenged_shape,.mode = AccessShareLock,.wary = true,.snapshot = snapshot};
	bool		any;

	es_rows_begin(&rows);
	any = es_rows_next(&rows);
	es_rows_end(&rows);
	return any;
}

/* es_scavenged_read gives what was removed in a range of positions, in order. */
EsScavenged *
es_scavenged_read(int64 first, int64 last, Snapshot snapshot, int *count)
{
	EsRows		rows = {.shape = &es_scavenged_shape,.mode = AccessShareLock,.wary = true,.snapshot = snapshot};
	EventList	list = {0};

	es_rows_between(&rows, first - BLOCK, last);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		CHECK_FOR_INTERRUPTS();
		unpack_events(&rows, first, last, &list);
	}
	es_rows_end(&rows);
	if (list.count > 1)
		qsort(list.events, list.count, sizeof(EsScavenged), compare_scavenged);
	*count = list.count;
	return list.events;
}

/* ---- writing ---- */

/* Makes the stored form of events, in order; of two at one position the first. */
static bytea *
pack_events(const EsScavenged *events, int count)
{
	StringInfoData out;
	EsScavenged before = {.position = events[0].position};

	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && events[i].position == before.position)
			continue;
		es_varint_append(&out, events[i].position - before.position);
		es_varint_append(&out, fold_sign(events[i].stream_id - before.stream_id));
		es_varint_append(&out, events[i].version);
		before = events[i];
	}
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}

/* Adds the events of the row that begins at a position, if there is one, to a list. */
static void
unpack_row_at(int64 position, EventList *list)
{
	EsRows		rows = {.shape = &es_scavenged_shape,.mode = RowExclusiveLock,.fresh = true};

	es_rows_equal(&rows, Int64GetDatum(position));
	es_rows_begin(&rows);
	if (es_rows_next(&rows))
		unpack_events(&rows, position, PG_INT64_MAX, list);
	es_rows_end(&rows);
}

/*
 * Writes a row for some events, in order.  There may be one that begins where they do, if
 * somebody has put an event back.
 */
static void
write_scavenged_row(const EsScavenged *events, int count)
{
	EventList	list = {0};
	Datum		values[Natts_scavenged];
	bool		isnull[Natts_scavenged] = {false};

	unpack_row_at(events[0].position, &list);
	for (int i = 0; i < count; i++)
		add_to_list(&list, &events[i]);
	qsort(list.events, list.count, sizeof(EsScavenged), compare_scavenged);
	values[Anum_scavenged_position - 1] = Int64GetDatum(events[0].position);
	values[Anum_scavenged_events - 1] = PointerGetDatum(pack_events(list.events, list.count));
	es_rows_put(&es_scavenged_shape, values, isnull);
}

/* es_scavenged_note notes that events are removed, in any order, which it changes. */
void
es_scavenged_note(EsScavenged *events, int count)
{
	qsort(events, count, sizeof(EsScavenged), compare_scavenged);
	for (int i = 0, n; i < count; i += n)
	{
		CHECK_FOR_INTERRUPTS();
		for (n = 1; i + n < count && events[i + n].position < events[i].position + BLOCK; n++)
			;
		write_scavenged_row(&events[i], n);
	}
}
