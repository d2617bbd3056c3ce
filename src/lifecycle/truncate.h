/*
 * truncate.h
 *		Hiding the older events of a stream.
 */
#ifndef ES_LIFECYCLE_TRUNCATE_H
#define ES_LIFECYCLE_TRUNCATE_H

#include "base/base.h"

#include "stream/change.h"

extern bool es_truncate_wanted(const EsChange *change, int64 before_version);
extern void es_truncate_hide(EsChange *change, int64 before_version);

#endif							/* ES_LIFECYCLE_TRUNCATE_H */
