/*
 * remove.h
 *		Removing hidden events.
 */
#ifndef ES_LIFECYCLE_REMOVE_H
#define ES_LIFECYCLE_REMOVE_H

#include "base/base.h"

#include "utils/hsearch.h"

/* What was removed of a category; by name. */
typedef struct EsRemoved
{
	const text *category;		/* the key */
	int64		events;
	int64		bytes;
} EsRemoved;

/* What could not be removed, by who needs it. */
typedef struct EsHeldBack
{
	const text *by;				/* the key */
	int64		events;
} EsHeldBack;

/* A removal, in as many transactions as it takes. */
typedef struct EsRemoval
{
	MemoryContext context;		/* of what follows */
	int64		left;			/* events that may still be removed */
	int			rate;			/* events a second; 0: as many as it can */
	HTAB	   *removed;		/* EsRemoved */
	HTAB	   *held_back;		/* EsHeldBack */
	HTAB	   *losses;			/* EsLoss, of segments */
	int64		streams_busy;	/* that others were about to change */
} EsRemoval;

extern void es_remove_begin(EsRemoval *removal, int64 most, int rate);
extern bool es_remove_any_hidden(void);
extern void es_remove_hidden(EsRemoval *removal);

#endif							/* ES_LIFECYCLE_REMOVE_H */
