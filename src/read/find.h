/*
 * find.h
 *		Finding one event.
 */
#ifndef ES_READ_FIND_H
#define ES_READ_FIND_H

#include "base/base.h"

/* What an event is called by. */
typedef struct EsEventName
{
	const text *stream;
	int64		version;
	const text *type;
} EsEventName;

extern bool es_find_name(int64 position, EsEventName *name);
extern int64 es_find_position(const text *stream, int64 version, int64 *found);
extern bool es_find_place(const text *stream, int64 version, int64 *position);
extern bool es_find_is_there(int64 position);

#endif							/* ES_READ_FIND_H */
