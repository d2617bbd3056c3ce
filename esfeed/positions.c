/*
 * positions.c
 *		A set of positions: a hash table with open addressing.
 *
 * Positions are 1 or more, so 0 is a free slot and -1 one that was freed.
 */
#include "positions.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define FREE 0
#define FREED (-1)

/* Gives the slot where the search for a position begins. */
static size_t
first_slot(const Positions *set, int64_t position)
{
	uint64_t	hash = (uint64_t) position * UINT64_C(0x9E3779B97F4A7C15);

	return (size_t) (hash >> 20) & (set->size - 1);
}

/* Puts a position, which is not there yet, where there is room. */
static void
put_position(Positions *set, int64_t position)
{
	size_t		slot = first_slot(set, position);

	while (set->slots[slot] != FREE)
		slot = (slot + 1) & (set->size - 1);
	set->slots[slot] = position;
	set->used++;
	set->count++;
}

/* Makes room for more, and forgets slots that were freed. */
static void
grow_set(Positions *set)
{
	Positions	old = *set;

	set->size = 1024;
	while (set->size < old.count * 4)
		set->size *= 2;
	set->slots = get_zeroed(set->size * sizeof(int64_t));
	set->used = set->count = 0;
	for (size_t i = 0; i < old.size; i++)
		if (old.slots[i] > 0)
			put_position(set, old.slots[i]);
	free(old.slots);
}

/* Finds a position; NULL if it is not in the set. */
static int64_t *
find_position(const Positions *set, int64_t position)
{
	if (set->count == 0)
		return NULL;
	for (size_t slot = first_slot(set, position); set->slots[slot] != FREE; slot = (slot + 1) & (set->size - 1))
		if (set->slots[slot] == position)
			return &set->slots[slot];
	return NULL;
}

/* positions_add adds a position; again is nothing. */
void
positions_add(Positions *set, int64_t position)
{
	if (find_position(set, position) != NULL)
		return;
	if (set->used + 1 > set->size / 2)
		grow_set(set);
	put_position(set, position);
}

/* positions_remove takes a position out, and tells whether it was there. */
bool
positions_remove(Positions *set, int64_t position)
{
	int64_t    *slot = find_position(set, position);

	if (slot == NULL)
		return false;
	*slot = FREED;
	if (--set->count == 0)
		positions_clear(set);
	return true;
}

/* positions_clear empties the set and frees its memory. */
void
positions_clear(Positions *set)
{
	free(set->slots);
	memset(set, 0, sizeof(*set));
}
