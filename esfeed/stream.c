/*
 * stream.c
 *		Delivering what comes: the replication protocol.
 *
 * The messages are events, without frames around the transactions: they would
 * be two more of three messages where transactions are small.  That all commits
 * up to an LSN have been sent is told by keepalives, which come in between.
 * The server sends one when it has nothing else to do, and when it is asked
 * for one, which happens at each checkpoint that there is something new at, and
 * with each sign of life: a server that is busy with what is not for us must be
 * told, too, that we do not need it.
 *
 * What the sink has for good is confirmed once a second, or when the server
 * asks; never more than the state on disk says, where there is one.  The server
 * gets a sign of life every few seconds, also while the sink takes nothing.
 *
 * Beside it the other connection is asked now and then which position is
 * settled, S, and then for an LSN.  When the stream is past that LSN, and the
 * sink has it, the sink has all events up to S: that is state.low, from
 * which a lost feed is healed.
 */
#include "stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "clock.h"
#include "lsn.h"
#include "memory.h"
#include "report.h"
#include "run.h"
#include "server.h"
#include "sink.h"
#include "slot.h"
#include "wait.h"

/* Milliseconds. */
#define ALIVE_MS 10000			/* between signs of life */
#define LOW_MS 10000			/* between questions for the settled position */
#define MARK_MS 2000			/* for a last mark */
#define END_MS 5000				/* for the server to take the end of the
								 * stream */

/* Microseconds from 1970, where Unix begins, to 2000, where PostgreSQL does. */
#define PG_EPOCH INT64_C(946684800000000)

#define DATA_HEADER 25			/* of 'w': start, end, time */
#define KEEPALIVE_SIZE 18		/* of 'k': end, time, whether to reply */

/* The question for the settled position. */
typedef enum Question
{
	QUESTION_NONE,
	QUESTION_SENT,
	QUESTION_ANSWERED,			/* low is true once the stream is past lsn */
	QUESTION_REFUSED			/* no right to ask */
} Question;

typedef struct Stream
{
	bool		reply;			/* the server asks for a sign of life */
	bool		refused;		/* a message was not taken: no other can be */
	bool		asked;			/* we have asked for a keepalive */
	bool		failed;			/* the connection, while waiting for the sink */
	int64_t		next_alive;
	int64_t		next_checkpoint;
	int64_t		next_question;
	uint64_t	confirmed;
	uint64_t	confirmed_accepted; /* messages before that */
	Question	question;
	int64_t		low;
	uint64_t	low_lsn;
	bool		moved;			/* low has moved since the last checkpoint */
} Stream;

/* There is one stream at a time. */
static Stream stream;

/* ---- the protocol ---- */

/* Writes 64 bits as the protocol has them. */
static void
put_int64(char *to, uint64_t value)
{
	for (int i = 7; i >= 0; i--, value >>= 8)
		to[i] = (char) (value & 0xFF);
}

/* Reads 64 bits as the protocol has them. */
static uint64_t
get_int64(const char *from)
{
	uint64_t	value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | (unsigned char) from[i];
	return value;
}

/* Sends a sign of life, and what the sink has for good; asks for a keepalive if wanted. */
static bool
send_status(Run *run, bool ask)
{
	PGconn	   *conn = run->server.replication;
	char		message[34];
	struct timeval now;

	gettimeofday(&now, NULL);
	message[0] = 'r';
	put_int64(message + 1, run->boundary);
	put_int64(message + 9, stream.confirmed);
	put_int64(message + 17, stream.confirmed);
	put_int64(message + 25, (uint64_t) ((int64_t) now.tv_sec * 1000000 + now.tv_usec - PG_EPOCH));
	message[33] = ask;
	stream.reply = false;
	stream.next_alive = clock_now() + ALIVE_MS;
	return PQputCopyData(conn, message, sizeof(message)) == 1 && PQflush(conn) == 0;
}

/* Adds an option's value, quoted for the replication protocol. */
static char *
add_option(char *sql, const char *name, const char *value)
{
	char	   *quoted = get_memory(2 * strlen(value) + 1);
	char	   *to = quoted;
	char	   *result;

	if (*value == '\0')
	{
		free(quoted);
		return sql;
	}
	for (const char *from = value; *from; from++)
	{
		if (*from == '\'')
			*to++ = '\'';
		*to++ = *from;
	}
	*to = '\0';
	result = make_text("%s, \"%s\" '%s'", sql, name, quoted);
	free(quoted);
	free(sql);
	return result;
}

