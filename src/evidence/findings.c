/*
 * findings.c
 *		What verifying has found, sorted and put into words.
 *
 * Findings come in any order, from several processes, and may be as many as the log has
 * events; they are sorted by position, on disk beyond work_mem.  What was looked at twice
 * may have been found twice.
 *
 * An event that is not what was sealed at its position may be what was sealed at another
 * one: then it was moved.  That is found out for the first few such: the event's digest is
 * made as it would be at each position whose own event is gone or another one.
 */
#include "evidence/findings.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/tupdesc.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "base/event.h"
#include "evidence/digest.h"
#include "evidence/legible.h"
#include "evidence/tile.h"
#include "log/scan.h"
#include "log/segment.h"
#include "table/rows.h"

/* ---- taking ---- */

/* es_findings_desc makes the descriptor of findings. */
TupleDesc
es_findings_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(Natts_es_findings);

	TupleDescInitEntry(desc, Anum_es_findings_position, "position", INT8OID, -1, 0);
	TupleDescInitEntry(desc, Anum_es_findings_flaw, "flaw", INT4OID, -1, 0);
	TupleDescInitEntry(desc, Anum_es_findings_other, "other", INT8OID, -1, 0);
	return desc;
}

/* es_findings_fill makes a row of a finding. */
void
es_findings_fill(TupleTableSlot *row, int64 position, EsFlaw flaw, int64 other)
{
	ExecClearTuple(row);
	memset(row->tts_isnull, 0, sizeof(bool) * Natts_es_findings);
	row->tts_values[Anum_es_findings_position - 1] = Int64GetDatum(position);
	row->tts_values[Anum_es_findings_flaw - 1] = Int32GetDatum(flaw);
	row->tts_values[Anum_es_findings_other - 1] = Int64GetDatum(other);
	ExecStoreVirtualTuple(row);
}

/* es_findings_begin prepares for findings, in the current memory context. */
void
es_findings_begin(EsFindings *findings)
{
	memset(findings, 0, sizeof(*findings));
	findings->row = MakeSingleTupleTableSlot(es_findings_desc(), &TTSOpsVirtual);
	findings->rows = tuplestore_begin_heap(false, false, work_mem);
}

/* Adds a position to a few. */
static void
add_to_few(EsFewPositions *few, int64 position)
{
	if (few->count < ES_FINDINGS_MOST_MOVED)
		few->positions[few->count++] = position;
}

/* es_findings_take_row takes a finding as a row. */
void
es_findings_take_row(EsFindings *findings, TupleTableSlot *row)
{
	int64		position;
	EsFlaw		flaw;

	slot_getallattrs(row);
	position = DatumGetInt64(row->tts_values[Anum_es_findings_position - 1]);
	flaw = DatumGetInt32(row->tts_values[Anum_es_findings_flaw - 1]);
	if (flaw == ES_FLAW_CHANGED || flaw == ES_FLAW_INSERTED)
		add_to_few(&findings->strangers, position);
	if (flaw == ES_FLAW_CHANGED || flaw == ES_FLAW_REMOVED)
		add_to_few(&findings->vacated, position);
	findings->any_removed = findings->any_removed || flaw == ES_FLAW_REMOVED;
	tuplestore_puttupleslot(findings->rows, row);
}

/* es_findings_take, a callback, takes a finding. */
void
es_findings_take(int64 position, EsFlaw flaw, int64 other, void *arg)
{
	EsFindings *findings = arg;

	es_findings_fill(findings->row, position, flaw, other);
	es_findings_take_row(findings, findings->row);
}

/* ---- what was moved ---- */

/* Finds the kept leaves of positions that events are gone from. */
static void
find_vacated_leaves(const EsFindings *findings, const EsInspector *inspected, Snapshot snapshot,
					EsDigest *leaves, bool *found)
{
	EsTile	   *tile = palloc(sizeof(EsTile));
	int64		tiles = (inspected->size + ES_TILE_SIZE - 1) / ES_TILE_SIZE;

	for (int i = 0; i < findings->vacated.count; i++)
	{
		int64		position = findings->vacated.positions[i];
		int			leaf = -1;

		if (es_tile_read(0, es_tile_find(position, tiles, snapshot), snapshot, tile) == ES_TILE_GOOD)
			leaf = es_tile_find_leaf(tile, position);
		found[i] = leaf >= 0;
		if (found[i])
			leaves[i] = tile->digests[leaf];
	}
	pfree(tile);
}

