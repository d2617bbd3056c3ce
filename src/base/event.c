/*
 * event.c
 *		An event: the stored row, and the SQL type es_event.
 */
#include "base/event.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/objects.h"

#define END_OF_FIXED	61		/* columns of a stored row */

const Oid	es_event_types[Natts_es_event] = {
	INT8OID, TEXTOID, INT8OID, TEXTOID, INT4OID, JSONBOID, JSONBOID, UUIDOID, TIMESTAMPTZOID
};

/* The types of a stored event's columns. */
const Oid	es_event_row_types[Natts_es_events] = {
	INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, UUIDOID, INT4OID, INT4OID,
	INT4OID, BOOLOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID
};

/* Gives the value that begins at an offset, or after it where it is aligned. */
static inline Datum
point_to_value(const char *row, uint32 *offset)
{
	*offset = att_align_pointer(*offset, TYPALIGN_INT, -1, row + *offset);
	return PointerGetDatum(row + *offset);
}

/*
 * Reads a stored row in which no column is NULL.  The columns of fixed width lie in it as they do
 * in an event, so they are copied as a whole.
 */
static inline void
take_event_apart(const HeapTupleHeader header, EsEvent *event, bool with_metadata)
{
	const char *row = (const char *) header + header->t_hoff;
	uint32		offset = END_OF_FIXED;

	StaticAssertStmt(offsetof(EsEvent, stream_id) == 8 && offsetof(EsEvent, version) == 16 &&
					 offsetof(EsEvent, recorded_at) == 24 && offsetof(EsEvent, event_id) == 32 &&
					 offsetof(EsEvent, category_key) == 48 && offsetof(EsEvent, type_version) == 52 &&
					 offsetof(EsEvent, run_length) == 56 && offsetof(EsEvent, id_given) == 60,
					 "an event must begin as its stored row does");
	memcpy(event, row, END_OF_FIXED);
	event->stream = point_to_value(row, &offset);
	offset += VARSIZE_ANY(row + offset);
	event->type = point_to_value(row, &offset);
	offset += VARSIZE_ANY(row + offset);
	event->data = point_to_value(row, &offset);
	event->metadata = (Datum) 0;
	if (!with_metadata)
		return;
	offset += VARSIZE_ANY(row + offset);
	event->metadata = point_to_value(row, &offset);
}

/*
 * es_event_take reads a row of a segment; the varlenas stay in the row.  All columns are NOT NULL,
 * so that where they are is known without the descriptor, which was checked as the segment was
 * opened.  False if the row may have a NULL, as one that got a column more: then it takes
 * es_event_deform.
 */
bool
es_event_take(const HeapTupleData *row, EsEvent *event, bool with_metadata)
{
	if (unlikely(HeapTupleHasNulls(row) || HeapTupleHeaderGetNatts(row->t_data) < Natts_es_events))
		return false;
	take_event_apart(row->t_data, event, with_metadata);
	return true;
}

/*
 * es_event_deform reads a slot of a segment; the varlenas stay in the slot.
 * Metadata, the last column, are only read if they are wanted: they may be in
 * memory that nothing else has touched.
 */
void
es_event_deform(TupleTableSlot *slot, EsEvent *event, bool with_metadata)
{
	Datum	   *v = slot->tts_values;
	HeapTuple	row = TTS_IS_BUFFERTUPLE(slot) || TTS_IS_HEAPTUPLE(slot) ? ((HeapTupleTableSlot *) slot)->tuple : NULL;

	StaticAssertStmt(Anum_es_events_metadata == Natts_es_events, "metadata must be the last column");
	if (likely(row != NULL && es_event_take(row, event, with_metadata)))
		return;
	slot_getsomeattrs(slot, with_metadata ? Natts_es_events : Natts_es_events - 1);
	event->position = DatumGetInt64(v[Anum_es_events_position - 1]);
	event->stream_id = DatumGetInt64(v[Anum_es_events_stream_id - 1]);
	event->version = DatumGetInt64(v[Anum_es_events_version - 1]);
	event->recorded_at = DatumGetTimestampTz(v[Anum_es_events_recorded_at - 1]);
	event->event_id = *DatumGetUUIDP(v[Anum_es_events_event_id - 1]);
	event->category_key = DatumGetInt32(v[Anum_es_events_category_key - 1]);
	event->type_version = DatumGetInt32(v[Anum_es_events_type_version - 1]);
	event->run_length = DatumGetInt32(v[Anum_es_events_run_length - 1]);
	event->id_given = DatumGetBool(v[Anum_es_events_id_given - 1]);
	event->stream = v[Anum_es_events_stream - 1];
	event->type = v[Anum_es_events_type - 1];
	event->data = v[Anum_es_events_data - 1];
	event->metadata = with_metadata ? v[Anum_es_events_metadata - 1] : (Datum) 0;
}

