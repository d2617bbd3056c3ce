/*
 * state.h
 *		How far a feed's delivery is, in memory and in a file.
 */
#ifndef STATE_H
#define STATE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum Phase
{
	PHASE_NONE,					/* nothing is known yet */
	PHASE_HISTORY,				/* es_read_all gives events up to head */
	PHASE_STREAM				/* history is there, the slot gives the rest */
} Phase;

/* What filesink.c says of these members is the law. */
typedef struct State
{
	/* whose events they are */
	char	   *system;			/* the cluster's identifier */
	uint32_t	database;		/* OID */
	uint32_t	store;			/* OID of the extension */

	/* which of them, and how they are written */
	char	   *feed;
	char	   *format;
	char	   *categories;
	char	   *types;
	char	   *query;

	/* how far it is */
	Phase		phase;
	int64_t		low;			/* the sink has every event up to it */
	int64_t		head;			/* events after it come from the slot */
	uint64_t	lsn;			/* the sink has every commit before it */
	uint32_t	timeline;		/* of lsn */
	int64_t		length;			/* of the file, as far as it is on disk */
	int64_t		offset;			/* lines that may come again are after it */
} State;

extern bool state_read(State *state, const char *path);
extern void state_write(const State *state, const char *path);

#endif							/* STATE_H */
