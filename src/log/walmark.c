/*
 * walmark.c
 *		Which positions belong to which part of the WAL, roughly.
 *
 * A replication slot knows how far in the WAL its consumer is, people want to
 * know how many events that is behind.  So whenever the settled mark is
 * written, and a feed created, the table wal_mark is told the place in the WAL
 * and the position.  Between two marks events are taken to be spread evenly.
 *
 * The table has one row with two arrays of at most MOST_MARKS elements, both
 * rising.  Where they are full every second mark goes, so they get rarer the
 * older they are, and reach back to the first: what is looked up is off by a few
 * per cent of its age, or by what was appended between two settled marks.
 *
 * Marks say where this server's WAL is.  They are not dumped, and a mark behind
 * the one that comes next is dropped.  Writers hold ShareRowExclusiveLock on
 * settled_mark.  A lost mark makes the estimate worse, no more.  On a logical
 * subscriber the marks are of the publisher's WAL, and of no use.
 */
#include "log/walmark.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/pg_lsn.h"

#include "base/objects.h"
#include "log/subscriber.h"
#include "table/rows.h"

#define MOST_MARKS	64

/* The columns of wal_mark. */
enum
{
	LSNS,
	POSITIONS,
	COLUMNS
};

/* Takes the elements out of one of the arrays; their number. */
static int
take_mark_elements(Datum array, Oid type, Datum *elements)
{
	ArrayType  *stored = DatumGetArrayTypeP(array);
	Datum	   *found;
	int			count;

	deconstruct_array(stored, type, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &found, NULL, &count);
	count = Min(count, MOST_MARKS);
	memcpy(elements, found, sizeof(Datum) * count);
	return count;
}

static EsRelation wal_mark_table = {"wal_mark"};

static const EsColumn columns_of_mark[COLUMNS] = {{"lsns", PG_LSNARRAYOID}, {"positions", INT8ARRAYOID}};
const EsShape es_walmark_shape = ES_SHAPE(&wal_mark_table, NULL, columns_of_mark);

/* Reads all marks; their number. */
static int
read_wal_marks(EsWalMark *marks)
{
	EsRows		rows;
	Datum		lsns[MOST_MARKS];
	Datum		positions[MOST_MARKS];
	int			count = 0;

	if (es_rows_read_one(&es_walmark_shape, &rows))
	{
		int			npositions = take_mark_elements(rows.values[POSITIONS], INT8OID, positions);

		count = take_mark_elements(rows.values[LSNS], PG_LSNOID, lsns);
		count = Min(count, npositions);
	}
	es_rows_end(&rows);
	for (int i = 0; i < count; i++)
	{
		marks[i].lsn = DatumGetLSN(lsns[i]);
		marks[i].position = DatumGetInt64(positions[i]);
	}
	return count;
}

/* Writes all marks. */
static void
write_wal_marks(const EsWalMark *marks, int count)
{
	Datum		lsns[MOST_MARKS];
	Datum		positions[MOST_MARKS];
	Datum		columns[COLUMNS];

	for (int i = 0; i < count; i++)
	{
		lsns[i] = LSNGetDatum(marks[i].lsn);
		positions[i] = Int64GetDatum(marks[i].position);
	}
	columns[LSNS] = PointerGetDatum(construct_array(lsns, count, PG_LSNOID, sizeof(int64), FLOAT8PASSBYVAL,
													TYPALIGN_DOUBLE));
	columns[POSITIONS] = PointerGetDatum(construct_array(positions, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
														 TYPALIGN_DOUBLE));
	es_rows_write_one(&es_walmark_shape, columns);
}

/* es_walmark_add adds a mark, the newest; the caller holds the lock on settled_mark. */
void
es_walmark_add(XLogRecPtr lsn, int64 position)
{
	EsWalMark	marks[MOST_MARKS];
	int			count;

	if (es_subscriber_is())
		return;
	count = read_wal_marks(marks);
	while (count > 0 && (marks[count - 1].lsn >= lsn || marks[count - 1].position > position))
		count--;
	if (count == MOST_MARKS)
	{
		count = MOST_MARKS / 2;
		for (int i = 0; i < count; i++)
			marks[i] = marks[2 * i];
	}
	marks[count].lsn = lsn;
	marks[count].position = position;
	write_wal_marks(marks, count + 1);
}

/*
 * es_walmark_position tells about up to which position everything was committed
 * when the WAL came to lsn; last says where it comes to the last one there is.
 * -1 if lsn is before all marks.
 */
int64
es_walmark_position(XLogRecPtr lsn, EsWalMark last)
{
	EsWalMark	marks[MOST_MARKS];
	int			after = 0;
	int			count;
	EsWalMark	from;

	if (lsn >= last.lsn)
		return last.position;
	count = es_subscriber_is() ? 0 : read_wal_marks(marks);
	while (after < count && marks[after].lsn <= lsn)
		after++;
	if (after == 0)
		return -1;
	from = marks[after - 1];
	if (after < count && marks[after].lsn < last.lsn)
		last = marks[after];
	return from.position +
		(int64) ceil((double) (last.position - from.position) * (lsn - from.lsn) / (last.lsn - from.lsn));
}
