/*
 * positions.c
 *		Lists of positions, in order, to look positions up in.
 */
#include "base/positions.h"

/* Compares two positions, for sorting and searching. */
static int
compare_positions(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* es_positions_sort puts a list in order. */
void
es_positions_sort(EsPositions *list)
{
	qsort(list->positions, list->count, sizeof(int64), compare_positions);
}

/* es_positions_have tells whether a list, which is in order, has a position. */
bool
es_positions_have(const EsPositions *list, int64 position)
{
	return list->count > 0 &&
		bsearch(&position, list->positions, list->count, sizeof(int64), compare_positions) != NULL;
}
