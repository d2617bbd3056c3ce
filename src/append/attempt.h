/*
 * attempt.h
 *		Appending events to one stream, or to many.
 */
#ifndef ES_APPEND_ATTEMPT_H
#define ES_APPEND_ATTEMPT_H

#include "base/base.h"

#include "append/request.h"

/* Of what this session appended, also if that was undone; 0: nothing yet. */
extern int64 es_attempt_last_position;

extern void es_attempt_run(EsAppend *append);

/*
 * es_attempt_was_stored tells whether the call was stored before.  Then it was not
 * refused, and what it only checked may have changed since.
 */
static inline bool
es_attempt_was_stored(const EsAppend *append)
{
	for (int i = 0; i < append->count; i++)
		if (!append->events[i].stored)
			return false;
	return append->count > 0;
}

#endif							/* ES_APPEND_ATTEMPT_H */
