/*
 * query.c
 *		The events of a segment, or of a range, that a query asks for, by index.
 *
 * Each item of a query is a path through the segment, which knows where the next event
 * is that may be one of the item's:
 *
 *	- With tags: a list of positions for each tag (posting.c), and what is on all of
 *	  them.  The lists take turns in leaping to where the one before has come to, so
 *	  the path costs what the rarest tag costs.
 *	- Types without tags: a list for each of the types, each a path of its own, if all
 *	  of them have an index here (segment/typeindex.c).  Else the list of all positions,
 *	  which serves the other items, too.
 *	- An item that asks for its last event: the position of that, if it is here.
 *
 * A heap merges the paths; what several of them lead to is looked at once.  Lists lead
 * to what may match: tags may share keys, and rows may be gone.  Events have the last
 * word.
 */
#include "read/query.h"

#include "access/tableam.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "log/scan.h"
#include "log/segment.h"
#include "read/posting.h"

/* The indexes whose entries lead to events. */
typedef enum PathIndex
{
	BY_POSITION,
	BY_TAG,
	PATH_INDEXES
} PathIndex;

/* A way to events that may be those of an item. */
typedef struct QueryPath
{
	const EsQueryItem *item;	/* NULL: those of any item */
	int			nlists;
	EsPosting  *lists;
	const EsPostingEntry *entry;	/* where it has come to */
} QueryPath;

/* The paths through a segment, and the scans that they share. */
typedef struct EsQueryPaths
{
	EsSegmentScan scans[PATH_INDEXES];
	bool		begun[PATH_INDEXES];
	List	   *typed;			/* scans of the indexes of types */
	EsNames		types;			/* that have a path */
	bool		missing;		/* there is no such segment */
	EsSegmentScan *reader;		/* whose table and slot rows are read with */
	int			count;
	int			room;			/* for paths */
	QueryPath  *paths;
	binaryheap *order;			/* of the paths, by where they have come to */
	MemoryContext context;		/* that all this lies in */
	MemoryContext look;			/* for a look at one event */
} EsQueryPaths;

/* ---- paths ---- */

/* Moves a path to its first entry that does not come before a position; false if there is none. */
static bool
seek_on_path(QueryPath *path, int64 position)
{
	int			agreed = 0;

	for (int i = 0; agreed < path->nlists; i = (i + 1) % path->nlists)
	{
		path->entry = es_posting_seek(&path->lists[i], position);
		if (path->entry == NULL)
			return false;
		agreed = path->entry->position == position ? agreed + 1 : 1;
		position = path->entry->position;
	}
	return true;
}

/*
 * Orders paths for a heap, whose first is the greatest: what comes first in the
 * direction of the scan.
 */
static int
compare_query_paths(Datum a, Datum b, void *arg)
{
	int64		x = ((const QueryPath *) DatumGetPointer(a))->entry->position;
	int64		y = ((const QueryPath *) DatumGetPointer(b))->entry->position;
	bool		backwards = ((const EsQueryScan *) arg)->range.backwards;

	if (x == y)
		return 0;
	return (x < y) == backwards ? -1 : 1;
}

/* Begins the scan of an index, if it is not begun; NULL if there is no such segment. */
static EsSegmentScan *
begin_path_scan(EsQueryScan *scan, PathIndex which)
{
	EsQueryPaths *paths = scan->paths;
	EsSegmentScan *s = &paths->scans[which];

	if (paths->begun[which] || paths->missing)
		return paths->missing ? NULL : s;
	s->which = which == BY_TAG ? ES_INDEX_TAG : ES_INDEX_POSITION;
	s->fresh = scan->range.snapshot;
	s->counts = scan->range.counts;
	es_posting_scan_init(s, which == BY_TAG, scan->range.backwards);
	paths->missing = !es_scan_begin(s, scan->range.segment);
	if (paths->missing)
		return NULL;
	paths->begun[which] = true;
	if (paths->reader == NULL)
		paths->reader = s;
	return s;
}

/* Begins the scan of a type's index; NULL if the segment has none, or there is no such segment. */
static EsSegmentScan *
begin_type_scan(EsQueryScan *scan, const text *type)
{
	EsQueryPaths *paths = scan->paths;
	EsSegmentScan *s = palloc0(sizeof(EsSegmentScan));

	s->type = type;
	s->fresh = scan->range.snapshot;
	s->counts = scan->range.counts;
	es_posting_scan_init(s, false, scan->range.backwards);
	if (!es_scan_begin(s, scan->range.segment))
		return NULL;
	paths->typed = lappend(paths->typed, s);
	if (paths->reader == NULL)
		paths->reader = s;
	return s;
}

