/*
 * run.h
 *		One run of esfeed: what is delivered where, and how far it is.
 */
#ifndef RUN_H
#define RUN_H

#include "options.h"
#include "positions.h"
#include "server.h"
#include "sink.h"
#include "slot.h"
#include "state.h"

/* How often what was delivered is made durable and confirmed, in milliseconds. */
#define CHECKPOINT_MS 1000

/* For how long a feed may be in use at the start, in milliseconds. */
#define IN_USE_MS 10000

/* The end of a commit: what was delivered until then. */
typedef struct Mark
{
	uint64_t	accepted;		/* messages that the sink had been given */
	uint64_t	lsn;
	int64_t		offset;			/* for State; -1: it stays as it is */
} Mark;

typedef struct Run
{
	const Options *options;
	char	   *categories;		/* as text[], NULL: all */
	char	   *types;
	Sink	   *sink;
	Server		server;
	State		state;			/* what holds for good */
	bool		first;			/* no stream has begun yet */
	bool		in_use;			/* by another consumer, when last looked at */
	bool		building;		/* history is not complete, the feed has
								 * another name until then */
	Positions	seen;			/* what may come again, and the sink has */
	uint64_t	seen_until;		/* nothing of it comes after that LSN */

	/* of the stream */
	uint64_t	boundary;		/* the sink was given all commits before it */
	int64_t    *open;			/* positions given of the commit after
								 * boundary */
	size_t		open_count;
	size_t		open_size;
	Mark	   *marks;			/* commits that are not durable yet */
	size_t		mark_count;
	size_t		mark_size;
	uint64_t	target;			/* of --until-caught-up */

	/* while waiting for the sink */
	void		(*tick) (struct Run *run);
} Run;

extern bool run_take(Run *run, const char *text, size_t length, int64_t *position);
extern void run_mark(Run *run, uint64_t lsn);
extern bool run_settle_marks(Run *run);
extern bool run_drain(Run *run);
extern void run_reset_stream(Run *run, uint64_t lsn);

/* attach.c, history.c, stream.c */
extern Outcome run_attach(Run *run);
extern Outcome run_deliver_history(Run *run);
extern Outcome run_deliver_stream(Run *run);

#endif							/* RUN_H */
