/*
 * progress.c
 *		How far projections are.
 *
 * A generation is one building of a projection from the log's beginning; each
 * has a row of eventstore.projection_progress.  One is live; while a rebuild is
 * on its way there is a second one.  Rows are written under the lock of their
 * projection, which is kept to the end of the transaction, so they are read with
 * a fresh snapshot under it, and what is read is the newest.
 *
 * What is skipped at somebody's wish are rows of eventstore.projection_skips.
 * They hold for later generations, too: a rebuild ends where the live generation
 * is, and does not stop at what has been dealt with.
 */
#include "projection/progress.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/error.h"
#include "base/objects.h"
#include "shared/wake.h"
#include "table/rows.h"

#define Anum_progress_id				1
#define Anum_progress_generation		2
#define Anum_progress_position			3
#define Anum_progress_error_position	4
#define Anum_progress_retry_at			5
#define Anum_progress_failed_since		6
#define Anum_progress_attempts			7
#define Anum_progress_live				8
#define Anum_progress_litter			9
#define Anum_progress_error				10
#define Anum_progress_layout			11
#define Natts_progress					11

#define MOST_ERROR	10000		/* bytes that are kept of an error */

#define Anum_skips_id					1
#define Anum_skips_position				2
#define Anum_skips_skipped_at			3
#define Anum_skips_skipped_by			4
#define Anum_skips_error				5
#define Natts_skips						5

static EsRelation progress_table = {"projection_progress"};
static EsRelation progress_by_key = {"projection_progress_by_key",
.index = {.keys = {Anum_progress_id, Anum_progress_generation},.columns = "projection_id, generation",.unique = true}};
static EsRelation skips_table = {"projection_skips"};
static EsRelation skips_by_key = {"projection_skips_by_key",
.index = {.keys = {Anum_skips_id, Anum_skips_position},.columns = "projection_id, position",.unique = true}};

static const EsColumn progress_columns[Natts_progress] = {
	{"projection_id", INT8OID}, {"generation", INT8OID}, {"position", INT8OID}, {"error_position", INT8OID, true},
	{"retry_at", TIMESTAMPTZOID, true}, {"failed_since", TIMESTAMPTZOID, true}, {"attempts", INT4OID},
	{"live", BOOLOID}, {"litter", BOOLOID}, {"error", TEXTOID, true}, {"layout", TEXTOID, true}
};
static const EsColumn skip_columns[Natts_skips] = {
	{"projection_id", INT8OID}, {"position", INT8OID}, {"skipped_at", TIMESTAMPTZOID}, {"skipped_by", TEXTOID},
	{"error", TEXTOID, true}
};
const EsShape es_progress_shape = ES_SHAPE(&progress_table, &progress_by_key, progress_columns);
const EsShape es_progress_skips_shape = ES_SHAPE(&skips_table, &skips_by_key, skip_columns);

/* ---- reading ---- */

/* Takes a row, in the current memory context. */
static void
take_progress_row(void *element, const EsRows *rows)
{
	EsProgress *row = element;
	const Datum *v = rows->values;
	const bool *n = rows->isnull;

	row->projection_id = DatumGetInt64(v[Anum_progress_id - 1]);
	row->generation = DatumGetInt64(v[Anum_progress_generation - 1]);
	row->position = DatumGetInt64(v[Anum_progress_position - 1]);
	row->error_position = n[Anum_progress_error_position - 1] ? 0 :
		DatumGetInt64(v[Anum_progress_error_position - 1]);
	row->retry_at = es_columns_time(v, n, Anum_progress_retry_at);
	row->failed_since = es_columns_time(v, n, Anum_progress_failed_since);
	row->attempts = DatumGetInt32(v[Anum_progress_attempts - 1]);
	row->live = DatumGetBool(v[Anum_progress_live - 1]);
	row->litter = DatumGetBool(v[Anum_progress_litter - 1]);
	row->error = es_columns_text(v, n, Anum_progress_error);
	row->layout = es_columns_text(v, n, Anum_progress_layout);
}