/* Ends the scans of types' indexes. */
static void
end_type_scans(EsQueryPaths *paths)
{
	ListCell   *cell;

	foreach(cell, paths->typed)
	{
		es_scan_end(lfirst(cell));
		if (paths->reader == lfirst(cell))
			paths->reader = NULL;
	}
	paths->typed = NIL;
}

/* Adds a path with room for some lists. */
static QueryPath *
add_query_path(EsQueryPaths *paths, const EsQueryItem *item, int nlists)
{
	QueryPath  *path;

	if (paths->count == paths->room)
	{
		paths->room = Max(2 * paths->room, 8);
		paths->paths = paths->paths ? repalloc_huge(paths->paths, sizeof(QueryPath) * paths->room) :
			palloc(sizeof(QueryPath) * paths->room);
	}
	path = &paths->paths[paths->count++];
	path->item = item;
	path->lists = palloc(sizeof(EsPosting) * nlists);
	path->nlists = nlists;
	path->entry = NULL;
	return path;
}

/* Adds a path over positions from low to high. */
static void
add_position_path(EsQueryScan *scan, const EsQueryItem *item, int64 low, int64 high)
{
	EsSegmentScan *s = begin_path_scan(scan, BY_POSITION);

	if (s)
		es_posting_begin(add_query_path(scan->paths, item, 1)->lists, s, 0, low, high);
}

/* Adds a path over what has all tags of an item. */
static void
add_tag_path(EsQueryScan *scan, const EsQueryItem *item)
{
	EsSegmentScan *s = begin_path_scan(scan, BY_TAG);
	QueryPath  *path;

	if (s == NULL)
		return;
	path = add_query_path(scan->paths, item, item->tags.count);
	for (int i = 0; i < item->tags.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		es_posting_begin(&path->lists[i], s, es_match_tag_key(item, i), scan->range.after + 1, scan->range.upto);
	}
}

/* Tells whether an item asks for its last event only. */
static inline bool
asks_for_last(const EsQuestion *question, int item)
{
	return question->last && question->query->items[item].last;
}

/* Tells whether an item is about nothing: an empty list of types. */
static inline bool
asks_for_nothing(const EsQueryItem *item)
{
	return item->types.set && item->types.count == 0;
}

/* Tells whether an item's events are not found by tags. */
static bool
needs_types(const EsQuestion *question, int number)
{
	const EsQueryItem *item = &question->query->items[number];

	return item->tags.count == 0 && !asks_for_nothing(item) && !asks_for_last(question, number);
}

/*
 * Adds the paths of an item of types without tags; false if one of the types has no
 * index here.  A type has one path, however many items name it: each takes all that is
 * on it.
 */
static bool
add_type_paths(EsQueryScan *scan, const EsQueryItem *item)
{
	for (int i = 0; item->types.set && i < item->types.count; i++)
	{
		EsSegmentScan *s;

		CHECK_FOR_INTERRUPTS();
		if (!es_names_add(&scan->paths->types, item->types.names[i]))
			continue;
		s = begin_type_scan(scan, item->types.names[i]);
		if (s == NULL)
			return false;
		es_posting_begin(add_query_path(scan->paths, item, 1)->lists, s, 0,
						 scan->range.after + 1, scan->range.upto);
	}
	return item->types.set;
}

/* Adds the paths of the items that have types only; false if that takes a look at all events. */
static bool
add_paths_by_type(EsQueryScan *scan)
{
	const EsQuestion *question = scan->question;

	for (int i = 0; i < question->query->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (needs_types(question, i) && !add_type_paths(scan, &question->query->items[i]))
			return false;
	}
	return true;
}

/* Adds the path of an item with tags, or of one that asks for its last event. */
static void
add_item_path(EsQueryScan *scan, int number)
{
	const EsQueryItem *item = &scan->question->query->items[number];
	int64		last;

	if (asks_for_nothing(item) || needs_types(scan->question, number))
		return;
	if (!asks_for_last(scan->question, number))
	{
		add_tag_path(scan, item);
		return;
	}
	last = scan->question->last[number];
	if (last > scan->range.after && last <= scan->range.upto && es_segment_of(last) == scan->range.segment)
		add_position_path(scan, item, last, last);
}

