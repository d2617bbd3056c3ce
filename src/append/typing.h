/*
 * typing.h
 *		Which version of its type a new event is of, and whether its data fit that.
 */
#ifndef ES_APPEND_TYPING_H
#define ES_APPEND_TYPING_H

#include "base/base.h"

#include "append/request.h"

extern void es_typing_judge(EsNewEvent *event, const text *stream, int number);
extern void es_typing_judge_all(EsAppend *append);

#endif							/* ES_APPEND_TYPING_H */