/* Begins the stream. */
static Outcome
start_stream(Run *run)
{
	const Options *options = run->options;
	PGconn	   *conn = run->server.replication;
	char	   *sql;
	char	   *head = make_text("%" PRId64, run->state.head);
	PGresult   *result;
	Outcome		outcome = OUTCOME_DONE;

	sql = make_text("START_REPLICATION SLOT \"es_%s\" LOGICAL " LSN_FORMAT " (\"include_transaction\" 'off'",
					options->feed, LSN_PARTS(run->boundary));
	sql = add_option(sql, "format", options->format);
	sql = add_option(sql, "after_position", head);
	sql = add_option(sql, "categories", options->categories);
	sql = add_option(sql, "types", options->types);
	sql = add_option(sql, "query", options->query);
	sql = add_option(sql, "skip_positions", options->skip_positions);
	sql = more_memory(sql, strlen(sql) + 2);
	strcat(sql, ")");
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_COPY_BOTH)
	{
		/* in use, lost or dropped: that is looked at from the beginning */
		if (server_has_state(result, "55006") || server_has_state(result, "55000") || server_has_state(result, "42704"))
			outcome = OUTCOME_RETRY;
		else
			outcome = server_judge(conn, result, "could not start the stream");
	}
	PQclear(result);
	free(head);
	free(sql);
	return outcome;
}

/*
 * Sees that nobody has read the slot since we looked at it, which is long ago
 * if there was history to deliver: the server would go on where they were, and
 * say nothing.  Now that we have it nobody else can.
 */
static Outcome
check_unread(Run *run)
{
	Slot		slot;
	Outcome		outcome = slot_find(&run->server, run->options->feed, &slot);

	/* what to do about it is found out as at the beginning */
	if (outcome == OUTCOME_DONE && slot.confirmed > run->state.lsn)
		outcome = OUTCOME_RETRY;
	return outcome;
}

/* Takes a message of the protocol; false if asked to end before it was taken. */
static bool
take_message(Run *run, const char *data, size_t length)
{
	if (length > DATA_HEADER && data[0] == 'w')
		return run_take_streamed(run, data + DATA_HEADER, length - DATA_HEADER);
	if (length >= KEEPALIVE_SIZE && data[0] == 'k')
	{
		run_mark(run, get_int64(data + 1));
		stream.reply = stream.reply || data[17] != 0;
		stream.asked = false;
		return true;
	}
	report_failure(EXIT_SERVER, "the server sent something that is not a message of the replication protocol");
}

/* ---- the settled position ---- */

/* Asks for it. */
static void
ask_settled(Run *run)
{
	const char *schema = run->server.schema;
	char	   *sql = make_text("SELECT x.s, (SELECT h.lsn FROM %s.es_feed_head() h WHERE x.s IS NOT NULL) "
								"FROM (SELECT %s.es_settled_position() AS s OFFSET 0) x", schema, schema);

	stream.next_question = clock_now() + LOW_MS;
	if (server_send(run->server.sql, sql, 0, NULL))
		stream.question = QUESTION_SENT;
	else
		stream.failed = true;
	free(sql);
}

/* Takes the answer if it is there. */
static void
take_settled(Run *run)
{
	PGconn	   *conn = run->server.sql;
	PGresult   *result;

	if (PQconsumeInput(conn) == 0)
		stream.failed = true;
	if (stream.failed || stream.question != QUESTION_SENT || PQisBusy(conn))
		return;
	result = PQgetResult(conn);
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		stream.low = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
		stream.question = lsn_parse(PQgetvalue(result, 0, 1), &stream.low_lsn) ? QUESTION_ANSWERED : QUESTION_NONE;
	}
	else if (server_has_state(result, "42501"))
	{
		report_warning("no right to call es_settled_position and es_feed_head: a lost feed would be read again from far back");
		stream.question = QUESTION_REFUSED;
	}
	else
		stream.question = QUESTION_NONE;
	while (result != NULL)
	{
		PQclear(result);
		result = PQgetResult(conn);
	}
}

