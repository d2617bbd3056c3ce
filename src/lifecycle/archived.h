/*
 * archived.h
 *		What is known of segments that were given back.
 */
#ifndef ES_LIFECYCLE_ARCHIVED_H
#define ES_LIFECYCLE_ARCHIVED_H

#include "base/base.h"

#include "lifecycle/contents.h"
#include "table/columns.h"

/* A row of eventstore.segments, and what its table had when it was given back. */
typedef struct EsArchived
{
	int64		segment;
	int64		first_position;
	int64		last_position;
	int64		events;			/* -1: not known */
	int64		digest;
	bool		has_digest;		/* es_detach_segments gave it back */
} EsArchived;

extern const EsShape es_archived_shape;

extern bool es_archived_find(int64 segment, EsArchived *row);
extern void es_archived_note(int64 segment, const EsContents *contents);
extern void es_archived_forget(int64 segment);

#endif							/* ES_LIFECYCLE_ARCHIVED_H */
