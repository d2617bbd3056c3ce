/*
 * option.h
 *		What a feed's consumer asked for, and the filter that follows from it.
 */
#ifndef ES_FEED_OPTION_H
#define ES_FEED_OPTION_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "base/event.h"
#include "base/names.h"

typedef enum EsFeedFormat
{
	ES_FEED_JSON,
	ES_FEED_CLOUDEVENTS
} EsFeedFormat;

typedef enum EsFeedOrigin
{
	ES_FEED_ANY,
	ES_FEED_NONE				/* only what was appended on this server */
} EsFeedOrigin;

/* Positions, in order. */
typedef struct EsPositions
{
	int			count;
	int64	   *positions;
} EsPositions;

/* The options of the output plugin; all of it lives as long as the options do. */
typedef struct EsFeedOptions
{
	EsFeedFormat format;
	EsFeedOrigin origin;
	EsNames		categories;
	EsNames		types;
	char	   *stream_prefix;	/* NULL: all */
	int64		after_position;
	EsPositions skip_positions;
	bool		include_transaction;
	bool		streaming;
	bool		two_phase;
} EsFeedOptions;

extern EsFeedOptions *es_feedoption_read(List *options);
extern EsFeedFormat es_feedoption_format(const char *value);
extern bool es_feedoption_passes(const EsFeedOptions *options, const EsEvent *event);
extern bool es_feedoption_skips(const EsFeedOptions *options, const EsEvent *event);

#endif							/* ES_FEED_OPTION_H */
