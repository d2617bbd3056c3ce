/*
 * merge.h
 *		A segment's events of many categories, in order of position.
 */
#ifndef ES_READ_MERGE_H
#define ES_READ_MERGE_H

#include "base/base.h"

#include "read/cursor.h"

/* Goes over the events of many categories. */
typedef struct EsMerge
{
	EsCursor	cursor;			/* has been moved to the event that is next */
	int			ahead;			/* entries that are looked up at a time */
	struct EsMergeEntry *entries;	/* so many for each category */
	struct EsMergeHead *heads;	/* of the categories that have an entry */
	struct binaryheap *order;	/* of heads, by position */
} EsMerge;

extern void es_merge_open(EsMerge *merge, const EsCursorRange *range, const int32 *keys, int nkeys);
extern void es_merge_advance(EsMerge *merge);
extern void es_merge_close(EsMerge *merge);

#endif							/* ES_READ_MERGE_H */
