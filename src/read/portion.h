/*
 * portion.h
 *		Some events of a read, kept in memory until they are taken.
 */
#ifndef ES_READ_PORTION_H
#define ES_READ_PORTION_H

#include "base/base.h"

#include "base/event.h"

/* Which columns of events are kept; the others are 0. */
typedef struct EsColumns
{
	bool		stream;
	bool		type;
	bool		data;
	bool		metadata;
} EsColumns;

typedef struct EsPortion
{
	MemoryContext context;		/* of the events */
	EsColumns	columns;
	EsEvent    *events;
	int			room;
	int			count;
	int			taken;			/* of these */
	Size		bytes;			/* of their varlenas */
	char	   *block;			/* where the first of these are */
	char	   *place;			/* where the next ones go */
	char	   *end;			/* of what is there */
} EsPortion;

extern EsPortion *es_portion_make(EsColumns columns);
extern void es_portion_clear(EsPortion *portion);
extern void es_portion_grow(EsPortion *portion);
extern void es_portion_keep(EsPortion *portion);
extern void es_portion_free(EsPortion *portion);

/* es_portion_room gives the place of an event that may become the next one of a portion. */
static inline EsEvent *
es_portion_room(EsPortion *portion)
{
	if (unlikely(portion->count == portion->room))
		es_portion_grow(portion);
	return &portion->events[portion->count];
}

/* es_portion_take gives the next event; NULL if all are taken. */
static inline EsEvent *
es_portion_take(EsPortion *portion)
{
	return portion->taken < portion->count ? &portion->events[portion->taken++] : NULL;
}

#endif							/* ES_READ_PORTION_H */
