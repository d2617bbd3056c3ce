/*
 * skipped.c
 *		Streams that retention comes back to.
 *
 * The walk over the log (retention.c) passes a stream's events once.  A stream that
 * cannot be truncated at that moment has a row here until it was: because a transaction
 * that has appended to it had not ended, or because keeping a state failed.  What fails is
 * tried again a little later each time, a day at most.
 *
 * Rows are written under the lock on the table of rules.
 */
#include "lifecycle/skipped.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "table/rows.h"

#define Anum_skips_since		1
#define Anum_skips_tried_at		2
#define Anum_skips_attempts		3
#define Anum_skips_stream		4
#define Anum_skips_reason		5
#define Natts_skips				5

#define WRITTEN_TO		"a transaction that has appended to the stream has not ended"

#define FIRST_DELAY_US	(60 * USECS_PER_SEC)
#define MOST_DELAY_US	USECS_PER_DAY
#define BUSY_DELAY_US	(10 * USECS_PER_SEC)

static EsRelation skips_table = {"retention_skips"};
static EsRelation skips_by_stream = {"retention_skips_by_stream",
.index = {.keys = {Anum_skips_stream},.columns = "stream",.unique = true}};

static const EsColumn skip_columns[Natts_skips] = {
	{"since", TIMESTAMPTZOID}, {"tried_at", TIMESTAMPTZOID}, {"attempts", INT4OID}, {"stream", TEXTOID}, {"reason", TEXTOID}
};
const EsShape es_skipped_shape = ES_SHAPE(&skips_table, &skips_by_stream, skip_columns);

/* How long a stream is left alone after so many failures. */
static int64
skip_delay(int attempts)
{
	int64		delay = attempts == 0 ? BUSY_DELAY_US : FIRST_DELAY_US;

	while (--attempts > 0 && delay < MOST_DELAY_US)
		delay *= 2;
	return Min(delay, MOST_DELAY_US);
}

/*
 * es_skipped_due gives the names of streams, at most so many, that are to be tried again:
 * none that was tried after a time, and, unless at_once, none before its delay is over.
 */
List *
es_skipped_due(TimestampTz tried_before, int most, bool at_once)
{
	EsRows		rows = {.shape = &es_skipped_shape,.mode = AccessShareLock,.fresh = true};
	List	   *due = NIL;

	es_rows_begin(&rows);
	while (list_length(due) < most && es_rows_next(&rows))
	{
		int			attempts = DatumGetInt32(rows.values[Anum_skips_attempts - 1]);
		TimestampTz tried_at = DatumGetTimestampTz(rows.values[Anum_skips_tried_at - 1]);

		CHECK_FOR_INTERRUPTS();
		if (tried_at >= tried_before || (!at_once && tried_at + skip_delay(attempts) > tried_before))
			continue;
		due = lappend(due, DatumGetTextPCopy(rows.values[Anum_skips_stream - 1]));
	}
	es_rows_end(&rows);
	return due;
}

/* es_skipped_any tells whether a stream that has failed is one that the caller wants. */
bool
es_skipped_any(bool (*wants) (const text *stream, void *arg), void *arg)
{
	EsRows		rows = {.shape = &es_skipped_shape,.mode = AccessShareLock,.fresh = true};
	bool		found = false;

	es_rows_begin(&rows);
	while (!found && es_rows_next(&rows))
	{
		CHECK_FOR_INTERRUPTS();
		found = DatumGetInt32(rows.values[Anum_skips_attempts - 1]) > 0 &&
			wants(DatumGetTextPP(rows.values[Anum_skips_stream - 1]), arg);
	}
	es_rows_end(&rows);
	return found;
}

/* Reads how often a stream has failed, and since when; false if it has no row. */
static bool
read_skipped_row(const text *stream, int *attempts, TimestampTz *since)
{
	EsRows		rows = {.shape = &es_skipped_shape,.mode = AccessShareLock,.fresh = true};
	bool		found;

	es_rows_equal(&rows, PointerGetDatum(stream));
	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	if (found)
	{
		*attempts = DatumGetInt32(rows.values[Anum_skips_attempts - 1]);
		*since = DatumGetTimestampTz(rows.values[Anum_skips_since - 1]);
	}
	es_rows_end(&rows);
	return found;
}

/*
 * es_skipped_note notes that a stream could not be truncated: for a reason, or, if that is
 * NULL, since somebody writes to it.
 */
void
es_skipped_note(const text *stream, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since = now;
	int			attempts = 0;
	Datum		values[Natts_skips];
	bool		isnull[Natts_skips] = {false};

	(void) read_skipped_row(stream, &attempts, &since);
	values[Anum_skips_since - 1] = TimestampTzGetDatum(since);
	values[Anum_skips_tried_at - 1] = TimestampTzGetDatum(now);
	values[Anum_skips_attempts - 1] = Int32GetDatum(reason ? Min(attempts, 1000) + 1 : 0);
	values[Anum_skips_stream - 1] = PointerGetDatum(stream);
	values[Anum_skips_reason - 1] = CStringGetTextDatum(reason ? reason : WRITTEN_TO);
	es_rows_put(&es_skipped_shape, values, isnull);
}

/* es_skipped_forget notes that a stream need not be come back to. */
void
es_skipped_forget(const text *stream)
{
	Datum		key = PointerGetDatum(stream);

	(void) es_rows_take_away(&es_skipped_shape, &key, 1);
}
