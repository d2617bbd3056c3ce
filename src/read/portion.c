/*
 * portion.c
 *		Some events of a read, kept in memory until they are taken.
 *
 * They are kept as they are stored: what is encrypted, compressed or out of line stays
 * so.  What is out of line must have been given out by who has read it (log/scan.c).
 */
#include "read/portion.h"

#include "utils/memutils.h"

#define FIRST_ROOM	32
#define BLOCK_BYTES	8192		/* of memory for varlenas */

/* es_portion_make makes an empty portion in the current memory context. */
EsPortion *
es_portion_make(EsColumns columns)
{
	EsPortion  *portion = palloc0(sizeof(EsPortion));

	portion->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore portion", ALLOCSET_DEFAULT_SIZES);
	portion->columns = columns;
	portion->room = FIRST_ROOM;
	portion->events = palloc(sizeof(EsEvent) * portion->room);
	portion->block = portion->place = palloc(BLOCK_BYTES);
	portion->end = portion->block + BLOCK_BYTES;
	return portion;
}

/* es_portion_clear takes all events out. */
void
es_portion_clear(EsPortion *portion)
{
	MemoryContextReset(portion->context);
	portion->count = portion->taken = 0;
	portion->bytes = 0;
	portion->place = portion->block;
	portion->end = portion->block + BLOCK_BYTES;
}

/* Gets room for the varlenas of an event, in a block more. */
static void
add_block(EsPortion *portion, Size size)
{
	Size		room = Max(size, BLOCK_BYTES);

	portion->place = MemoryContextAllocHuge(portion->context, room);
	portion->end = portion->place + room;
}

/* Where a varlena is put after those before it. */
static inline Size
room_for(bool wanted, Datum value)
{
	return wanted ? MAXALIGN(VARSIZE_ANY(DatumGetPointer(value))) : 0;
}

/* Copies a varlena to *place, which moves on. */
static inline Datum
put_value(bool wanted, Datum value, char **place)
{
	char	   *copy = *place;
	Size		size;

	if (!wanted)
		return (Datum) 0;
	size = VARSIZE_ANY(DatumGetPointer(value));
	memcpy(copy, DatumGetPointer(value), size);
	*place += MAXALIGN(size);
	return PointerGetDatum(copy);
}

/* es_portion_add, a callback, puts a copy of an event into the portion that it is given. */
void
es_portion_add(const EsEvent *event, void *arg)
{
	EsPortion  *portion = arg;
	EsColumns	columns = portion->columns;
	EsEvent    *copy;
	Size		size = room_for(columns.stream, event->stream) + room_for(columns.type, event->type) +
	room_for(columns.data, event->data) + room_for(columns.metadata, event->metadata);

	if (portion->count == portion->room)
	{
		portion->room *= 2;
		portion->events = repalloc(portion->events, sizeof(EsEvent) * portion->room);
	}
	if (unlikely(size > portion->end - portion->place))
		add_block(portion, size);
	copy = &portion->events[portion->count++];
	*copy = *event;
	copy->stream = put_value(columns.stream, event->stream, &portion->place);
	copy->type = put_value(columns.type, event->type, &portion->place);
	copy->data = put_value(columns.data, event->data, &portion->place);
	copy->metadata = put_value(columns.metadata, event->metadata, &portion->place);
	portion->bytes += size;
}

/* es_portion_free frees a portion. */
void
es_portion_free(EsPortion *portion)
{
	MemoryContextDelete(portion->context);
	pfree(portion->block);
	pfree(portion->events);
	pfree(portion);
}
