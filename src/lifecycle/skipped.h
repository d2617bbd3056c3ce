/*
 * skipped.h
 *		Streams that retention comes back to.
 */
#ifndef ES_LIFECYCLE_SKIPPED_H
#define ES_LIFECYCLE_SKIPPED_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "table/columns.h"

extern const EsShape es_skipped_shape;

extern List *es_skipped_due(TimestampTz tried_before, int most, bool at_once);
extern bool es_skipped_any(bool (*wants) (const text *stream, void *arg), void *arg);
extern void es_skipped_note(const text *stream, const char *reason);
extern void es_skipped_forget(const text *stream);

#endif							/* ES_LIFECYCLE_SKIPPED_H */
