/*
 * posting.c
 *		Where the events of a segment are that an index has under one key: lists of
 *		positions that can be leapt through, in both directions.
 *
 * A list is what an index has under one key, in order of position.  To seek a position
 * in it costs a descent of the index, unless the entry is among those that were looked
 * up with the one before.  How many are looked up at once grows while they are all
 * asked for, and begins anew at a leap.  So whoever leaps far pays for what is leapt to,
 * and whoever walks pays little for each.
 *
 * Lists that share a scan of the index take turns with it, so thousands of lists pin
 * one page.  What an entry says of an event is true for ever; but an entry may be dead,
 * and the place of its row taken by another since: whoever reads the row looks whether
 * it has the position.
 */
#include "read/posting.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"

#define FEWEST_AHEAD	4
#define MOST_AHEAD		64

/*
 * es_posting_scan_init sets the keys of a scan that is to be begun for lists: of an
 * index on positions, or one whose positions come after a key.
 */
void
es_posting_scan_init(EsSegmentScan *scan, bool keyed, bool backwards)
{
	AttrNumber	column = keyed ? 2 : 1;

	scan->needed = scan->own_slot = scan->wants_keys = true;
	scan->backwards = backwards;
	scan->nkeys = 0;
	if (keyed)
		ScanKeyInit(&scan->keys[scan->nkeys++], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(0));
	ScanKeyInit(&scan->keys[scan->nkeys++], column, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(0));
	ScanKeyInit(&scan->keys[scan->nkeys++], column, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(0));
}

/*
 * es_posting_begin begins a list of the positions low to high under a key.  Nothing is
 * looked up yet; what is, lies in the memory context of the first look.
 */
void
es_posting_begin(EsPosting *list, EsSegmentScan *scan, int64 key, int64 low, int64 high)
{
	memset(list, 0, sizeof(*list));
	list->scan = scan;
	list->key = key;
	list->low = low;
	list->high = high;
	list->more = low <= high;
	list->ahead = FEWEST_AHEAD;
}

/* Tells whether a position comes before another one, in the direction of the scan. */
static inline bool
comes_before(const EsPosting *list, int64 a, int64 b)
{
	return list->scan->backwards ? a > b : a < b;
}

/* Makes room for the entries that are to be looked up at once. */
static void
reserve_posting_room(EsPosting *list)
{
	if (list->room >= list->ahead)
		return;
	list->entries = list->entries ? repalloc(list->entries, sizeof(EsPostingEntry) * list->ahead) :
		palloc(sizeof(EsPostingEntry) * list->ahead);
	list->room = list->ahead;
}

/* Looks up entries from a position on, up to another one in the direction of the scan. */
static void
look_up_entries(EsPosting *list, int64 from, int64 to)
{
	EsSegmentScan *scan = list->scan;
	ScanDirection direction = scan->backwards ? BackwardScanDirection : ForwardScanDirection;
	ScanKey		bounds = &scan->keys[scan->nkeys - 2];
	ItemPointer tid;

	scan->keys[0].sk_argument = Int64GetDatum(list->key);
	bounds[0].sk_argument = Int64GetDatum(scan->backwards ? to : from);
	bounds[1].sk_argument = Int64GetDatum(scan->backwards ? from : to);
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
	list->next = list->count = 0;
	while (list->count < list->ahead && (tid = index_getnext_tid(scan->scan, direction)) != NULL)
	{
		EsPostingEntry *entry = &list->entries[list->count++];

		entry->position = es_scan_key(scan, bounds[0].sk_attno);
		entry->tid = *tid;
	}
}

/*
 * How far a leap had better look: as far as twice as many entries as it wants
 * would be if they lay as those that were looked up last.
 */
static int64
guess_span(const EsPosting *list)
{
	int64		span;

	if (list->count < 2)
		return PG_INT64_MAX;
	span = list->entries[list->count - 1].position - list->entries[0].position;
	if (list->scan->backwards)
		span = -span;
	return 2 * span / (list->count - 1) * FEWEST_AHEAD + 1;
}

/*
 * Looks up entries from a position on.  The server reads all of a page that lies within
 * the bounds, which is much where a list is dense and little of it wanted.  So a leap
 * looks not far at first.
 */
static void
fill_posting(EsPosting *list, int64 position, bool leap)
{
	bool		backwards = list->scan->backwards;
	int64		from = backwards ? Min(position, list->high) : Max(position, list->low);
	int64		end = backwards ? list->low : list->high;
	int64		left = backwards ? from - end : end - from;
	int64		span = leap ? guess_span(list) : PG_INT64_MAX;

	list->more = false;
	if (left < 0)
	{
		list->next = list->count = 0;
		return;
	}
	list->ahead = leap ? FEWEST_AHEAD : Min(2 * list->ahead, MOST_AHEAD);
	reserve_posting_room(list);
	if (span < left)
	{
		look_up_entries(list, from, backwards ? from - span : from + span);
		list->more = list->count > 0;
	}
	if (!list->more)
	{
		look_up_entries(list, from, end);
		list->more = list->count == list->ahead;
	}
}

/*
 * es_posting_seek moves a list to its first entry that does not come before a position,
 * and gives it; NULL if there is none.  What comes before the entry that was given last is
 * not come back to.
 */
const EsPostingEntry *
es_posting_seek(EsPosting *list, int64 position)
{
	int64		last = list->count > 0 ? list->entries[list->count - 1].position : 0;
	bool		leap;

	for (; list->next < list->count; list->next++)
		if (!comes_before(list, list->entries[list->next].position, position))
			return &list->entries[list->next];
	if (!list->more)
		return NULL;
	CHECK_FOR_INTERRUPTS();
	/* what follows at once was walked to */
	leap = list->count == 0 || position != (list->scan->backwards ? last - 1 : last + 1);
	fill_posting(list, position, leap);
	return list->count > 0 ? &list->entries[0] : NULL;
}