/* Finds out at which of the positions that events are gone from one was sealed; 0 if at none. */
static int64
find_origin(const EsFindings *findings, EsDigester *digester, EsEvent event, const EsDigest *leaves, const bool *found)
{
	for (int i = 0; i < findings->vacated.count; i++)
	{
		EsDigest	leaf;

		CHECK_FOR_INTERRUPTS();
		event.position = findings->vacated.positions[i];
		if (!found[i])
			continue;
		es_digest_event(digester, &event, &leaf);
		if (es_digest_same(&leaf, &leaves[i]))
			return event.position;
	}
	return 0;
}

/* A scan of the index of positions, for one of them or those up to one. */
static EsSegmentScan
scan_of_positions(Snapshot *snapshot, int strategy, RegProcedure compare, int64 position)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = snapshot,.needed = true,.own_slot = true,
	.wants_keys = true,.nkeys = 1};

	ScanKeyInit(&scan.keys[0], 1, strategy, compare, Int64GetDatum(position));
	return scan;
}

/* What is tried. */
typedef struct OriginSearch
{
	EsFindings *findings;
	const EsInspector *inspected;
} OriginSearch;

/* A try: finds out where strangers were sealed. */
static void
find_origins(void *arg)
{
	EsFindings *findings = ((OriginSearch *) arg)->findings;
	EsDigest	leaves[ES_FINDINGS_MOST_MOVED];
	bool		found[ES_FINDINGS_MOST_MOVED];
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsDigester	digester;

	es_digest_begin(&digester);
	find_vacated_leaves(findings, ((OriginSearch *) arg)->inspected, snapshot, leaves, found);
	for (int i = 0; i < findings->strangers.count; i++)
	{
		int64		position = findings->strangers.positions[i];
		EsSegmentScan scan = scan_of_positions(&snapshot, BTEqualStrategyNumber, F_INT8EQ, position);
		EsEvent		event;

		if (!es_scan_begin(&scan, es_segment_of(position)))
			continue;
		if (index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot) && es_legible_event(scan.slot, &event))
			findings->from[i] = find_origin(findings, &digester, event, leaves, found);
		es_scan_end(&scan);
	}
	es_digest_end(&digester);
	UnregisterSnapshot(snapshot);
}

