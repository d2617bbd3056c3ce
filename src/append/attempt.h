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

#endif							/* ES_APPEND_ATTEMPT_H */
