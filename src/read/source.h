/*
 * source.h
 *		Events of a stream or of the log, given out one by one.
 */
#ifndef ES_READ_SOURCE_H
#define ES_READ_SOURCE_H

#include "base/base.h"

#include "base/event.h"
#include "log/scan.h"
#include "read/log.h"
#include "read/portion.h"
#include "read/read.h"

typedef struct EsSource EsSource;

/* What a source gives out: a part of one stream, or of the log. */
typedef struct EsRead
{
	bool		of_stream;
	EsStreamRange range;		/* of_stream */
	EsLogFilter filter;			/* not of_stream */
} EsRead;

/* What sources have done, for EXPLAIN. */
typedef struct EsSourceCounts
{
	int64		portions;
	int64		events;			/* read; what is rewound counts once */
	int64		removed;		/* by what the arguments say */
	EsScanCounts scans;
} EsSourceCounts;

extern EsSource *es_source_open(const EsRead *read, EsColumns columns, EsSourceCounts *counts);
extern EsEvent *es_source_next(EsSource *source);
extern void es_source_rewind(EsSource *source);
extern void es_source_close(EsSource *source);

#endif							/* ES_READ_SOURCE_H */
