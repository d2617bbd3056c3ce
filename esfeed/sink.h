/*
 * sink.h
 *		Where events are delivered to.
 *
 * A sink takes messages one by one and counts them: accepted are those that it
 * was given, durable those of them, from the first on without a gap, that it has
 * for good.  What fails for good ends the program.
 */
#ifndef SINK_H
#define SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "message.h"
#include "options.h"
#include "positions.h"
#include "state.h"
#include "wait.h"

typedef struct Sink Sink;

/* The kinds of sinks; what is NULL a kind does not need. */
typedef struct SinkType
{
	const char *name;
	bool		keeps_state;	/* it knows after a restart what it has */
	Sink	   *(*open) (const Options *options);
	bool		(*restore) (Sink *sink, State *state);
	void		(*recover) (Sink *sink, const State *state, Positions *seen);
	void		(*write) (Sink *sink, const Message *message);
	bool		(*is_full) (const Sink *sink);
	void		(*add_waits) (Sink *sink, WaitSet *set);
	void		(*work) (Sink *sink);
	void		(*sync) (Sink *sink);
	void		(*save) (Sink *sink, State *state);
	int64_t		(*length) (const Sink *sink);
	void		(*finish) (Sink *sink);
	void		(*close) (Sink *sink);
} SinkType;

struct Sink
{
	const SinkType *type;
	uint64_t	accepted;
	uint64_t	durable;
	bool		awaited;		/* nothing more comes before all is durable */
};

extern const SinkType sink_output;
extern const SinkType sink_file;
extern const SinkType sink_command;
extern const SinkType sink_kafka;

extern Sink *sink_open(const Options *options);
extern bool sink_restore(Sink *sink, State *state);
extern void sink_recover(Sink *sink, const State *state, Positions *seen);
extern void sink_write(Sink *sink, const Message *message);
extern bool sink_is_full(const Sink *sink);
extern void sink_add_waits(Sink *sink, WaitSet *set);
extern void sink_wait(Sink *sink, int timeout);
extern void sink_work(Sink *sink);
extern void sink_sync(Sink *sink);
extern void sink_save(Sink *sink, State *state);
extern int64_t sink_length(const Sink *sink);
extern void sink_finish(Sink *sink);
extern void sink_close(Sink *sink);

#endif							/* SINK_H */
