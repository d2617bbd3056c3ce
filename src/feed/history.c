/*
 * history.c
 *		es_feed_history: the events before a feed's seam, by the feed's filters.
 *
 * A consumer that goes by a query reads its history with it.  What a feed lets through
 * and what the consumer asks for besides may be two queries, both of which an event must
 * match, as in the output plugin.  One leads the read by index, the other one is asked
 * about what is found.
 */
#include "base/base.h"

#include "nodes/execnodes.h"
#include "rights/right.h"
#include "utils/memutils.h"

#include "base/call.h"
#include "base/event.h"
#include "base/names.h"
#include "json/match.h"
#include "read/log.h"

PG_FUNCTION_INFO_V1(es_feed_history);

/* A read by two queries. */
typedef struct HistoryRead
{
	ReturnSetInfo *result;
	const EsQuery *other;		/* that does not lead; or NULL */
	MemoryContext context;		/* for a look at one event */
} HistoryRead;

/* Tells whether an event matches the other query. */
static bool
matches_other_query(const EsEvent *event, void *arg)
{
	HistoryRead *read = arg;
	MemoryContext old = MemoryContextSwitchTo(read->context);
	bool		matches = es_match_query(read->other, event);

	MemoryContextSwitchTo(old);
	MemoryContextReset(read->context);
	return matches;
}

/* Puts an event into the result. */
static void
return_history_event(const EsEvent *event, void *arg)
{
	es_call_return_event(event, ((HistoryRead *) arg)->result);
}

/* Has one query lead, the one that an index helps with if there is one. */
static void
choose_leading_query(EsLogFilter *filter, HistoryRead *read, const EsQuery *asked, const EsQuery *kept)
{
	bool		kept_leads = asked == NULL || (kept && kept->all_tagged && !asked->all_tagged);

	filter->query = kept_leads ? kept : asked;
	read->other = kept_leads ? asked : kept;
	if (read->other)
		filter->wants = matches_other_query;
}

/*
 * es_feed_history(after_position, max_count, categories, types, query, feed_query,
 * to_position): the events that pass all of these filters, in order of position.
 *
 * NULL filters are off.  A query that is none, or has "last", is 22023; types and feed_query
 * may be a feed's, as an earlier release has stored them.  For who has 'read' on
 * the categories, NULL: on '*', else 42501: unlike es_read_all it leaves nothing out, since
 * what follows is read from a slot, which is refused likewise.
 */
Datum
es_feed_history(PG_FUNCTION_ARGS)
{
	EsLogFilter filter = {0};
	HistoryRead read = {0};
	const EsQuery *asked;
	const EsQuery *kept;

	filter.after = es_call_position_arg(fcinfo, 0, "after_position");
	filter.max_count = es_call_limit_arg(fcinfo, 1, "max_count");
	filter.categories = es_names_arg(fcinfo, 2, ES_NAME_CATEGORY, "categories");
	filter.types = es_names_arg(fcinfo, 3, ES_NAME_STORED_TYPE, "types");
	asked = es_match_query_arg(fcinfo, 4);
	kept = PG_ARGISNULL(5) ? NULL : es_match_query_of_stored(PG_GETARG_JSONB_P(5));
	es_match_query_check_followed(asked);
	es_match_query_check_followed(kept);
	filter.upto = es_call_limit_arg(fcinfo, 6, "to_position");
	es_right_require_all(ES_RIGHT_READ, &filter.categories);
	choose_leading_query(&filter, &read, asked, kept);
	read.result = es_call_begin_rows(fcinfo);
	read.context = AllocSetContextCreate(CurrentMemoryContext, "eventstore history", ALLOCSET_SMALL_SIZES);
	(void) es_log_read(&filter, return_history_event, &read);
	MemoryContextDelete(read.context);
	return (Datum) 0;
}
