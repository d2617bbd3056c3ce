/*
 * statemirror.h
 *		The publisher's tables of states, made on a logical subscriber.
 */
#ifndef ES_SEGMENT_STATEMIRROR_H
#define ES_SEGMENT_STATEMIRROR_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "base/objects.h"

extern void es_statemirror_enter(Oid subscription, EsRelation *root, Oid relid, char state);
extern void es_statemirror_enter_now(EsRelation *root, Oid relid);
extern void es_statemirror_leave_to_rows(Oid subscription);
extern void es_statemirror_make(const List *projections);
extern List *es_statemirror_missing(const List *projections);
extern void es_statemirror_follow(int64 projection_id);
extern void es_statemirror_forget(int64 projection_id);

#endif							/* ES_SEGMENT_STATEMIRROR_H */
