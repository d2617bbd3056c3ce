/*
 * intact.c
 *		Whether a row that may be damaged can be taken apart.
 *
 * The server trusts the lengths that a row has.  One whose bits have turned on disk would lead
 * out of the page, and end the server.  Who must expect that looks at them first.
 */
#include "table/intact.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_attribute.h"

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

/*
 * es_intact_row tells whether the first columns of a row, none of which may be NULL, are within
 * it; the slot holds it as it is stored.
 */
bool
es_intact_row(TupleTableSlot *slot, int ncolumns)
{
	HeapTuple	row = ExecFetchSlotHeapTuple(slot, false, NULL);
	TupleDesc	desc = slot->tts_tupleDescriptor;
	const char *data = (const char *) row->t_data + row->t_data->t_hoff;
	Size		end;
	Size		at = 0;

	if (row->t_data->t_hoff < SizeofHeapTupleHeader || row->t_data->t_hoff > row->t_len ||
		HeapTupleHeaderGetNatts(row->t_data) < ncolumns)
		return false;
	end = row->t_len - row->t_data->t_hoff;
	for (int i = 0; i < ncolumns; i++)
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