/* es_progress_read_all reads the rows of all projections. */
int
es_progress_read_all(EsProgress **rows)
{
	EsRows		look = {.shape = &es_progress_shape,.mode = AccessShareLock};
	int			count;

	look.fresh = true;
	es_rows_begin(&look);
	*rows = es_rows_all(&look, sizeof(EsProgress), take_progress_row, &count);
	return count;
}

/*
 * es_progress_read_as_of reads the row of a projection's live generation, or of its
 * rebuild; false if the snapshot, NULL: a fresh one, sees none.
 */
bool
es_progress_read_as_of(int64 id, bool live, Snapshot snapshot, EsProgress *row)
{
	EsRows		look = {.shape = &es_progress_shape,.mode = AccessShareLock,.snapshot = snapshot,.fresh = snapshot == NULL};
	bool		found = false;

	es_rows_equal(&look, Int64GetDatum(id));
	es_rows_begin(&look);
	while (!found && es_rows_next(&look))
	{
		take_progress_row(row, &look);
		found = row->live == live;
	}
	es_rows_end(&look);
	return found;
}

/*
 * es_progress_read reads the newest row of a projection's live generation, or of
 * its rebuild; false if there is none.
 */
bool
es_progress_read(int64 id, bool live, EsProgress *row)
{
	return es_progress_read_as_of(id, live, NULL, row);
}

/*
 * es_progress_read_live reads the newest row of a projection's live generation,
 * which every projection has.
 */
void
es_progress_read_live(const EsProjection *projection, EsProgress *row)
{
	if (!es_progress_read(projection->id, true, row))
		elog(ERROR, "projection \"%s\" has no live generation", text_to_cstring(projection->name));
}

/*
 * es_progress_live_generation tells which generation is live as a snapshot sees it;
 * 0 if it sees none.
 */
int64
es_progress_live_generation(int64 id, Snapshot snapshot)
{
	EsProgress	row;

	return es_progress_read_as_of(id, true, snapshot, &row) ? row.generation : 0;
}

/* ---- writing ---- */

/* Makes the columns of a row. */
static void
make_progress_row(const EsProgress *row, Datum *v, bool *n)
{
	memset(n, false, sizeof(bool) * Natts_progress);
	v[Anum_progress_id - 1] = Int64GetDatum(row->projection_id);
	v[Anum_progress_generation - 1] = Int64GetDatum(row->generation);
	v[Anum_progress_position - 1] = Int64GetDatum(row->position);
	v[Anum_progress_error_position - 1] = Int64GetDatum(row->error_position);
	n[Anum_progress_error_position - 1] = row->error_position == 0;
	es_columns_put_time(v, n, Anum_progress_retry_at, row->retry_at);
	es_columns_put_time(v, n, Anum_progress_failed_since, row->failed_since);
	v[Anum_progress_attempts - 1] = Int32GetDatum(row->attempts);
	v[Anum_progress_live - 1] = BoolGetDatum(row->live);
	v[Anum_progress_litter - 1] = BoolGetDatum(row->litter);
	es_columns_put(v, n, Anum_progress_error, row->error);
	es_columns_put(v, n, Anum_progress_layout, row->layout);
}

/*
 * es_progress_insert adds the row of a new generation, whose waiters learn of it at
 * commit, as of all changes here.
 */
void
es_progress_insert(const EsProgress *row)
{
	Datum		values[Natts_progress];
	bool		isnull[Natts_progress];

	es_wake_note(es_wake_object(ES_WAKE_PROJECTION, row->projection_id));
	make_progress_row(row, values, isnull);
	es_rows_insert(&es_progress_shape, values, isnull);
}

/* es_progress_write writes a row that was read under the projection's lock. */
void
es_progress_write(const EsProgress *row)
{
	Datum		values[Natts_progress];
	bool		isnull[Natts_progress];

	es_wake_note(es_wake_object(ES_WAKE_PROJECTION, row->projection_id));
	make_progress_row(row, values, isnull);
	es_rows_replace(&es_progress_shape, values, isnull);
}

