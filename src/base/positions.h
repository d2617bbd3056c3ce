/*
 * positions.h
 *		Lists of positions, in order, to look positions up in.
 */
#ifndef ES_BASE_POSITIONS_H
#define ES_BASE_POSITIONS_H

#include "base/base.h"

typedef struct EsPositions
{
	int			count;
	int64	   *positions;
} EsPositions;

extern void es_positions_sort(EsPositions *list);
extern bool es_positions_have(const EsPositions *list, int64 position);

#endif							/* ES_BASE_POSITIONS_H */
