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
	bool		names;			/* stream and type */
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
} EsPortion;

extern EsPortion *es_portion_make(EsColumns columns);
extern void es_portion_clear(EsPortion *portion);
extern void es_portion_add(const EsEvent *event, void *arg);
extern EsEvent *es_portion_take(EsPortion *portion);
extern void es_portion_free(EsPortion *portion);

#endif							/* ES_READ_PORTION_H */
