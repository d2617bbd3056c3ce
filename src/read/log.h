/*
 * log.h
 *		Reading the log in order of position.
 */
#ifndef ES_READ_LOG_H
#define ES_READ_LOG_H

#include "base/base.h"

#include "base/event.h"
#include "base/names.h"
#include "json/match.h"
#include "log/scan.h"

/* What to read. */
typedef struct EsLogFilter
{
	int64		after;			/* positions after this one */
	int64		upto;			/* and up to this one */
	int64		max_count;
	EsNames		categories;
	EsNames		types;
	const text *stream_prefix;	/* or NULL */
	const EsQuery *query;		/* or NULL */
	bool		backwards;		/* from upto on */
	bool		without_metadata;	/* of events, unless a query needs them */
	bool		without_data;	/* nobody looks at it */
	bool		passes_lost;	/* over segments that are lost, unless there
								 * is a query */
	int64		proven;			/* a read has come so far: positions up to
								 * here are final */
	int64		settled;		/* known to be settled: the read goes no
								 * further, and asks no more; 0: not known */
	bool		(*wants) (const EsEvent *event, void *arg); /* whether the caller
															 * wants an event that
															 * passes; NULL: all of
															 * them */
	bool		enough;			/* set by the callback: the read ends there */
	EsScanCounts *counts;		/* or NULL */
	int64		removed;		/* events that were looked at, and are of the
								 * categories, but did not pass */
} EsLogFilter;

typedef void (*EsEventCallback) (const EsEvent *event, void *arg);

/*
 * Calls back for each event that passes and is wanted, in order of position or its
 * reverse, up to where all are final; returns a position up to which there are no
 * others, which says nothing of a read backwards.
 */
extern void es_log_restrict(EsLogFilter *filter);
extern void es_log_return(EsLogFilter *filter, FunctionCallInfo fcinfo);
extern bool es_log_is_whole(const EsLogFilter *filter);
extern int64 es_log_read(EsLogFilter *filter, EsEventCallback callback, void *arg);

extern Datum es_read_all(PG_FUNCTION_ARGS);
extern Datum es_read_category(PG_FUNCTION_ARGS);
extern void es_log_all_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter);
extern void es_log_category_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter);

#endif							/* ES_READ_LOG_H */
