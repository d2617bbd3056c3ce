/*
 * contents.h
 *		What the table of a segment holds, read as a whole.
 */
#ifndef ES_LIFECYCLE_CONTENTS_H
#define ES_LIFECYCLE_CONTENTS_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "utils/relcache.h"

/* What a look found. */
typedef struct EsContents
{
	int64		events;
	int64		digest;			/* of all of them, in whatever order they are
								 * stored */
	int64		first_position; /* of what is there; 0: nothing is */
	int64		last_position;
	TimestampTz newest;			/* DT_NOBEGIN: there is nothing */
	TransactionId writer;		/* the last one that some may not see; invalid
								 * if all see all */
} EsContents;

extern void es_contents_look(Relation rel, EsContents *contents);
extern bool es_contents_all_frozen(Relation rel);

#endif							/* ES_LIFECYCLE_CONTENTS_H */
