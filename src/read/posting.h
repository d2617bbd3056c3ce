/*
 * posting.h
 *		Where the events of a segment are that an index has under one key: lists of
 *		positions that can be leapt through, in both directions.
 */
#ifndef ES_READ_POSTING_H
#define ES_READ_POSTING_H

#include "base/base.h"

#include "storage/itemptr.h"

#include "log/scan.h"

/* An entry of a list: the position of an event, and where its row is. */
typedef struct EsPostingEntry
{
	int64		position;
	ItemPointerData tid;
} EsPostingEntry;

/* A list, of which some entries have been looked up. */
typedef struct EsPosting
{
	EsSegmentScan *scan;		/* of the index; lists may share one */
	int64		key;			/* what they have in common, if the index has
								 * keys above positions */
	int64		low;			/* positions from this one */
	int64		high;			/* up to this one */
	bool		more;			/* there may be others than those looked up */
	int			ahead;			/* entries to look up at once */
	int			room;			/* for entries */
	int			count;
	int			next;			/* the entry that was sought last */
	EsPostingEntry *entries;
} EsPosting;

extern void es_posting_scan_init(EsSegmentScan *scan, bool keyed, bool backwards);
extern void es_posting_begin(EsPosting *list, EsSegmentScan *scan, int64 key, int64 low, int64 high);
extern const EsPostingEntry *es_posting_seek(EsPosting *list, int64 position);

#endif							/* ES_READ_POSTING_H */
