/*
 * sink.c
 *		Where events are delivered to: calls of what a kind of sink has.
 */
#include "sink.h"

#include <string.h>

#include "report.h"
#include "wait.h"

static const SinkType *const types[] = {
	&sink_output, &sink_file, &sink_command,
#ifdef WITH_KAFKA
	&sink_kafka,
#endif
};

/* sink_open opens the sink that the options name. */
Sink *
sink_open(const Options *options)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i]->name, options->sink) == 0)
		{
			Sink	   *sink = types[i]->open(options);

			sink->type = types[i];
			return sink;
		}
	report_failure(EXIT_USAGE, "sink \"%s\" does not exist", options->sink);
}

/* sink_restore gives the state that the sink keeps; false if it has none. */
bool
sink_restore(Sink *sink, State *state)
{
	return sink->type->restore != NULL && sink->type->restore(sink, state);
}

/*
 * sink_recover repairs what a crash may have left, and collects which events
 * the sink has of those that may come again.
 */
void
sink_recover(Sink *sink, const State *state, Positions *seen)
{
	if (sink->type->recover != NULL)
		sink->type->recover(sink, state, seen);
}

/* sink_write gives a message to the sink, which copies what it keeps. */
void
sink_write(Sink *sink, const Message *message)
{
	sink->type->write(sink, message);
	sink->accepted++;
}

/* sink_is_full tells whether the sink should not be given more now. */
bool
sink_is_full(const Sink *sink)
{
	return sink->type->is_full != NULL && sink->type->is_full(sink);
}

/* sink_add_waits adds what the sink waits for. */
void
sink_add_waits(Sink *sink, WaitSet *set)
{
	if (sink->type->add_waits != NULL)
		sink->type->add_waits(sink, set);
}

/* sink_wait waits for what the sink waits for, at most for some milliseconds. */
void
sink_wait(Sink *sink, int timeout)
{
	WaitSet		set;

	wait_begin(&set, timeout);
	sink_add_waits(sink, &set);
	wait_now(&set);
}

/* sink_work hands on what was written, and takes note of what is durable. */
void
sink_work(Sink *sink)
{
	sink->type->work(sink);
}

/* sink_sync makes durable what can be made so at once. */
void
sink_sync(Sink *sink)
{
	if (sink->type->sync != NULL)
		sink->type->sync(sink);
}

/* sink_save keeps the state, for good. */
void
sink_save(Sink *sink, State *state)
{
	if (sink->type->save != NULL)
		sink->type->save(sink, state);
}

/* sink_length gives where the next message goes, 0 where that has no meaning. */
int64_t
sink_length(const Sink *sink)
{
	return sink->type->length != NULL ? sink->type->length(sink) : 0;
}

/* sink_finish tells that nothing more comes: what was accepted is to become durable. */
void
sink_finish(Sink *sink)
{
	if (sink->type->finish != NULL)
		sink->type->finish(sink);
}

/* sink_close ends the use of the sink. */
void
sink_close(Sink *sink)
{
	if (sink->type->close != NULL)
		sink->type->close(sink);
}
