/*
 * checks.c
 *		Whether events fit into the log.
 *
 * Of a table that is to become a segment again and of which no digest is known: each
 * position and version is there once, each event is one of a stream of the store, under
 * its name and id, the versions of a stream follow its positions, and those of its events
 * in other segments, and none is missing but those that the store itself has removed.
 *
 * Other segments are asked one by one: some may be away, too.
 */
#include "lifecycle/checks.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/error.h"
#include "base/owner.h"
#include "log/scan.h"
#include "table/rows.h"

#define STREAMS_AT_ONCE	1000

/* A fault that a query looks for: it gives the position of the first event that has it. */
typedef struct Fault
{
	const char *query;			/* %1$s: the table, %2$s: the segment */
	const char *detail;			/* %s: the position */
} Fault;

static const Fault faults[] = {
	{"SELECT e.position FROM %1$s e GROUP BY e.position"
		" HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1 LIMIT 1",
	"It has two events at position %s."},
	{"SELECT e.position FROM %1$s e LEFT JOIN eventstore.streams s ON s.stream_id OPERATOR(pg_catalog.=) e.stream_id"
		" WHERE s.stream_id IS NULL OR s.name OPERATOR(pg_catalog.<>) e.stream"
		" OR s.category_key OPERATOR(pg_catalog.<>) e.category_key"
		" OR s.first_segment OPERATOR(pg_catalog.>) %2$s::pg_catalog.int8"
		" OR s.last_segment OPERATOR(pg_catalog.<) %2$s::pg_catalog.int8 LIMIT 1",
	"The event at position %s is of a stream that the store has not, or not there."},
	{"SELECT v.position FROM (SELECT e.position, e.stream_id, e.version, pg_catalog.lag(e.version) OVER"
		" (PARTITION BY e.stream_id ORDER BY e.position) AS before FROM %1$s e) v"
		" JOIN eventstore.streams s ON s.stream_id OPERATOR(pg_catalog.=) v.stream_id"
		" WHERE v.version OPERATOR(pg_catalog.<) 1 OR v.version OPERATOR(pg_catalog.<=) v.before"
		" OR (v.version OPERATOR(pg_catalog.>) (v.before OPERATOR(pg_catalog.+) 1)"
		" AND v.version OPERATOR(pg_catalog.>) s.truncated_before AND NOT s.deleted) LIMIT 1",
	"The version of the event at position %s does not follow that of its stream's event before."}
};

/*
 * es_checks_report raises VE008 for a table that does not have what the segment had;
 * detail is a sentence.
 */
void
es_checks_report(Relation rel, int64 segment, const char *detail)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_STORE_CORRUPT),
			errmsg("table \"%s\" does not have the events of segment " INT64_FORMAT, RelationGetRelationName(rel), segment),
			errdetail_internal("%s", detail),
			errhint("Restore the table from the archive that was made when the segment was detached."));
}

/* Looks for a fault, in a session of SPI. */
static void
look_for_fault(Relation rel, int64 segment, const char *table, const Fault *fault)
{
	char	   *number = psprintf(INT64_FORMAT, segment);
	char	   *sql = psprintf(fault->query, table, number);

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not check a table: %s", sql);
	if (SPI_processed > 0)
		es_checks_report(rel, segment, psprintf(fault->detail,
												SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)));
}

/* What a table has of a stream. */
typedef struct StreamSpan
{
	int64		id;
	int64		first_segment;
	int64		last_segment;
	int64		first_version;
	int64		last_version;
} StreamSpan;

/*
 * Tells whether a stream's versions in a table come after those in the nearest segment
 * before it that has the stream, and before those in the nearest after it.
 */
static bool
fits_between(const StreamSpan *stream, int64 segment, Snapshot *snapshot)
{
	EsSegmentScan scan = {.fresh = snapshot};
	bool		isnull = true;
	int64		version;

	for (int64 n = segment - 1; isnull && n >= stream->first_segment; n--)
	{
		version = DatumGetInt64(es_scan_edge_version(scan, n, stream->id, BackwardScanDirection, &isnull));
		if (!isnull && version >= stream->first_version)
			return false;
	}
	isnull = true;
	for (int64 n = segment + 1; isnull && n <= stream->last_segment; n++)
	{
		version = DatumGetInt64(es_scan_edge_version(scan, n, stream->id, ForwardScanDirection, &isnull));
		if (!isnull && version <= stream->last_version)
			return false;
	}
	return true;
}

/* Reads a row about a stream. */
static void
take_stream_span(HeapTuple row, TupleDesc desc, StreamSpan *stream)
{
	bool		isnull;

	stream->id = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	stream->first_segment = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
	stream->last_segment = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
	stream->first_version = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
	stream->last_version = DatumGetInt64(SPI_getbinval(row, desc, 5, &isnull));
}

/* Checks a table's streams against the segments around, in a session of SPI. */
static void
check_neighbours(Relation rel, int64 segment, const char *table, Snapshot *snapshot)
{
	SPIParseOpenOptions options = {.read_only = true};
	Portal		portal = SPI_cursor_parse_open(NULL, psprintf(
															  "SELECT s.stream_id, s.first_segment, s.last_segment, v.first, v.last FROM (SELECT e.stream_id,"
															  " pg_catalog.min(e.version) AS first, pg_catalog.max(e.version) AS last FROM %s e GROUP BY e.stream_id) v"
															  " JOIN eventstore.streams s ON s.stream_id OPERATOR(pg_catalog.=) v.stream_id"
															  " WHERE s.first_segment OPERATOR(pg_catalog.<>) s.last_segment", table),
											   &options);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, STREAMS_AT_ONCE);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			StreamSpan	stream;

			CHECK_FOR_INTERRUPTS();
			take_stream_span(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &stream);
			if (!fits_between(&stream, segment, snapshot))
				es_checks_report(rel, segment, psprintf("Versions " INT64_FORMAT " to " INT64_FORMAT " of stream id " INT64_FORMAT
														" do not fit between those in other segments.",
														stream.first_version, stream.last_version, stream.id));
		}
		if (SPI_processed == 0)
			break;
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

/*
 * es_checks_run raises VE008 unless the events of a table that is locked, and is the store's
 * owner's, fit into the log.
 */
void
es_checks_run(Relation rel, const EsArchived *known)
{
	EsOwnerContext caller;
	char	   *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel));
	Snapshot	snapshot = es_rows_fresh_snapshot();

	/*
	 * whoever plans a query runs functions in expressions of the tables'
	 * indexes
	 */
	es_owner_shield(&caller);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	for (int i = 0; i < lengthof(faults); i++)
		look_for_fault(rel, known->segment, table, &faults[i]);
	check_neighbours(rel, known->segment, table, &snapshot);
	PopActiveSnapshot();
	SPI_finish();
	es_owner_unshield(&caller);
	UnregisterSnapshot(snapshot);
}
