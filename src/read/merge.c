/*
 * merge.c
 *		A segment's events of many categories, in order of position.
 *
 * One scan serves all categories, as a scan for each would take memory and
 * pin pages without bound.  It looks up each category's next entries, some at a time,
 * and a heap merges them.  Their events are then fetched by where the entries say that
 * they are; should an entry be dead, and its place taken by a younger row since, the
 * snapshot sees neither.  A range must not begin inside a run of one of the categories.
 */
#include "read/merge.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"

#include "log/scan.h"
#include "log/segment.h"

#define MOST_AHEAD		16		/* entries of a category that are looked up at
								 * a time */
#define ENTRIES			65536	/* of all categories, if there are not more of
								 * these */

/* An entry of the index. */
typedef struct EsMergeEntry
{
	int64		position;
	ItemPointerData tid;
} EsMergeEntry;

/* The next entries of a category. */
typedef struct EsMergeHead
{
	int32		key;
	int			count;
	EsMergeEntry *next;			/* of these */
	EsMergeEntry *entries;
} EsMergeHead;

/* Orders heads for a heap, whose first is the greatest: the lowest position. */
static int
compare_merge_heads(Datum a, Datum b, void *arg)
{
	int64		x = ((const EsMergeHead *) DatumGetPointer(a))->next->position;
	int64		y = ((const EsMergeHead *) DatumGetPointer(b))->next->position;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* Looks up a category's next entries after a position; false if there is none. */
static bool
fill_merge_head(EsMerge *merge, EsMergeHead *head, int64 after)
{
	EsSegmentScan *s = &merge->cursor.scan;
	ItemPointer tid;

	s->keys[0].sk_argument = Int32GetDatum(head->key);
	s->keys[1].sk_argument = Int64GetDatum(after);
	index_rescan(s->scan, s->keys, s->nkeys, NULL, 0);
	head->next = head->entries;
	head->count = 0;
	while (head->count < merge->ahead &&
		   (tid = index_getnext_tid(s->scan, ForwardScanDirection)) != NULL)
	{
		head->entries[head->count].position = es_scan_key(s, 2);
		head->entries[head->count++].tid = *tid;
	}
	return head->count > 0;
}

/* Moves a head to the category's next position; false if there is none. */
static bool
advance_merge_head(EsMerge *merge, EsMergeHead *head)
{
	int64		position = head->next->position;

	while (++head->next < head->entries + head->count)
		if (head->next->position != position)
			return true;
	return head->count == merge->ahead && fill_merge_head(merge, head, position);
}

/* Looks up the first entries of the categories. */
static void
find_merge_heads(EsMerge *merge, const int32 *keys, int nkeys)
{
	int			count = 0;

	merge->ahead = Max(Min(ENTRIES / nkeys, MOST_AHEAD), 1);
	merge->heads = palloc(sizeof(EsMergeHead) * nkeys);
	merge->entries = palloc(sizeof(EsMergeEntry) * merge->ahead * nkeys);
	merge->order = binaryheap_allocate(nkeys, compare_merge_heads, NULL);
	for (int i = 0; i < nkeys; i++)
	{
		EsMergeHead *head = &merge->heads[count];

		CHECK_FOR_INTERRUPTS();
		head->key = keys[i];
		head->entries = merge->entries + count * merge->ahead;
		if (!fill_merge_head(merge, head, merge->cursor.range.after))
			continue;
		binaryheap_add_unordered(merge->order, PointerGetDatum(head));
		count++;
	}
	binaryheap_build(merge->order);
}

/* Takes the event of an entry; false if the snapshot does not see it. */
static bool
take_merge_entry(EsCursor *cursor, EsMergeEntry *entry)
{
	EsSegmentScan *s = &cursor->scan;

	if (!table_tuple_fetch_row_version(s->rel, &entry->tid, s->snapshot, s->slot) &&
		!es_scan_fetch_moved(s, cursor->range.segment, entry->position))
		return false;
	es_scan_event(s, &cursor->event);
	es_cursor_accept(cursor, s);
	cursor->category_key = cursor->event.category_key;
	es_cursor_begin_run(cursor);
	return true;
}

/* es_merge_advance moves to the next event; the cursor closes at the end. */
void
es_merge_advance(EsMerge *merge)
{
	if (es_cursor_next_in_run(&merge->cursor))
		return;
	while (!binaryheap_empty(merge->order))
	{
		EsMergeHead *head = (EsMergeHead *) DatumGetPointer(binaryheap_first(merge->order));
		bool		taken;

		CHECK_FOR_INTERRUPTS();
		taken = take_merge_entry(&merge->cursor, head->next);
		if (advance_merge_head(merge, head))
			binaryheap_replace_first(merge->order, PointerGetDatum(head));
		else
			(void) binaryheap_remove_first(merge->order);
		if (taken)
			return;
	}
	es_cursor_close(&merge->cursor);
}

/*
 * es_merge_open begins to go over the events of the categories with some keys, each
 * of which is there once, and moves to the first; the cursor's open tells whether
 * there is one.
 */
void
es_merge_open(EsMerge *merge, const EsCursorRange *range, const int32 *keys, int nkeys)
{
	EsCursor   *cursor = &merge->cursor;
	EsSegmentScan *s = &cursor->scan;

	memset(merge, 0, sizeof(*merge));
	cursor->range = *range;
	cursor->last = range->after;
	s->which = ES_INDEX_CATEGORY;
	s->fresh = range->snapshot;
	s->counts = range->counts;
	s->needed = !range->passes_lost;
	s->own_slot = s->wants_keys = true;
	s->nkeys = 3;
	ScanKeyInit(&s->keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(0));
	ScanKeyInit(&s->keys[1], 2, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(range->after));
	ScanKeyInit(&s->keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(range->upto));
	cursor->open = cursor->scan_open = es_scan_begin(s, range->segment);
	if (!cursor->open)
		return;
	find_merge_heads(merge, keys, nkeys);
	es_merge_advance(merge);
}

/* es_merge_close closes it; the cursor may have closed itself. */
void
es_merge_close(EsMerge *merge)
{
	es_cursor_close(&merge->cursor);
	if (merge->order == NULL)
		return;
	binaryheap_free(merge->order);
	pfree(merge->entries);
	pfree(merge->heads);
}
