/*
 * typing.h
 *		Which version of its type a new event is of.
 */
#ifndef ES_APPEND_TYPING_H
#define ES_APPEND_TYPING_H

#include "base/base.h"

#include "append/request.h"

extern void es_typing_judge(EsNewEvent *event);
extern void es_typing_judge_all(EsAppend *append);

#endif							/* ES_APPEND_TYPING_H */
