/*
 * arena.h
 *		Memory for keys: not swapped out, not in core dumps, wiped.
 */
#ifndef ES_SECRET_ARENA_H
#define ES_SECRET_ARENA_H

#include "base/base.h"

#define ES_ARENA_SLOT	32		/* bytes */

/* Slots that the session has, each for one thing. */
typedef enum EsArenaPlace
{
	ES_ARENA_MASTER,			/* what wraps keys */
	ES_ARENA_OTHER,				/* the same, of another master key */
	ES_ARENA_SCRATCH,
	ES_ARENA_OUTPUT,			/* of a command; four slots */
	ES_ARENA_PLACES = ES_ARENA_OUTPUT + 4
} EsArenaPlace;

extern uint8 *es_arena_place(EsArenaPlace place);
extern void es_arena_wipe_place(EsArenaPlace place, int slots);
extern uint8 *es_arena_take(void);
extern void es_arena_wipe_taken(void);

#endif							/* ES_SECRET_ARENA_H */