/* Moves low when the sink has what the answer is about. */
static void
move_low(Run *run)
{
	if (stream.question != QUESTION_ANSWERED || run->state.lsn < stream.low_lsn)
		return;
	if (stream.low > run->state.low)
	{
		run->state.low = stream.low;
		stream.moved = true;
	}
	stream.question = QUESTION_NONE;
}

/* ---- in between ---- */

/* Tells whether something came after the last mark. */
static bool
is_unmarked(const Run *run)
{
	return run->since.count > 0;
}

/* Tells whether a mark is wanted: for what came, or because we end at one. */
static bool
wants_mark(const Run *run)
{
	return !stream.asked && (is_unmarked(run) || run->target != 0);
}

/* Makes durable what there is, confirms what is durable, and asks for a mark if there is none. */
static void
checkpoint_stream(Run *run)
{
	bool		ask = wants_mark(run) || (!stream.asked && clock_now() >= stream.next_alive);

	sink_sync(run->sink);
	if (run_settle_marks(run) || stream.moved)
	{
		move_low(run);
		sink_save(run->sink, &run->state);
		stream.moved = false;
		stream.confirmed = run->state.lsn;
		stream.confirmed_accepted = run->sink->durable;
	}
	move_low(run);
	if (!send_status(run, ask))
		stream.failed = true;
	stream.asked = stream.asked || ask;
	stream.next_checkpoint = clock_now() + CHECKPOINT_MS;
}

/* Tells whether a checkpoint would do something for events. */
static bool
has_news(const Run *run)
{
	return wants_mark(run) || run->sink->accepted > run->sink->durable ||
		(run->mark_count > 0 && run->marks[0].accepted > stream.confirmed_accepted &&
		 run->marks[0].accepted <= run->sink->durable);
}

/* Does what is due. */
static void
look_after_stream(Run *run)
{
	int64_t		now = clock_now();

	/*
	 * Marks without events can wait for the next sign of life.  A server that
	 * asks for one may be about to end, and waits for us to confirm all.
	 */
	if (stream.reply || now >= stream.next_alive || (now >= stream.next_checkpoint && has_news(run)))
		checkpoint_stream(run);
	if (stream.question == QUESTION_NONE && now >= stream.next_question && (run->sink->accepted > 0 || run->state.low < 0))
		ask_settled(run);
	else if (stream.question == QUESTION_SENT)
		take_settled(run);
	run_show(run);
}

/* Waits for the server, the sink, or the time. */
static void
wait_for_news(Run *run)
{
	WaitSet		set;
	int64_t		now = clock_now();

	wait_begin(&set, CHECKPOINT_MS);
	wait_at_most(&set, stream.next_alive - now);
	if (has_news(run))
		wait_at_most(&set, stream.next_checkpoint - now);
	wait_add(&set, PQsocket(run->server.replication), POLLIN);
	if (stream.question == QUESTION_SENT)
		wait_add(&set, PQsocket(run->server.sql), POLLIN);
	sink_add_waits(run->sink, &set);
	wait_now(&set);
}

/* Takes what the server has sent; RETRY if the stream has ended. */
static Outcome
take_messages(Run *run, bool *nothing)
{
	PGconn	   *conn = run->server.replication;
	char	   *data;
	int			length;

	*nothing = false;
	for (int i = 0; i < 256; i++)
	{
		length = PQgetCopyData(conn, &data, 1);
		if (length == 0)
		{
			/* what is in libpq's buffer no wait for the socket would find */
			if (PQconsumeInput(conn) == 0)
				return OUTCOME_RETRY;
			length = PQgetCopyData(conn, &data, 1);
		}
		if (length < 0)
			return OUTCOME_RETRY;
		if (length == 0)
		{
			*nothing = true;
			return OUTCOME_DONE;
		}
		stream.refused = !take_message(run, data, (size_t) length);
		PQfreemem(data);
		if (stream.refused)
			return OUTCOME_STOP;
	}
	return OUTCOME_DONE;
}

/* Tells why the stream has ended. */
static void
report_stream_end(Run *run)
{
	PGconn	   *conn = run->server.replication;
	PGresult   *result = PQgetResult(conn);

	if (result == NULL || PQresultStatus(result) == PGRES_COMMAND_OK)
		report_warning("the server has ended the stream");
	else
		(void) server_judge(conn, PQresultStatus(result) == PGRES_COPY_BOTH ? NULL : result, "the stream has ended");
	PQclear(result);
}

