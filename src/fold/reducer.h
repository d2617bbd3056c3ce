/*
 * reducer.h
 *		Reducers: what folds a stream's events into a state.
 */
#ifndef ES_FOLD_REDUCER_H
#define ES_FOLD_REDUCER_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "base/names.h"
#include "base/objects.h"
#include "base/pin.h"
#include "json/opcompile.h"
#include "table/columns.h"
#include "table/rows.h"
#include "type/handler.h"
#include "type/upcast.h"

/* Columns of the tables, as in reducer.sql. */
#define Anum_reducers_reducer			1
#define Anum_reducers_initial			2
#define Anum_reducers_state_type		3
#define Anum_reducers_on_unknown		4
#define Natts_reducers					4

#define Anum_handlers_reducer			1
#define Anum_handlers_event_type		2
#define Anum_handlers_handler			3
#define Anum_handlers_ops				4
#define Natts_handlers					4

#define Anum_policies_reducer			1
#define Anum_policies_every				2
#define Anum_policies_drops				3
#define Natts_policies					3

#define ES_MAX_REDUCER_NAME		ES_MAX_STREAM_NAME
#define ES_FINGERPRINT_LENGTH	32

#define ES_REDUCER_HOW_TO_CREATE	"Create it with es_create_reducer or es_register_reducer."

typedef enum EsHandlerKind
{
	ES_HANDLER_FUNCTION,
	ES_HANDLER_OPS,
	ES_HANDLER_COUNT,
	ES_HANDLER_LAST
} EsHandlerKind;

typedef struct EsHandler
{
	const char *type;			/* event type; "*" is the fallback */
	int			type_len;
	EsHandlerKind kind;
	EsFunction	function;		/* of that kind only */
	bool		takes_event;	/* its second argument is es_event, not jsonb */
	EsOps	   *ops;			/* of that kind only */
	const Jsonb *source;		/* that they were compiled from */
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
	const char *layout;			/* of states' text, see state.h; NULL: they
								 * are jsonb */
	Oid			state_collation;
	int16		state_len;
	bool		state_byval;
	bool		unknown_is_error;
	int			nhandlers;
	EsHandler  *handlers;		/* in order of length and bytes of type */
	const EsHandler *fallback;	/* the one for "*", or NULL */
	const EsUpcasters *upcasters;	/* all that there are */
	int			snapshot_every; /* 0: replays leave none */
	int64		drops;			/* how often its snapshots were dropped */
	bool		calls_functions;	/* of users: handlers, upcasters, or a
									 * type's */
	bool		self_contained; /* its functions mean the same whoever calls */
	bool		parallel_safe;	/* handlers and upcasters are */
	bool		wants_metadata; /* some of them may look at it */
	uint8		fingerprint[ES_FINGERPRINT_LENGTH];
	EsPinned	pinned;
} EsReducer;

extern void es_reducer_sort_handlers(EsReducer *reducer);
extern bool es_reducer_wants_upcaster(const EsReducer *reducer, const EsUpcaster *upcaster);
extern const EsHandler *es_reducer_handler(const EsReducer *reducer, const char *type, int len);
ES_NORETURN extern void es_reducer_report_unknown(const text *name, const char *hint);
ES_NORETURN extern void es_reducer_report_gone(const EsReducer *reducer, const EsHandler *handler);

/* Rows and rules, for what changes them. */
extern EsRelation es_reducer_table; /* eventstore.reducers */
extern const EsShape es_reducer_table_shape;	/* of that, */
extern const EsShape es_reducer_handlers_shape; /* of
												 * eventstore.reducer_handlers */
extern const EsShape es_reducer_policies_shape; /* and of snapshot_policies */

extern void es_reducer_begin_rows(EsRows *rows, const EsShape *shape, const text *reducer);
extern char *es_reducer_column(const EsRows *rows, int column);
extern Oid	es_reducer_resolve_type(const char *reducer, const char *type);
extern void es_reducer_read_policy(const text *reducer, int *every, int64 *drops);
extern EsSignature es_reducer_signature(Oid state_type, bool takes_event);

#endif							/* ES_FOLD_REDUCER_H */
