/*
 * tagged.h
 *		Events by types and tags: reading them, and finding candidates for conditions.
 */
#ifndef ES_READ_TAGGED_H
#define ES_READ_TAGGED_H

#include "base/base.h"

#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "base/names.h"

/* What events a condition, or a read, is about: of one of the types, with all of the tags. */
typedef struct EsTagQuery
{
	EsNames		types;
	EsNames		tags;
	int64		after;
	int64		upto;
} EsTagQuery;

/* Called for each candidate; false ends the scan.  The slot holds the event. */
typedef bool (*EsTagCallback) (TupleTableSlot *slot, const EsEvent *event, void *arg);

extern void es_tagged_query_args(EsTagQuery *query, FunctionCallInfo fcinfo, int types_argno, int tags_argno);
extern bool es_tagged_matches(const EsTagQuery *query, const EsEvent *event);
extern void es_tagged_scan(const EsTagQuery *query, Snapshot *snapshot, EsTagCallback callback, void *arg);

#endif							/* ES_READ_TAGGED_H */
