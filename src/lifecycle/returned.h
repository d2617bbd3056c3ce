/*
 * returned.h
 *		What is to be done again once a segment is back.
 */
#ifndef ES_LIFECYCLE_RETURNED_H
#define ES_LIFECYCLE_RETURNED_H

#include "base/base.h"

extern void es_returned_mark_hidden(int64 segment);

#endif							/* ES_LIFECYCLE_RETURNED_H */