/* Waits for more of the stream. */
static bool
wait_for_data(PGconn *conn)
{
	WaitSet		set;

	wait_begin(&set, 100);
	wait_add(&set, PQsocket(conn), POLLIN);
	wait_now(&set);
	return PQconsumeInput(conn) == 1;
}

/*
 * Takes what comes until the next mark, so that all that was delivered can be
 * confirmed; not for long, and not if the sink is full.
 */
static void
take_until_mark(Run *run)
{
	PGconn	   *conn = run->server.replication;
	int64_t		until = clock_now() + MARK_MS;
	char	   *data;

	if (!is_unmarked(run) || (!stream.asked && !send_status(run, true)))
		return;
	stream.asked = true;
	while (!stream.refused && stream.asked && clock_now() < until)
	{
		int			length = PQgetCopyData(conn, &data, 1);

		if (length > 0)
		{
			stream.refused = !take_message(run, data, (size_t) length);
			PQfreemem(data);
		}
		else if (length < 0 || !wait_for_data(conn))
			return;
	}
}

/* Confirms what there is and takes leave of the server, so that it has heard it. */
static void
end_stream(Run *run)
{
	PGconn	   *conn = run->server.replication;
	int64_t		until = clock_now() + END_MS;
	char	   *data;
	int			length = 0;

	if (!stream.failed && !stream.refused)
		take_until_mark(run);
	sink_finish(run->sink);
	checkpoint_stream(run);
	if (stream.failed || PQputCopyEnd(conn, NULL) != 1 || PQflush(conn) != 0)
		return;
	while (length >= 0 && clock_now() < until)
	{
		length = PQgetCopyData(conn, &data, 1);
		if (length > 0)
			PQfreemem(data);
		else if (length == 0 && !wait_for_data(conn))
			return;
	}
}

/* Sets the LSN that --until-caught-up waits for. */
static Outcome
set_target(Run *run)
{
	Seam		seam;
	Outcome		outcome;

	if (!run->options->until_caught_up || run->target != 0)
		return OUTCOME_DONE;
	outcome = slot_head(&run->server, &seam);
	run->target = seam.lsn;
	return outcome;
}

/* Takes messages until the end is asked for or reached, or the stream is lost. */
static Outcome
follow_stream(Run *run)
{
	Outcome		outcome;
	bool		nothing;

	for (;;)
	{
		outcome = take_messages(run, &nothing);
		if (outcome != OUTCOME_DONE)
			return outcome;
		if (nothing || sink_is_full(run->sink))
			sink_work(run->sink);
		look_after_stream(run);
		if (stream.failed)
			return OUTCOME_RETRY;
		if (wait_stopped())
			return OUTCOME_STOP;
		if (run->target != 0 && run->boundary >= run->target)
		{
			if (run_drain(run))
				report_note("caught up");
			return OUTCOME_STOP;
		}
		if (nothing)
			wait_for_news(run);
	}
}

/* stream_deliver delivers what comes from the slot. */
Outcome
stream_deliver(Run *run)
{
	Outcome		outcome;

	memset(&stream, 0, sizeof(stream));
	run_begin_stream(run);
	outcome = set_target(run);
	if (outcome == OUTCOME_DONE)
		outcome = start_stream(run);
	if (outcome == OUTCOME_DONE)
		outcome = check_unread(run);
	if (outcome != OUTCOME_DONE)
		return outcome;

	if (!run->streamed)
		report_note("streaming from " LSN_FORMAT, LSN_PARTS(run->boundary));
	else
		report_note("streaming again");
	run->streamed = true;
	run->tick = look_after_stream;
	stream.confirmed = run->state.lsn;
	stream.confirmed_accepted = run->sink->durable;
	stream.next_question = run->state.low < 0 ? 0 : clock_now() + LOW_MS;
	if (!send_status(run, false))
		return OUTCOME_RETRY;
	progress_begin("stream", 0, 0);
	outcome = follow_stream(run);
	if (outcome == OUTCOME_STOP)
		end_stream(run);
	else
		report_stream_end(run);
	run->tick = NULL;
	progress_end();
	return outcome;
}
