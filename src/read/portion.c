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

/* Gets room for a varlena, in a block more. */
static void
add_block(EsPortion *portion, Size size)
{
	Size		room = Max(size, BLOCK_BYTES);

	portion->place = MemoryContextAllocHuge(portion->context, room);
	portion->end = portion->place + room;
}

/* Copies a varlena after those that are kept. */
static inline Datum
keep_value(EsPortion *portion, bool wanted, Datum value)
{
	Size		size;
	char	   *copy;

	if (!wanted)
		return (Datum) 0;
	size = VARSIZE_ANY(DatumGetPointer(value));
	if (unlikely(MAXALIGN(size) > portion->end - portion->place))
		add_block(portion, MAXALIGN(size));
	copy = portion->place;
	memcpy(copy, DatumGetPointer(value), size);
	portion->place += MAXALIGN(size);
	portion->bytes += MAXALIGN(size);
	return PointerGetDatum(copy);
}

/* es_portion_grow makes room for more events. */
void
es_portion_grow(EsPortion *portion)
{
	portion->room *= 2;
	portion->events = repalloc(portion->events, sizeof(EsEvent) * portion->room);
}

/*
 * es_portion_keep has a portion keep the event that has been put into its room, with copies of its
 * varlenas.
 */
void
es_portion_keep(EsPortion *portion)
{
	EsEvent    *event = &portion->events[portion->count++];

	event->stream = keep_value(portion, portion->columns.stream, event->stream);
	event->type = keep_value(portion, portion->columns.type, event->type);
	event->data = keep_value(portion, portion->columns.data, event->data);
	event->metadata = keep_value(portion, portion->columns.metadata, event->metadata);
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
