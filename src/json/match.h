/*
 * match.h
 *		Queries: which events somebody asks for, and whether an event is one of them.
 */
#ifndef ES_JSON_MATCH_H
#define ES_JSON_MATCH_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "base/event.h"
#include "base/names.h"

/* An item: events of one of the types that have all the tags. */
typedef struct EsQueryItem
{
	EsNames		types;			/* not set: any */
	EsNames		tags;			/* not set: any */
	bool		last;			/* only the last one of the log */
} EsQueryItem;

/* A query: events that an item is about.  Lives where it was made; NULL for all events. */
typedef struct EsQuery
{
	int			count;
	EsQueryItem *items;
	bool		all_tagged;		/* each item has tags: no other events match */
	struct EsQueryIndex *index; /* of the items, if there are many; or NULL */
} EsQuery;

extern EsQuery *es_match_query_from_json(Jsonb *json);
extern EsQuery *es_match_query_of_stored(Jsonb *json);
extern Jsonb *es_match_query_or_none(Jsonb *json);
extern EsQuery *es_match_query_arg(FunctionCallInfo fcinfo, int argno);
extern EsQuery *es_match_query_of(const EsNames *types, const EsNames *tags);
extern void es_match_query_check_followed(const EsQuery *query);
extern int64 es_match_tag_key(const EsQueryItem *item, int tag);
extern bool es_match_tag_sets(const EsQuery *query, int most, uint64 *sets);
extern bool es_match_item(const EsQueryItem *item, const EsEvent *event);
extern bool es_match_query(const EsQuery *query, const EsEvent *event);

#endif							/* ES_JSON_MATCH_H */
