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

#endif							/* ES_READ_FIND_H */
