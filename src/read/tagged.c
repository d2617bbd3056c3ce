/*
 * tagged.c
 *		Reading by query, and by tags, which is short for a query of one item.
 */
#include "read/tagged.h"

#include "base/call.h"
#include "base/names.h"
#include "json/match.h"

PG_FUNCTION_INFO_V1(es_read_query);
PG_FUNCTION_INFO_V1(es_read_tagged);

/* es_tagged_query_arguments takes the arguments of es_read_query. */
void
es_tagged_query_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter)
{
	memset(filter, 0, sizeof(*filter));
	filter->query = es_match_query_arg(fcinfo, 0);
	filter->after = es_call_position_arg(fcinfo, 1, "after_position");
	filter->max_count = es_call_limit_arg(fcinfo, 2, "max_count");
	filter->backwards = es_call_flag_arg(fcinfo, 3, "backwards");
	filter->upto = es_call_limit_arg(fcinfo, 4, "to_position");
}

/* es_tagged_arguments takes the arguments of es_read_tagged. */
void
es_tagged_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter)
{
	EsNames		tags;
	EsNames		types;

	memset(filter, 0, sizeof(*filter));
	es_call_require(fcinfo, 0, "tags");
	tags = es_names_arg(fcinfo, 0, ES_NAME_TAG, "tags");
	types = es_names_arg(fcinfo, 1, ES_NAME_TYPE, "types");
	filter->query = es_match_query_of(&types, &tags);
	filter->after = es_call_position_arg(fcinfo, 2, "after_position");
	filter->max_count = es_call_limit_arg(fcinfo, 3, "max_count");
	filter->upto = PG_INT64_MAX;
}

/*
 * es_read_query(query, after_position, max_count, backwards, to_position): events
 * that match a query, each once, in order of position, or backwards.
 *
 * The query is an array of {"types"?: [string, ...], "tags"?: [string, ...], "last"?:
 * boolean}, or an object with it as "items"; an event matches if its type is one of the
 * types and it has all the tags of an item.  "last" asks for the last one only of the
 * item's events, whatever the bounds.  NULL matches everything.
 *
 * Reads up to where all positions are final, as es_read_all does.  What is no query is
 * 22023, and so are a negative position or max_count; NULL after_position or backwards
 * is 22004.  NULL max_count is unlimited.
 */
Datum
es_read_query(PG_FUNCTION_ARGS)
{
	EsLogFilter filter;

	es_tagged_query_arguments(fcinfo, &filter);
	es_log_return(&filter, fcinfo);
	return (Datum) 0;
}

/*
 * es_read_tagged(tags, types, after_position, max_count): events that carry
 * all the tags and have one of the types (NULL: any), in order of position.
 *
 * As es_read_query with one item.  NULL tags or after_position is 22004; a negative
 * after_position or max_count, and a name that no event can have, 22023.
 */
Datum
es_read_tagged(PG_FUNCTION_ARGS)
{
	EsLogFilter filter;

	es_tagged_arguments(fcinfo, &filter);
	es_log_return(&filter, fcinfo);
	return (Datum) 0;
}
