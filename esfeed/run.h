/*
 * run.h
 *		One run of esfeed: what is delivered where, and how far it is.
 */
#ifndef RUN_H
#define RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "positions.h"
#include "server.h"
#include "sink.h"
#include "state.h"

/* How often what was delivered is made durable and confirmed, in milliseconds. */
#define CHECKPOINT_MS 1000

/* For how long a feed may be in use at the start, in milliseconds. */
#define IN_USE_MS 10000

/* A place in the stream: all commits before the LSN were given to the sink. */
typedef struct Mark
{
	uint64_t	accepted;		/* messages that the sink had been given */
	uint64_t	lsn;
	int64_t		offset;			/* for State; -1: it stays as it is */
} Mark;

/* Positions of events that were given to the sink. */
typedef struct Given
{
	int64_t    *positions;
	size_t		count;
	size_t		size;
} Given;

typedef struct Run
{
	const Options *options;
	char	   *categories;		/* as asked for, as text[]; NULL: all of the
								 * feed */
	char	   *types;
	Sink	   *sink;
	Server		server;
	State		state;			/* what holds for good */
	bool		first;			/* the feed has not been found yet: what does
								 * not work may be wrong */
	bool		streamed;		/* a stream has begun */
	bool		in_use;			/* by another consumer, when last looked at */
	bool		building;		/* history is not complete, the feed has
								 * another name until then */
	bool		leftover;		/* history is complete, the other name is to
								 * be dropped */
	bool		told_of_hold;	/* that history is read without one */
	Positions	seen;			/* what may come again, and the sink has */
	uint64_t	seen_until;		/* nothing of it comes after that LSN */

	/* of the stream */
	uint64_t	boundary;		/* the LSN of the last mark, or where it began */
	int64_t		boundary_length;	/* of the sink then; -1: something was to
									 * come again */
	Given		before;			/* between the mark before that and the last */
	Given		since;			/* since the last mark */
	Mark	   *marks;			/* those that are not durable yet */
	size_t		mark_count;
	size_t		mark_size;
	uint64_t	target;			/* of --until-caught-up */

	/* while waiting for the sink */
	void		(*tick) (struct Run *run);
} Run;

/* Of run_wanted: categories, types, format, query; NULL what was not asked for. */
#define WANTED 4
#define WANTED_QUERY 3

extern void run_wanted(const Run *run, const char **wanted);
extern void run_show(Run *run);
extern bool run_take(Run *run, const char *text, size_t length, int64_t *position);
extern bool run_take_streamed(Run *run, const char *text, size_t length);
extern void run_mark(Run *run, uint64_t lsn);
extern bool run_settle_marks(Run *run);
extern bool run_drain(Run *run);
extern void run_reset_stream(Run *run, uint64_t lsn);
extern void run_begin_stream(Run *run);

#endif							/* RUN_H */
