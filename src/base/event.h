/*
 * event.h
 *		An event: the stored row, and the SQL type es_event.
 */
#ifndef ES_BASE_EVENT_H
#define ES_BASE_EVENT_H

#include "base/base.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Columns of eventstore.events and its segments, as in log/tables.sql. */
#define Anum_es_events_position			1
#define Anum_es_events_stream_id		2
#define Anum_es_events_version			3
#define Anum_es_events_recorded_at		4
#define Anum_es_events_event_id			5
#define Anum_es_events_category_key		6
#define Anum_es_events_type_version		7
#define Anum_es_events_run_length		8
#define Anum_es_events_id_given			9
#define Anum_es_events_stream			10
#define Anum_es_events_type				11
#define Anum_es_events_data				12
#define Anum_es_events_metadata			13
#define Natts_es_events					13

extern const Oid es_event_row_types[Natts_es_events];

/* Attributes of the SQL type es_event (and columns of the view es_events). */
#define Anum_es_event_position			1
#define Anum_es_event_stream			2
#define Anum_es_event_version			3
#define Anum_es_event_type				4
#define Anum_es_event_type_version		5
#define Anum_es_event_data				6
#define Anum_es_event_metadata			7
#define Anum_es_event_event_id			8
#define Anum_es_event_recorded_at		9
#define Natts_es_event					9

extern const Oid es_event_types[Natts_es_event];

/*
 * One stored event, deformed.  The varlena members are stored values: they
 * may be short, compressed or out of line, and belong to whoever filled the
 * struct (a scan: until its next step).
 */
typedef struct EsEvent
{
	int64		position;
	int64		stream_id;
	int64		version;
	TimestampTz recorded_at;
	pg_uuid_t	event_id;
	int32		category_key;
	int32		type_version;
	int32		run_length;		/* see read/cursor.c */
	bool		id_given;
	Datum		stream;			/* text */
	Datum		type;			/* text */
	Datum		data;			/* jsonb */
	Datum		metadata;		/* jsonb; 0 if it was not wanted */
} EsEvent;

extern bool es_event_take(const HeapTupleData *row, EsEvent *event, bool with_metadata);
extern void es_event_deform(TupleTableSlot *slot, EsEvent *event, bool with_metadata);
extern void es_event_values(const EsEvent *event, Datum *values, bool *isnull);
extern Datum es_event_empty_object(void);
extern void es_event_check_type(TupleDesc desc, const Oid *types, int natts);
extern void es_event_check(TupleDesc desc);
extern Datum es_event_form(Datum *values, bool *isnull);
extern Datum es_event_datum(const EsEvent *event);
extern bool es_event_of_values(const Datum *values, const bool *isnull, EsEvent *event);
extern bool es_event_of_datum(Datum composite, EsEvent *event, Datum *values, bool *isnull);
ES_NORETURN extern void es_event_report_null(void);

/* es_event_value gives one attribute of es_event; it points into the event. */
static inline Datum
es_event_value(const EsEvent *event, AttrNumber attribute)
{
	switch (attribute)
	{
		case Anum_es_event_position:
			return Int64GetDatum(event->position);
		case Anum_es_event_stream:
			return event->stream;
		case Anum_es_event_version:
			return Int64GetDatum(event->version);
		case Anum_es_event_type:
			return event->type;
		case Anum_es_event_type_version:
			return Int32GetDatum(event->type_version);
		case Anum_es_event_data:
			return event->data;
		case Anum_es_event_metadata:
			return event->metadata;
		case Anum_es_event_event_id:
			return UUIDPGetDatum(&event->event_id);
		case Anum_es_event_recorded_at:
			return TimestampTzGetDatum(event->recorded_at);
		default:
			elog(ERROR, "es_event has no attribute %d", attribute);
	}
	return (Datum) 0;
}

#endif							/* ES_BASE_EVENT_H */
