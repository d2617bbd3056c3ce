/*
 * legible.c
 *		Rows of events that may be damaged.
 *
 * The server trusts the lengths that a row has.  Who verifies cannot: a bit that has turned
 * would lead out of the page, and end the server.  So they are looked at first.  What is out
 * of line or compressed raises errors of the server's own where it is damaged.
 */
#include "evidence/legible.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_attribute.h"
#include "utils/jsonb.h"

#include "json/sound.h"

/* Tells whether a value out of line begins within so many bytes. */
static bool
fits_pointer(const char *value, Size room)
{
	return room >= VARHDRSZ_EXTERNAL + 1 && VARTAG_EXTERNAL(value) == VARTAG_ONDISK && VARSIZE_EXTERNAL(value) <= room;
}

/* Tells whether a value of variable length is within so many bytes. */
static bool
fits_varlena(const char *value, Size room)
{
	if (room == 0)
		return false;
	if (VARATT_IS_1B_E(value))
		return fits_pointer(value, room);
	if (VARATT_IS_1B(value))
		return VARSIZE_1B(value) >= VARHDRSZ_SHORT && VARSIZE_1B(value) <= room;
	return room >= VARHDRSZ && VARSIZE_4B(value) >= VARHDRSZ && VARSIZE_4B(value) <= room &&
		(!VARATT_IS_4B_C(value) || VARSIZE_4B(value) >= VARHDRSZ_COMPRESSED);
}

/* Tells whether the columns of an event, none of them NULL, are within their row. */
static bool
fits_row(HeapTuple row, TupleDesc desc)
{
	const char *data = (const char *) row->t_data + row->t_data->t_hoff;
	Size		end;
	Size		at = 0;

	if (row->t_data->t_hoff < SizeofHeapTupleHeader || row->t_data->t_hoff > row->t_len ||
		HeapTupleHeaderGetNatts(row->t_data) < Natts_es_events)
		return false;
	end = row->t_len - row->t_data->t_hoff;
	for (int i = 0; i < Natts_es_events; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (HeapTupleHasNulls(row) && att_isnull(i, row->t_data->t_bits))
			return false;
		if (at >= end)
			return false;
		at = att_align_pointer(at, column->attalign, column->attlen, data + at);
		if (at >= end || (column->attlen < 0 ? !fits_varlena(data + at, end - at) : (Size) column->attlen > end - at))
			return false;
		at = att_addlength_pointer(at, column->attlen, data + at);
	}
	return true;
}

/*
 * es_legible_event reads the event of a slot, with its JSON in memory, in the current memory
 * context; false if it is too damaged to be read.
 */
bool
es_legible_event(TupleTableSlot *slot, EsEvent *event)
{
	if (!fits_row(ExecFetchSlotHeapTuple(slot, false, NULL), slot->tts_tupleDescriptor))
		return false;
	es_event_deform(slot, event, true);
	event->data = PointerGetDatum(DatumGetJsonbP(event->data));
	event->metadata = PointerGetDatum(DatumGetJsonbP(event->metadata));
	return es_sound_jsonb((const Jsonb *) DatumGetPointer(event->data)) &&
		es_sound_jsonb((const Jsonb *) DatumGetPointer(event->metadata));
}
