/*
 * detach.h
 *		Giving a segment back as a plain table.
 */
#ifndef ES_LIFECYCLE_DETACH_H
#define ES_LIFECYCLE_DETACH_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "lifecycle/contents.h"

/* A segment that is to go. */
typedef struct EsDetach
{
	int64		segment;
	Oid			relid;			/* InvalidOid: it stays */
	EsContents	contents;
} EsDetach;

extern EsDetach *es_detach_candidates(int *count);
extern void es_detach_begin(EsDetach *detach, int64 segment, TimestampTz before);
extern bool es_detach_run(const EsDetach *detach);

#endif							/* ES_LIFECYCLE_DETACH_H */
