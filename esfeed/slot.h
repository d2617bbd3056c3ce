/*
 * slot.h
 *		A feed's slot on the server.
 */
#ifndef SLOT_H
#define SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "server.h"

/* What there is under a feed's name. */
typedef struct Slot
{
	bool		exists;
	bool		is_feed;		/* of this database, with our plugin */
	bool		lost;			/* the server has removed WAL that it needs */
	bool		active;
	uint64_t	confirmed;
} Slot;

/* Events up to head come from es_read_all, all later ones from the slot. */
typedef struct Seam
{
	int64_t		head;
	uint64_t	lsn;			/* of a new slot: its start; else: what was
								 * committed is before it */
} Seam;

/* What a feed has, or is to have, narrowed by what was asked for; texts are the caller's. */
typedef struct Definition
{
	char	   *categories;		/* as text[], NULL: all */
	char	   *types;
	char	   *query;			/* of the feed; what was asked for goes beside
								 * it.  NULL: none */
	char	   *format;
} Definition;

extern Outcome slot_find(Server *server, const char *feed, Slot *slot);
extern Outcome slot_create(Server *server, const char *feed, const char *lost, const char *const *wanted, Seam *seam);
extern Outcome slot_definition(Server *server, const char *feed, const char *const *wanted, Definition *definition);
extern void slot_free_definition(Definition *definition);
extern Outcome slot_drop(Server *server, const char *feed);
extern Outcome slot_drop_lost(Server *server, const char *feed);
extern char *slot_unfinished_name(const char *feed);
extern Outcome slot_drop_unfinished(Server *server, const char *feed, bool *dropped);
extern Outcome slot_copy(Server *server, const char *from, const char *to);
extern Outcome slot_head(Server *server, Seam *seam);

#endif							/* SLOT_H */
