/*
 * statetable.h
 *		The tables of projections' states, one for each projection.
 */
#ifndef ES_SEGMENT_STATETABLE_H
#define ES_SEGMENT_STATETABLE_H

#include "base/base.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

#include "base/objects.h"
#include "table/columns.h"

/* Columns of eventstore.projection_states. */
#define Anum_es_states_id			1
#define Anum_es_states_generation	2
#define Anum_es_states_version		3
#define Anum_es_states_position		4
#define Anum_es_states_key			5
#define Anum_es_states_state		6
#define Anum_es_states_state_text	7
#define Anum_es_states_sealed		8
#define Natts_es_states				8

#define ES_STATETABLE_PREFIX	"projection_states_"

extern EsRelation es_statetable_parent; /* eventstore.projection_states */
extern const EsShape es_statetable_shape;	/* its columns */

extern const EsShape *es_statetable_of(int64 projection_id);
extern Oid	es_statetable_relid(int64 projection_id);
extern bool es_statetable_lock(int64 projection_id, LOCKMODE mode);
extern List *es_statetable_ids(void);
extern void es_statetable_make(int64 projection_id);
extern bool es_statetable_find_user(int64 projection_id, char **user);
extern bool es_statetable_try_drop(int64 projection_id);

#endif							/* ES_SEGMENT_STATETABLE_H */
