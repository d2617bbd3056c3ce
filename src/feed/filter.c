/*
 * filter.c
 *		Which events a feed's consumer gets.
 *
 * es_feedfilter_passes is the only place that decides whether an event goes
 * to a consumer; what access rights take from a feed belongs there too.  It may
 * not look into a catalog: a walsender reads options outside a transaction.
 */
#include "feed/filter.h"

/* Compares two positions, for sorting and searching. */
static int
compare_positions(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* es_feedfilter_sort puts positions in order, as they are looked for. */
void
es_feedfilter_sort(EsPositions *list)
{
	qsort(list->positions, list->count, sizeof(int64), compare_positions);
}

/*
 * es_feedfilter_passes tells whether the consumer is to get an event.  May
 * allocate in the current memory context.
 */
bool
es_feedfilter_passes(const EsFeedFilter *filter, const EsEvent *event)
{
	if (event->position <= filter->after_position)
		return false;
	if (filter->stream_prefix && !es_names_begins(DatumGetTextPP(event->stream), filter->stream_prefix))
		return false;
	return es_names_pass(&filter->categories, &filter->types, event);
}

/* es_feedfilter_skips tells whether the consumer goes on without an event that it would get. */
bool
es_feedfilter_skips(const EsFeedFilter *filter, const EsEvent *event)
{
	const EsPositions *skips = &filter->skip_positions;

	return unlikely(skips->count > 0) &&
		bsearch(&event->position, skips->positions, skips->count, sizeof(int64), compare_positions) != NULL;
}
