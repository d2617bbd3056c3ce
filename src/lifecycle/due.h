/*
 * due.h
 *		How much of a stream a rule on age is to hide.
 */
#ifndef ES_LIFECYCLE_DUE_H
#define ES_LIFECYCLE_DUE_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "lifecycle/policy.h"
#include "stream/stream.h"

/*
 * es_due_version tells before which version a stream is to be truncated by a rule, as it is
 * then, and reads its row; 0 if it is not.  55000 if its last event is away.
 */
extern int64 es_due_version(const EsPolicy *policy, TimestampTz now, const text *name, EsStream *stream);

#endif							/* ES_LIFECYCLE_DUE_H */
