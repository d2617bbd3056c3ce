/*
 * query.h
 *		The events of a segment, or of a range, that a query asks for, by index.
 */
#ifndef ES_READ_QUERY_H
#define ES_READ_QUERY_H

#include "base/base.h"

#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "base/names.h"
#include "json/match.h"
#include "log/scan.h"
#include "table/table.h"

/* A query with what the log says of it. */
typedef struct EsQuestion
{
	const EsQuery *query;
	int64	   *last;			/* of items that ask for the last event, its
								 * position, 0 for none; NULL: these ask for
								 * all of theirs */
} EsQuestion;

/* What of a segment is asked for. */
typedef struct EsQueryRange
{
	int64		segment;
	int64		after;			/* positions after this one */
	int64		upto;			/* and up to this one */
	bool		backwards;
	Snapshot   *snapshot;		/* fresh, or dirty */
	EsScanCounts *counts;		/* or NULL */
} EsQueryRange;

/* Goes over a segment's events that match. */
typedef struct EsQueryScan
{
	bool		open;			/* stands on an event */
	EsEvent		event;			/* the event */
	TupleTableSlot *slot;		/* that holds it */
	const EsQuestion *question;
	EsQueryRange range;
	struct EsQueryPaths *paths;
} EsQueryScan;

extern void es_query_open(EsQueryScan *scan, const EsQuestion *question, const EsQueryRange *range);
extern void es_query_advance(EsQueryScan *scan);
extern void es_query_give_out(EsQueryScan *scan);
extern void es_query_close(EsQueryScan *scan);

/* Called for each event that matches; false ends the scan. */
typedef bool (*EsQueryCallback) (TupleTableSlot *slot, const EsEvent *event, void *arg);

extern void es_query_each(const EsQuestion *question, EsQueryRange range, EsQueryCallback callback, void *arg);
extern bool es_query_is_ruled_out(const EsQuery *query, EsTable *open, int64 after, int64 upto);
extern EsQuestion es_query_ask(const EsQuery *query, const EsNames *categories, int64 after, int64 settled,
							   Snapshot *snapshot);

#endif							/* ES_READ_QUERY_H */
