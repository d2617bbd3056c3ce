/*
 * legible.c
 *		Rows of events that may be damaged.
 *
 * Who verifies trusts neither lengths in a row (table/intact.c) nor what a jsonb says of
 * itself (json/sound.c).  What is out of line or compressed raises errors of the server's own
 * where it is damaged.
 */
#include "evidence/legible.h"

#include "utils/jsonb.h"

#include "json/sound.h"
#include "table/intact.h"

/*
 * es_legible_event reads the event of a slot, with its JSON in memory, in the current memory
 * context; false if it is too damaged to be read.
 */
bool
es_legible_event(TupleTableSlot *slot, EsEvent *event)
{
	if (!es_intact_row(slot, Natts_es_events))
		return false;
	es_event_deform(slot, event, true);
	event->data = PointerGetDatum(DatumGetJsonbP(event->data));
	event->metadata = PointerGetDatum(DatumGetJsonbP(event->metadata));
	return es_sound_jsonb((const Jsonb *) DatumGetPointer(event->data)) &&
		es_sound_jsonb((const Jsonb *) DatumGetPointer(event->metadata));
}