/* es_progress_delete takes the row of a generation away. */
void
es_progress_delete(const EsProgress *row)
{
	Datum		key[] = {Int64GetDatum(row->projection_id), Int64GetDatum(row->generation)};

	es_wake_note(es_wake_object(ES_WAKE_PROJECTION, row->projection_id));
	(void) es_rows_take_away(&es_progress_shape, key, lengthof(key));
}

/* Describes an error as psql would, in one text of a size to look at. */
static const text *
describe_progress_error(const ErrorData *error)
{
	const char *detail = es_error_detail(error);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, error->message ? error->message : "unknown error");
	if (detail)
		appendStringInfo(&buf, "\nDETAIL:  %s", detail);
	if (error->hint)
		appendStringInfo(&buf, "\nHINT:  %s", error->hint);
	if (error->context)
		appendStringInfo(&buf, "\nCONTEXT:  %s", error->context);
	return cstring_to_text_with_len(buf.data, pg_mbcliplen(buf.data, buf.len, MOST_ERROR));
}

/*
 * es_progress_fail notes that a generation has failed at a position, 0 for none in
 * particular, since when it does not get on, and when to try again.
 */
void
es_progress_fail(EsProgress *row, int64 position, const ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();

	row->attempts = row->error && row->error_position == position ? row->attempts + 1 : 1;
	row->failed_since = row->error ? row->failed_since : now;
	row->error = describe_progress_error(error);
	row->error_position = position;
	row->retry_at = now + es_backoff_delay(row->attempts);
}

/* es_progress_forgive lets a generation be tried at once, as if it had not failed. */
void
es_progress_forgive(EsProgress *row)
{
	row->error = NULL;
	row->error_position = 0;
	row->attempts = 0;
	row->retry_at = row->failed_since = DT_NOBEGIN;
}

/* es_progress_move moves a generation on; an error is over once it is passed. */
void
es_progress_move(EsProgress *row, int64 position)
{
	row->position = position;
	if (position >= row->error_position)
		es_progress_forgive(row);
}

/* ---- what is skipped ---- */

/* Takes the position of a skip. */
static void
take_position(void *element, const EsRows *rows)
{
	*(int64 *) element = DatumGetInt64(rows->values[Anum_skips_position - 1]);
}

/*
 * es_progress_read_skips reads which events between two positions a projection
 * leaves out, in order.
 */
EsPositions
es_progress_read_skips(int64 id, int64 after, int64 upto)
{
	EsRows		look = {.shape = &es_progress_skips_shape,.mode = AccessShareLock};
	EsPositions list;

	look.fresh = true;
	es_rows_equal(&look, Int64GetDatum(id));
	es_rows_between(&look, after, upto);
	es_rows_begin(&look);
	list.positions = es_rows_all(&look, sizeof(int64), take_position, &list.count);
	return list;
}

/*
 * es_progress_add_skip notes that the current user leaves the event out at which a
 * generation has failed.
 */
void
es_progress_add_skip(const EsProgress *row)
{
	Datum		v[Natts_skips];
	bool		n[Natts_skips] = {false};

	v[Anum_skips_id - 1] = Int64GetDatum(row->projection_id);
	v[Anum_skips_position - 1] = Int64GetDatum(row->error_position);
	v[Anum_skips_skipped_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	v[Anum_skips_skipped_by - 1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	es_columns_put(v, n, Anum_skips_error, row->error);
	es_rows_insert(&es_progress_skips_shape, v, n);
}

/* es_progress_forget takes away all that is known of how far a projection is. */
void
es_progress_forget(int64 id)
{
	Datum		key = Int64GetDatum(id);

	es_wake_note(es_wake_object(ES_WAKE_PROJECTION, id));
	(void) es_rows_take_away(&es_progress_shape, &key, 1);
	(void) es_rows_take_away(&es_progress_skips_shape, &key, 1);
}
