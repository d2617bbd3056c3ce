/*
 * settle.h
 *		Positions: handing them out, and telling which are final.
 */
#ifndef ES_LOG_SETTLE_H
#define ES_LOG_SETTLE_H

#include "base/base.h"

#include "base/objects.h"
#include "table/columns.h"

extern EsRelation es_settle_mark;	/* eventstore.settled_mark */
extern const EsShape es_settle_mark_shape;

extern bool es_settle_for_worker;	/* this process only looks after the store */

extern void es_settle_init(void);
extern int64 es_settle_take(int64 n);
extern void es_settle_note_hole(int64 position);
extern int64 es_settle_last_given(void);
extern int64 es_settle_own_first(void);
extern int64 es_settle_known(void);
extern int64 es_settle_compute(void);
extern bool es_settle_hindered(void);
extern bool es_settle_is_by_mark(void);
extern void es_settle_learn(int64 position);
extern int64 es_settle_write_mark(void);

#endif							/* ES_LOG_SETTLE_H */
