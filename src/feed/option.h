/*
 * option.h
 *		What a feed's consumer asked for.
 */
#ifndef ES_FEED_OPTION_H
#define ES_FEED_OPTION_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "feed/filter.h"
#include "json/match.h"

typedef enum EsFeedFormat
{
	ES_FEED_UNSAID,				/* whoever it is of has not chosen one */
	ES_FEED_JSON,
	ES_FEED_CLOUDEVENTS
} EsFeedFormat;

typedef enum EsFeedOrigin
{
	ES_FEED_ANY,
	ES_FEED_NONE				/* only what was appended on this server */
} EsFeedOrigin;

/* The options of the output plugin; all of it lives as long as the options do. */
typedef struct EsFeedOptions
{
	EsFeedFormat format;
	EsFeedOrigin origin;
	EsFeedFilter filter;
	bool		include_transaction;
	bool		streaming;
	bool		two_phase;
} EsFeedOptions;

extern EsFeedOptions *es_feedoption_read(List *options);
extern const EsQuery *es_feedoption_query(const char *value);
extern const EsQuery *es_feedoption_stored_query(const char *value);
extern EsFeedFormat es_feedoption_format(const char *value);
extern EsFeedFormat es_feedoption_agree(EsFeedFormat kept, EsFeedFormat asked);

#endif							/* ES_FEED_OPTION_H */