/* Adds the paths that a question takes through a segment. */
static void
find_query_paths(EsQueryScan *scan)
{
	EsQueryPaths *paths = scan->paths;

	if (!add_paths_by_type(scan))
	{
		end_type_scans(paths);
		paths->count = 0;
		add_position_path(scan, NULL, scan->range.after + 1, scan->range.upto);
		return;
	}
	for (int i = 0; i < scan->question->query->count && !paths->missing; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_item_path(scan, i);
	}
}

/* Moves the paths to where they begin. */
static void
begin_query_paths(EsQueryScan *scan)
{
	EsQueryPaths *paths = scan->paths;
	int64		begin = scan->range.backwards ? scan->range.upto : scan->range.after + 1;

	paths->order = binaryheap_allocate(Max(paths->count, 1), compare_query_paths, scan);
	for (int i = 0; i < paths->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (seek_on_path(&paths->paths[i], begin))
			binaryheap_add_unordered(paths->order, PointerGetDatum(&paths->paths[i]));
	}
	binaryheap_build(paths->order);
}

/* ---- events ---- */

/* Tells whether an event is what an item asks for. */
static bool
item_asks_for(const EsQuestion *question, int number, const EsEvent *event)
{
	CHECK_FOR_INTERRUPTS();
	if (asks_for_last(question, number))
		return question->last[number] == event->position;
	return es_match_item(&question->query->items[number], event);
}

/* Tells whether the event that was read is what an item asks for whose path leads to it. */
static bool
is_asked_for(const EsQueryScan *scan, const QueryPath *path)
{
	MemoryContext old = MemoryContextSwitchTo(scan->paths->look);
	bool		asked = path->item && es_match_item(path->item, &scan->event);

	for (int i = 0; path->item == NULL && !asked && i < scan->question->query->count; i++)
		asked = item_asks_for(scan->question, i, &scan->event);
	MemoryContextSwitchTo(old);
	MemoryContextReset(scan->paths->look);
	return asked;
}

/* Reads the event that an entry leads to; false if it is not there, or not seen. */
static bool
read_entry_event(EsQueryScan *scan, const EsPostingEntry *entry)
{
	EsSegmentScan *reader = scan->paths->reader;
	ItemPointerData tid = entry->tid;

	if (!table_tuple_fetch_row_version(reader->rel, &tid, reader->snapshot, reader->slot) &&
		!es_scan_fetch_moved(reader, scan->range.segment, entry->position))
		return false;
	es_event_deform(reader->slot, &scan->event, true);
	scan->slot = reader->slot;
	return scan->event.position == entry->position;
}

/*
 * Takes all paths past the position that the first of them has come to; tells whether
 * there is an event that is asked for.
 */
static bool
take_first_position(EsQueryScan *scan)
{
	binaryheap *order = scan->paths->order;
	EsPostingEntry entry = *((QueryPath *) DatumGetPointer(binaryheap_first(order)))->entry;
	int64		next = entry.position + (scan->range.backwards ? -1 : 1);
	bool		there = read_entry_event(scan, &entry);
	bool		asked = false;

	while (!binaryheap_empty(order))
	{
		QueryPath  *path = (QueryPath *) DatumGetPointer(binaryheap_first(order));

		CHECK_FOR_INTERRUPTS();
		if (path->entry->position != entry.position)
			break;
		asked = asked || (there && is_asked_for(scan, path));
		if (seek_on_path(path, next))
			binaryheap_replace_first(order, PointerGetDatum(path));
		else
			(void) binaryheap_remove_first(order);
	}
	return asked;
}

/* es_query_advance moves to the next event; the scan closes at the end. */
void
es_query_advance(EsQueryScan *scan)
{
	while (!binaryheap_empty(scan->paths->order))
		if (take_first_position(scan))
			return;
	es_query_close(scan);
}

/*
 * es_query_open begins to go over the events of a segment that a question asks for, and
 * moves to the first of them; open tells whether there is one.  A segment that is lost
 * is an error.
 */
void
es_query_open(EsQueryScan *scan, const EsQuestion *question, const EsQueryRange *range)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore query", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	memset(scan, 0, sizeof(*scan));
	scan->question = question;
	scan->range = *range;
	scan->paths = palloc0(sizeof(EsQueryPaths));
	scan->paths->context = context;
	scan->paths->look = AllocSetContextCreate(context, "eventstore query look", ALLOCSET_SMALL_SIZES);
	scan->open = true;
	find_query_paths(scan);
	begin_query_paths(scan);
	MemoryContextSwitchTo(old);
	es_query_advance(scan);
}

/*
 * es_query_give_out sees to it that the event that a scan stands on stays readable to
 * the end of the transaction.
 */
void
es_query_give_out(EsQueryScan *scan)
{
	es_scan_give_out(scan->paths->reader, &scan->event);
}

