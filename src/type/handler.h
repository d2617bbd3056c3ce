/*
 * handler.h
 *		Functions that users register as handlers: checked, found again, called.
 */
#ifndef ES_TYPE_HANDLER_H
#define ES_TYPE_HANDLER_H

#include "base/base.h"

#include "lib/stringinfo.h"

#define ES_HANDLER_MAX_ARGS	2

/* What a function must look like. */
typedef struct EsSignature
{
	Oid			result;			/* InvalidOid: any */
	int			nargs;
	Oid			args[ES_HANDLER_MAX_ARGS];
} EsSignature;

/* A function that a table names. */
typedef struct EsFunction
{
	const char *signature;		/* as the table has it */
	Oid			oid;			/* InvalidOid: there is none any more */
	EsSignature shape;
} EsFunction;

/* What is looked up of some functions to call them. */
typedef struct EsCalls
{
	MemoryContext context;
	int			count;
	FmgrInfo   *functions;		/* fn_oid 0: not looked up */
	uint64		generation;
	Oid			user;			/* for whom they were looked up, */
	bool		on_behalf;		/* and whether he trusts them */
} EsCalls;

extern bool es_handler_on_behalf;	/* see es_handler_enter_behalf */

extern void es_handler_init(void);
extern uint64 es_handler_generation(void);
extern void es_handler_watch(Oid relation);

/*
 * In between, what runs uses the rights of somebody who has not called it: only
 * functions, and values of types, are used that he trusts.  It is the work of a projection,
 * or of none, 0.  An error ends it, too.
 */
extern void es_handler_enter_behalf(int64 projection_id);
extern void es_handler_leave_behalf(void);
extern bool es_handler_runs_projection(int64 projection_id);

extern bool es_handler_fits(Oid function, const EsSignature *shape);
extern void es_handler_require_function(Oid function);
extern void es_handler_require_execute(Oid function);
extern void es_handler_require_trusted(Oid function);
extern void es_handler_require_trusted_type(Oid type);
extern char *es_handler_signature(Oid function);
extern bool es_handler_may_execute(const EsFunction *function);
extern bool es_handler_is_self_contained(const EsFunction *function);
extern Oid	es_handler_find(const char *signature);
extern Oid	es_handler_resolve(const char *signature, const EsSignature *shape);
extern Datum es_handler_invoke(FunctionCallInfo fcinfo);

/* Functions that are called again and again. */
extern EsCalls *es_handler_begin_calls(int count);
extern FmgrInfo *es_handler_ready(EsCalls *calls, int number, const EsFunction *function);

extern void es_handler_describe(StringInfo out, const EsFunction *function);

#endif							/* ES_TYPE_HANDLER_H */