/* es_event_values fills the attributes of es_event; they point into the event. */
void
es_event_values(const EsEvent *event, Datum *values, bool *isnull)
{
	memset(isnull, false, Natts_es_event * sizeof(bool));
	values[Anum_es_event_position - 1] = Int64GetDatum(event->position);
	values[Anum_es_event_stream - 1] = event->stream;
	values[Anum_es_event_version - 1] = Int64GetDatum(event->version);
	values[Anum_es_event_type - 1] = event->type;
	values[Anum_es_event_type_version - 1] = Int32GetDatum(event->type_version);
	values[Anum_es_event_data - 1] = event->data;
	values[Anum_es_event_metadata - 1] = event->metadata;
	values[Anum_es_event_event_id - 1] = UUIDPGetDatum(&event->event_id);
	values[Anum_es_event_recorded_at - 1] = TimestampTzGetDatum(event->recorded_at);
}

/* es_event_empty_object gives the jsonb {}. */
Datum
es_event_empty_object(void)
{
	static Datum empty = (Datum) 0;

	if (empty == (Datum) 0)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		empty = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
		MemoryContextSwitchTo(old);
	}
	return empty;
}

/*
 * es_event_check_type raises 55000 unless a composite type of ours has the
 * attributes that it was made with: they are read and written by number.
 */
void
es_event_check_type(TupleDesc desc, const Oid *types, int natts)
{
	bool		same = desc->natts == natts;

	for (int i = 0; same && i < natts; i++)
		same = TupleDescAttr(desc, i)->atttypid == types[i];
	if (!same)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("type %s does not have the attributes that the event store gave it", format_type_be(desc->tdtypeid)),
				desc->natts > natts ?
				errhint("An attribute keeps its place also once it is dropped: dump the database, and restore it into a new one.") :
				errhint("Undo what was done to it with ALTER TYPE."));
}

/* es_event_check does so for es_event, and what has the same attributes. */
void
es_event_check(TupleDesc desc)
{
	es_event_check_type(desc, es_event_types, Natts_es_event);
}

/* es_event_form makes an es_event value of its attributes, in the current memory context. */
Datum
es_event_form(Datum *values, bool *isnull)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(es_base_event_type(), -1);
	HeapTuple	tuple;

	es_event_check(desc);
	tuple = heap_form_tuple(desc, values, isnull);
	ReleaseTupleDesc(desc);
	return HeapTupleGetDatum(tuple);
}

/* es_event_datum makes an es_event value of an event, in the current memory context. */
Datum
es_event_datum(const EsEvent *event)
{
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	es_event_values(event, values, isnull);
	return es_event_form(values, isnull);
}

/*
 * es_event_of_values fills an event with attributes of es_event; what is NULL is empty.  False if
 * its type or its data is NULL: then it is no event.
 */
bool
es_event_of_values(const Datum *values, const bool *isnull, EsEvent *event)
{
	memset(event, 0, sizeof(*event));
	if (isnull[Anum_es_event_type - 1] || isnull[Anum_es_event_data - 1])
		return false;
	event->type = values[Anum_es_event_type - 1];
	event->data = values[Anum_es_event_data - 1];
	event->stream = isnull[Anum_es_event_stream - 1] ? CStringGetTextDatum("") : values[Anum_es_event_stream - 1];
	event->metadata = isnull[Anum_es_event_metadata - 1] ?
		es_event_empty_object() : values[Anum_es_event_metadata - 1];
	event->position = isnull[Anum_es_event_position - 1] ? 0 : DatumGetInt64(values[Anum_es_event_position - 1]);
	event->version = isnull[Anum_es_event_version - 1] ? 0 : DatumGetInt64(values[Anum_es_event_version - 1]);
	event->type_version = isnull[Anum_es_event_type_version - 1] ? 1 :
		DatumGetInt32(values[Anum_es_event_type_version - 1]);
	if (!isnull[Anum_es_event_recorded_at - 1])
		event->recorded_at = DatumGetTimestampTz(values[Anum_es_event_recorded_at - 1]);
	if (!isnull[Anum_es_event_event_id - 1])
		event->event_id = *DatumGetUUIDP(values[Anum_es_event_event_id - 1]);
	return true;
}

/*
 * es_event_of_datum takes an es_event value apart, into its attributes and
 * into an event, as es_event_of_values does.
 */
bool
es_event_of_datum(Datum composite, EsEvent *event, Datum *values, bool *isnull)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(composite);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),.t_data = header};

	es_event_check(desc);
	heap_deform_tuple(&tuple, desc, values, isnull);
	ReleaseTupleDesc(desc);
	return es_event_of_values(values, isnull, event);
}

/* es_event_report_null raises 22004 for an event without its type or its data. */
void
es_event_report_null(void)
{
	ereport(ERROR,
			errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			errmsg("\"type\" and \"data\" of an event must not be null"));
}
