/*
 * filter.h
 *		Which events a feed's consumer gets.
 */
#ifndef ES_FEED_FILTER_H
#define ES_FEED_FILTER_H

#include "base/base.h"

#include "base/event.h"
#include "base/names.h"
#include "base/positions.h"
#include "json/match.h"

/* What the feed lets through, whoever reads it. */
typedef struct EsFeedKept
{
	EsNames		categories;
	EsNames		types;
	const EsQuery *query;		/* NULL: any */
} EsFeedKept;

/* What the consumer asked for; all of it lives as long as the options do. */
typedef struct EsFeedFilter
{
	EsNames		categories;
	EsNames		types;
	const EsQuery *query;		/* NULL: any */
	text	   *stream_prefix;	/* NULL: all */
	int64		after_position;
	EsPositions skip_positions;
} EsFeedFilter;

extern bool es_feedfilter_passes(const EsFeedKept *kept, const EsFeedFilter *filter, const EsEvent *event);
extern bool es_feedfilter_skips(const EsFeedFilter *filter, const EsEvent *event);

#endif							/* ES_FEED_FILTER_H */