/* es_query_close ends a scan; closing it again does nothing. */
void
es_query_close(EsQueryScan *scan)
{
	if (scan->paths == NULL)
		return;
	end_type_scans(scan->paths);
	for (int i = 0; i < PATH_INDEXES; i++)
		if (scan->paths->begun[i])
			es_scan_end(&scan->paths->scans[i]);
	MemoryContextDelete(scan->paths->context);
	scan->paths = NULL;
	scan->open = false;
}

/* ---- ranges ---- */

/* Hands the events of one segment to a callback; false if it ended the scan. */
static bool
query_segment(const EsQuestion *question, const EsQueryRange *range, EsQueryCallback callback, void *arg)
{
	EsQueryScan scan;
	bool		go_on = true;

	es_query_open(&scan, question, range);
	while (go_on && scan.open)
	{
		go_on = callback(scan.slot, &scan.event, arg);
		if (go_on)
			es_query_advance(&scan);
	}
	es_query_close(&scan);
	return go_on;
}

/*
 * es_query_each hands the events of a range that a question asks for, whatever the segment,
 * to a callback, in order of position or its reverse.
 */
void
es_query_each(const EsQuestion *question, EsQueryRange range, EsQueryCallback callback, void *arg)
{
	int64		newest;
	int64		first;
	int64		last;

	if (range.after >= range.upto)
		return;
	newest = es_segment_newest_reaching(range.upto);
	first = es_segment_of(range.after + 1);
	last = es_segment_of(range.upto);
	last = Min(last, newest);
	for (int64 n = 0; n <= last - first; n++)
	{
		range.segment = range.backwards ? last - n : first + n;
		if (!query_segment(question, &range, callback, arg))
			return;
	}
}

/* Tells whether no entry has all tags of an item, as one look at a leaf shows. */
static bool
is_item_ruled_out(const EsQueryItem *item, EsTable *open, Oid index, const EsQueryRange *range)
{
	for (int i = 0; i < item->tags.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (es_table_is_gap(open, index, es_match_tag_key(item, i), range->after + 1, range->upto))
			return true;
	}
	return asks_for_nothing(item);
}

/*
 * es_query_is_ruled_out tells whether nothing that a query asks for was written before the
 * call, at positions after one and up to another, by whatever transaction, going by tags in
 * a segment that is open for writing.  False also where that takes more than a look at a leaf
 * for each item: then the positions have to be gone over.
 */
bool
es_query_is_ruled_out(const EsQuery *query, EsTable *open, int64 after, int64 upto)
{
	EsQueryRange range = {.segment = es_segment_of(upto),.after = after,.upto = upto};
	Oid			index;

	if (es_segment_of(after + 1) != range.segment || es_segment_relid(range.segment) != RelationGetRelid(open->rel))
		return false;
	index = es_segment_index(range.segment, ES_INDEX_TAG);
	for (int i = 0; i < query->count; i++)
		if (!is_item_ruled_out(&query->items[i], open, index, &range))
			return false;
	return true;
}

/* A search for the position of an event of some categories. */
typedef struct PositionSearch
{
	const EsNames *categories;
	int64		position;		/* 0: not found */
} PositionSearch;

/* Notes the position of an event of the categories, which ends a search. */
static bool
note_position(TupleTableSlot *slot, const EsEvent *event, void *arg)
{
	PositionSearch *search = arg;
	const EsNames all = {0};

	if (!es_names_pass(search->categories, &all, event))
		return true;
	search->position = event->position;
	return false;
}

/*
 * es_query_ask finds out what a query's items ask for that want their last event: of
 * those of some categories up to the settled position, whatever is read of them.  Where
 * that is not after a position, of which nothing is read, it does not matter which it is.
 */
EsQuestion
es_query_ask(const EsQuery *query, const EsNames *categories, int64 after, int64 settled, Snapshot *snapshot)
{
	EsQuestion	question = {.query = query};

	for (int i = 0; i < query->count; i++)
	{
		EsQuery		of_item = {.count = 1,.items = &query->items[i]};
		EsQuestion	about_item = {.query = &of_item};
		PositionSearch search = {.categories = categories};
		EsQueryRange all = {.after = after,.upto = settled,.backwards = true,.snapshot = snapshot};

		if (!query->items[i].last)
			continue;
		if (question.last == NULL)
			question.last = palloc_extended(sizeof(int64) * query->count, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		es_query_each(&about_item, all, note_position, &search);
		question.last[i] = search.position;
	}
	return question;
}
