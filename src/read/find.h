/*
 * find.h
 *		Finding one event of a stream.
 */
#ifndef ES_READ_FIND_H
#define ES_READ_FIND_H

#include "base/base.h"

extern int64 es_find_position(const text *stream, int64 version, int64 *found);
extern bool es_find_is_there(int64 position);

#endif							/* ES_READ_FIND_H */
