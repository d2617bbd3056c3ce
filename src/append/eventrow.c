/*
 * eventrow.c
 *		A new event as a row of a segment, and as a stored event.
 */
#include "append/eventrow.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "log/durable.h"

/*
 * es_eventrow_recorded_at gives the time that an event is recorded at: never before
 * the one before it, its stream's tip.
 */
TimestampTz
es_eventrow_recorded_at(const EsNewEvent *event, const EsTip *tip, TimestampTz now)
{
	if (!event->time_given)
		return Max(now, tip->recorded_at);
	if (event->given_at < tip->recorded_at)
	{
		es_durable_flush_seen();
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"recorded_at\" of an event must not be earlier than that of the stream's last event"),
				errdetail("Stream \"%s\" has an event of %s.",
						  text_to_cstring(event->target->stream), timestamptz_to_str(tip->recorded_at)));
	}
	return event->given_at;
}

/*
 * es_eventrow_fill fills a slot for writing with an event, as a run of its own;
 * what it points to must live until the slot is written.
 */
void
es_eventrow_fill(TupleTableSlot *slot, const EsStream *stream, const EsNewEvent *event)
{
	Datum	   *v = slot->tts_values;

	v[Anum_es_events_position - 1] = Int64GetDatum(event->position);
	v[Anum_es_events_stream_id - 1] = Int64GetDatum(stream->id);
	v[Anum_es_events_version - 1] = Int64GetDatum(event->version);
	v[Anum_es_events_recorded_at - 1] = TimestampTzGetDatum(event->recorded_at);
	v[Anum_es_events_event_id - 1] = UUIDPGetDatum(&event->id);
	v[Anum_es_events_category_key - 1] = Int32GetDatum(stream->category_key);
	v[Anum_es_events_type_version - 1] = Int32GetDatum(event->type_version);
	v[Anum_es_events_run_length - 1] = Int32GetDatum(1);
	v[Anum_es_events_id_given - 1] = BoolGetDatum(event->id_given);
	v[Anum_es_events_stream - 1] = PointerGetDatum(event->target->stream);
	v[Anum_es_events_type - 1] = PointerGetDatum(event->type);
	v[Anum_es_events_data - 1] = event->concealed ? event->concealed : event->data;
	v[Anum_es_events_metadata - 1] = event->metadata;
	memset(slot->tts_isnull, false, Natts_es_events * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

/*
 * es_eventrow_join_runs joins the first n slots for writing, whose positions
 * are next to each other, into runs of one category.
 */
void
es_eventrow_join_runs(EsTable *table, int n)
{
	TupleTableSlot **slots = table->rows->slots;
	int			first = 0;

	for (int i = 1; i < n; i++)
	{
		Datum	   *v = slots[i]->tts_values;

		if (DatumGetInt32(v[Anum_es_events_category_key - 1]) ==
			DatumGetInt32(slots[first]->tts_values[Anum_es_events_category_key - 1]))
			v[Anum_es_events_run_length - 1] = Int32GetDatum(0);
		else
			first = i;
		slots[first]->tts_values[Anum_es_events_run_length - 1] = Int32GetDatum(i - first + 1);
	}
}

/*
 * es_eventrow_stored makes stored events of a call's new ones, without those that were
 * stored before; returns how many.  They point to what the call points to, their protected
 * fields encrypted.
 */
int
es_eventrow_stored(const EsAppend *append, EsEvent *events)
{
	int			n = 0;

	for (int i = 0; i < append->count; i++)
	{
		const EsNewEvent *source = &append->events[i];

		if (source->stored)
			continue;
		events[n++] = (EsEvent)
		{
			.position = source->position,
				.version = source->version,
				.recorded_at = source->recorded_at,
				.event_id = source->id,
				.type_version = source->type_version,
				.id_given = source->id_given,
				.stream = PointerGetDatum(source->target->stream),
				.type = PointerGetDatum(source->type),
				.data = source->concealed ? source->concealed : source->data,
				.metadata = source->metadata
		};
	}
	return n;
}
