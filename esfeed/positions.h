/*
 * positions.h
 *		A set of positions.
 */
#ifndef POSITIONS_H
#define POSITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty set. */
typedef struct Positions
{
	int64_t    *slots;
	size_t		size;			/* a power of two, or 0 */
	size_t		used;			/* slots that are or were taken */
	size_t		count;			/* positions in the set */
} Positions;

extern void positions_add(Positions *set, int64_t position);
extern bool positions_remove(Positions *set, int64_t position);
extern void positions_clear(Positions *set);

#endif							/* POSITIONS_H */
