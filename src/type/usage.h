/*
 * usage.h
 *		Whether there are events of a version of a type.
 */
#ifndef ES_TYPE_USAGE_H
#define ES_TYPE_USAGE_H

#include "base/base.h"

/* Versions of a type of which an event is looked for, and one that was found. */
typedef struct EsUsage
{
	const text *type;
	int			lowest;
	int			highest;
	int64		position;
	int			version;
} EsUsage;

extern bool es_usage_find(EsUsage *usage, int64 after);

#endif							/* ES_TYPE_USAGE_H */
