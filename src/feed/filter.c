/*
 * filter.c
 *		Which events a feed's consumer gets.
 *
 * es_feedfilter_passes is the only place that decides whether an event is for a
 * consumer: the feed lets it through, and the consumer asks for it.  What access rights
 * take from a feed belongs there too.  Of those that
 * pass, es_feedfilter_skips tells which ones the consumer has named to go on
 * without.  Nothing here may look into a catalog: a walsender reads options outside
 * a transaction.
 */
#include "feed/filter.h"

/* Tells whether an event matches a query, if there is one. */
static inline bool
matches_feed_query(const EsQuery *query, const EsEvent *event)
{
	return query == NULL || es_match_query(query, event);
}

/*
 * es_feedfilter_passes tells whether the consumer is to get an event.  May
 * allocate in the current memory context.
 */
bool
es_feedfilter_passes(const EsFeedKept *kept, const EsFeedFilter *filter, const EsEvent *event)
{
	if (event->position <= filter->after_position)
		return false;
	if (filter->stream_prefix && !es_names_begins(DatumGetTextPP(event->stream), filter->stream_prefix))
		return false;
	return es_names_pass(&kept->categories, &kept->types, event) &&
		es_names_pass(&filter->categories, &filter->types, event) &&
		matches_feed_query(kept->query, event) && matches_feed_query(filter->query, event);
}

/* es_feedfilter_skips tells whether the consumer goes on without an event that it would get. */
bool
es_feedfilter_skips(const EsFeedFilter *filter, const EsEvent *event)
{
	return unlikely(filter->skip_positions.count > 0) && es_positions_have(&filter->skip_positions, event->position);
}
