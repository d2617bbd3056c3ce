/*
 * log.h
 *		Reading the log in order of position.
 */
#ifndef ES_LOG_H
#define ES_LOG_H

#include "settle.h"

/* A set of names to filter by; unset lets everything pass. */
typedef struct EsNames
{
	bool		set;
	int			count;
	text	  **names;
} EsNames;

/* What to read. */
typedef struct EsLogFilter
{
	int64		after;			/* positions after this one */
	int64		upto;			/* and up to this one */
	int64		max_count;
	EsNames		categories;
	EsNames		types;
	const text *stream_prefix;	/* or NULL */
} EsLogFilter;

extern void es_log_names_arg(EsNames *names, FunctionCallInfo fcinfo, int argno, const char *name);
extern bool es_log_has_name(const EsNames *names, const char *name, int len);
extern void es_log_return_event(const EsEvent *event, void *result);

typedef void (*EsEventCallback) (const EsEvent *event, void *arg);

/*
 * Calls back for each event that passes, in order of position, up to where all
 * are final.
 */
extern void es_log_read(EsLogFilter *filter, EsEventCallback callback, void *arg);

#endif							/* ES_LOG_H */