/* Finds the last position up to one that the log has an event at. */
static int64
find_last_event(int64 upto)
{
	int64		newest = es_segment_newest_reaching(upto);
	int64		segment = es_segment_of(upto);
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int64		last = 0;

	for (int64 n = Min(newest, segment); last == 0 && n >= 0; n--)
	{
		EsSegmentScan scan = scan_of_positions(&snapshot, BTLessEqualStrategyNumber, F_INT8LE, upto);

		CHECK_FOR_INTERRUPTS();
		scan.backwards = true;
		if (!es_scan_begin(&scan, n))
			continue;
		if (index_getnext_slot(scan.scan, BackwardScanDirection, scan.slot))
			last = es_scan_key(&scan, 1);
		es_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
	return last;
}

/* ---- words ---- */

/* Where the event at a position was sealed, if that is known; else 0. */
static int64
get_origin(const EsFindings *findings, int64 position)
{
	for (int i = 0; i < findings->strangers.count; i++)
		if (findings->strangers.positions[i] == position)
			return findings->from[i];
	return 0;
}

/* Puts an event into words that is not there. */
static char *
word_removal(const EsFindings *findings, int64 position)
{
	if (position > findings->last_event)
		return psprintf("removed: the log ends at position " INT64_FORMAT ", and the event was sealed",
						findings->last_event);
	return pstrdup("removed: the event was sealed, and scavenging has not removed it");
}

/* Puts an event into words that is there. */
static char *
word_stranger(const EsFindings *findings, int64 position, bool inserted)
{
	int64		origin = get_origin(findings, position);

	if (origin != 0 && origin != position)
		return psprintf("moved: the event was sealed at position " INT64_FORMAT, origin);
	return pstrdup(inserted ? "inserted: the log had no event here when it was sealed" :
				   "changed: the event is not the one that was sealed");
}

/* Puts what is wrong with digests into words. */
static char *
word_digest_flaw(EsFlaw flaw, int64 other)
{
	switch (flaw)
	{
		case ES_FLAW_LEAF:
			return pstrdup("leaf changed: the digest that is kept of the event is not the one that was sealed");
		case ES_FLAW_TILE:
			return psprintf("tile changed: the digests up to position " INT64_FORMAT " are not those that were sealed", other);
		case ES_FLAW_TILE_LOST:
			return psprintf("tile lost: the digests from here on, of level " INT64_FORMAT ", are missing, damaged, too few or too many",
							other);
		default:
			return pstrdup("unsealed: the seals of the events from here on are missing");
	}
}

/* Puts what is wrong with a seal into words. */
static char *
word_seal_flaw(EsFlaw flaw)
{
	switch (flaw)
	{
		case ES_FLAW_SEAL:
			return pstrdup("seal changed: its root is not that of the digests");
		case ES_FLAW_SEAL_LOST:
			return pstrdup("seal damaged: it cannot be read");
		case ES_FLAW_SEAL_BOUND:
			return pstrdup("seal changed: its position and its size are not of each other");
		default:
			return pstrdup("chain broken: the seal does not follow the one before it");
	}
}

/* Puts a finding into words. */
static char *
word_finding(const EsFindings *findings, int64 position, EsFlaw flaw, int64 other)
{
	switch (flaw)
	{
		case ES_FLAW_CHANGED:
		case ES_FLAW_INSERTED:
			return word_stranger(findings, position, flaw == ES_FLAW_INSERTED);
		case ES_FLAW_ILLEGIBLE:
			return pstrdup("damaged: the event cannot be read");
		case ES_FLAW_REMOVED:
			return word_removal(findings, position);
		case ES_FLAW_RETURNED:
			return pstrdup("returned: the event is there, and scavenging had removed it");
		case ES_FLAW_NOT_HIDDEN:
			return psprintf("removed: the event is said to be scavenged, and stream " INT64_FORMAT " does not hide it", other);
		case ES_FLAW_MISFILED:
			return pstrdup("misfiled: the event is as it was sealed, and who reads its stream or its category does not find it");
		case ES_FLAW_LEAF:
		case ES_FLAW_TILE:
		case ES_FLAW_TILE_LOST:
		case ES_FLAW_UNSEALED:
			return word_digest_flaw(flaw, other);
		default:
			return word_seal_flaw(flaw);
	}
}

/* Sorts the findings. */
static Tuplesortstate *
sort_findings(EsFindings *findings, TupleTableSlot *row)
{
	AttrNumber	columns[] = {Anum_es_findings_position, Anum_es_findings_flaw};
	Oid			operators[] = {Int8LessOperator, Int4LessOperator};
	Oid			collations[] = {InvalidOid, InvalidOid};
	bool		nulls_first[] = {false, false};
	Tuplesortstate *sorted = tuplesort_begin_heap(row->tts_tupleDescriptor, lengthof(columns), columns, operators,
												  collations, nulls_first, work_mem, NULL, TUPLESORT_NONE);

	while (tuplestore_gettupleslot(findings->rows, true, false, row))
	{
		CHECK_FOR_INTERRUPTS();
		tuplesort_puttupleslot(sorted, row);
	}
	tuplesort_performsort(sorted);
	return sorted;
}

/* Puts a finding into the result. */
static void
return_finding(const EsFindings *findings, int64 position, EsFlaw flaw, int64 other, ReturnSetInfo *result)
{
	char	   *words = word_finding(findings, position, flaw, other);
	Datum		values[] = {Int64GetDatum(position), CStringGetTextDatum(words)};
	bool		isnull[] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	pfree(words);
	pfree(DatumGetPointer(values[1]));
}

/* es_findings_return gives the findings, each once and in order, and ends them. */
void
es_findings_return(EsFindings *findings, const EsInspector *inspected, ReturnSetInfo *result)
{
	TupleTableSlot *row = MakeSingleTupleTableSlot(findings->row->tts_tupleDescriptor, &TTSOpsMinimalTuple);
	Tuplesortstate *sorted;
	OriginSearch search = {.findings = findings,.inspected = inspected};
	int64		last_position = 0;
	int			last_flaw = -1;

	if (findings->strangers.count > 0 && findings->vacated.count > 0)
		(void) es_inspect_try(find_origins, &search);
	if (findings->any_removed)
		findings->last_event = find_last_event(inspected->to);
	sorted = sort_findings(findings, row);
	while (tuplesort_gettupleslot(sorted, true, false, row, NULL))
	{
		int64		position;
		int			flaw;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		position = DatumGetInt64(row->tts_values[Anum_es_findings_position - 1]);
		flaw = DatumGetInt32(row->tts_values[Anum_es_findings_flaw - 1]);
		if (position != last_position || flaw != last_flaw)
			return_finding(findings, position, flaw, DatumGetInt64(row->tts_values[Anum_es_findings_other - 1]), result);
		last_position = position;
		last_flaw = flaw;
	}
	tuplesort_end(sorted);
	tuplestore_end(findings->rows);
	ExecDropSingleTupleTableSlot(row);
	ExecDropSingleTupleTableSlot(findings->row);
}
