/*
 * reduce.h
 *		Reducers: what folds a stream's events into a state.
 */
#ifndef ES_REDUCE_H
#define ES_REDUCE_H

#include "base.h"

/*
 * Columns of the tables, as in src/reduce.sql.
 */
#define Anum_reducers_reducer			1
#define Anum_reducers_initial			2
#define Anum_reducers_state_type		3
#define Anum_reducers_on_unknown		4
#define Natts_reducers					4

#define Anum_handlers_reducer			1
#define Anum_handlers_event_type		2
#define Anum_handlers_handler			3
#define Natts_handlers					3

#define ES_MAX_REDUCER_NAME		ES_MAX_STREAM_NAME

typedef enum EsHandlerKind
{
	ES_HANDLER_FUNCTION,
	ES_HANDLER_MERGE,
	ES_HANDLER_MERGE_PATCH,
	ES_HANDLER_COUNT,
	ES_HANDLER_LAST
} EsHandlerKind;

typedef struct EsHandler
{
	const char *type;			/* event type; "*" is the fallback */
	int			type_len;
	EsHandlerKind kind;
	/* of functions only: */
	const char *signature;
	Oid			function;		/* InvalidOid: gone, or no longer fit */
	bool		takes_event;	/* second argument is es_event, not jsonb */
} EsHandler;

/*
 * A reducer, with its types and functions resolved.  Read-only; it stays as it
 * is while it is pinned, also when it is changed or dropped meanwhile.
 */
typedef struct EsReducer
{
	const char *name;
	const Jsonb *initial;		/* NULL: the state starts as NULL */
	Oid			state_type;
	Oid			state_collation;
	int16		state_len;
	bool		state_byval;
	bool		unknown_is_error;
	int			nhandlers;
	EsHandler  *handlers;		/* in order of length and bytes of type */
	const EsHandler *fallback;	/* the one for "*", or NULL */
	/* kept by reduce.c */
	MemoryContext context;
	int			pins;
	bool		cached;
} EsReducer;

extern const EsReducer *es_reduce_pin(const text *name, MemoryContext holder);
extern const EsHandler *es_reduce_handler(const EsReducer *reducer, const char *type, int len);
extern Oid	es_reduce_callable(const EsReducer *reducer, const EsHandler *handler);
extern uint64 es_reduce_generation(void);

/* jsonb <-> a state's own type; results are in the current memory context. */
extern Datum es_reduce_initial(const Jsonb *initial, Oid state_type, bool *isnull);
extern Datum es_reduce_populate(Datum base, bool *isnull, Oid row_type, const Jsonb *json);
extern Datum es_reduce_to_jsonb(Datum state, Oid state_type);

/* Rows and rules, for what changes them. */
extern Oid	es_reduce_relation(const char *name);
extern HeapTuple es_reduce_find_row(Relation reducers, const text *name);
extern SysScanDesc es_reduce_begin_rows(Relation table, const char *index,
										const text *reducer, const text *type);
extern char *es_reduce_column(HeapTuple row, int column, TupleDesc desc);
extern Oid	es_reduce_resolve_type(const char *reducer, const char *type);
extern bool es_reduce_fits(Oid function, Oid state_type, bool *takes_event);
extern void es_reduce_require_execute(Oid function);
extern bool es_reduce_is_builtin(const char *name);

/* Raises if a reducer must not be dropped.  Set by the part that knows. */
extern void (*es_reduce_drop_hook) (const text *reducer);

extern void es_reduce_init(void);

#endif							/* ES_REDUCE_H */
