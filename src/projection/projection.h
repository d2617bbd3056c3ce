/*
 * projection.h
 *		Projections: which read models are kept up to date.
 */
#ifndef ES_PROJECTION_PROJECTION_H
#define ES_PROJECTION_PROJECTION_H

#include "base/base.h"

#include "base/event.h"
#include "base/names.h"
#include "base/owner.h"
#include "base/pin.h"
#include "projection/keymap.h"
#include "table/columns.h"
#include "type/handler.h"

#define ES_MAX_PROJECTION_NAME	512

/* What is learned of a projection as it is used; 0: not known yet. */
typedef struct EsProjectionMemo
{
	MemoryContext context;		/* of what it points to */
	int64		generation;		/* that is live, of an inline one */
	const text *layout;			/* of that one's states */
	int			pace;			/* how many events a batch had better have */
} EsProjectionMemo;

/*
 * A projection.  It has a reducer and a key, or a handler.  Read-only; it stays
 * as it is as long as its set is pinned.
 */
typedef struct EsProjection
{
	int64		id;
	const text *name;
	bool		is_inline;		/* runs in the append's transaction */
	const text *reducer;		/* NULL: has a handler */
	const text *key;			/* NULL: has a handler */
	const char *handler;		/* qualified name; NULL: has a reducer */
	const char *reset;			/* qualified name, or NULL */
	EsNames		categories;
	EsNames		types;			/* by a reducer's key, or a handler's */
	const char *creator;
	const EsKeyMap *key_map;	/* the compiled key; NULL: has a handler */
	struct EsProjectionMemo *memo;	/* beside it, see es_projection_memo */
} EsProjection;

/* All projections, in order of id. */
typedef struct EsProjectionSet
{
	int			count;
	EsProjection *projections;
	bool		any_inline;
	EsPinned	pinned;
} EsProjectionSet;

extern const EsShape es_projection_table_shape;

extern void es_projection_init(void);

/* Looking up. */
extern bool es_projection_any_inline(void);
extern const EsProjectionSet *es_projection_pin(MemoryContext holder);
extern const EsProjection *es_projection_find(const EsProjectionSet *set, const text *name);
extern const EsProjection *es_projection_find_by_id(const EsProjectionSet *set, int64 id);
extern text *es_projection_name_arg(FunctionCallInfo fcinfo, int argno);
extern void es_projection_require(const EsProjection *projection, int rights);
extern const EsProjection *es_projection_get(const text *name);
extern EsProjectionMemo *es_projection_memo(const EsProjection *projection);
extern bool es_projection_wants(const EsProjection *projection, const EsEvent *event);

/* Its functions, and whom they run as. */
extern EsSignature es_projection_shape(bool takes_event);
extern Oid	es_projection_handler(const EsProjection *projection);
extern Oid	es_projection_reset(const EsProjection *projection);
extern void es_projection_become_creator(const EsProjection *projection, EsOwnerContext *saved);
extern void es_projection_become_caller(const EsOwnerContext *saved);

/* Locks and changes. */
extern bool es_projection_try_keep(void);
extern bool es_projection_lock(int64 id, bool wait);
extern void es_projection_lock_states(int64 id, bool alone);
extern bool es_projection_is_locked(int64 id);
extern const EsProjection *es_projection_get_locked(const text *name);
extern void es_projection_begin_change(const char *command);
extern void es_projection_keep_defined(void);
extern void es_projection_insert(EsProjection *projection);
extern void es_projection_delete(const EsProjection *projection);
extern void es_projection_announce(bool has_work);

#endif							/* ES_PROJECTION_PROJECTION_H */
