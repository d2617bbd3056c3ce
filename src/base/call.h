/*
 * call.h
 *		What SQL functions take and give.
 */
#ifndef ES_BASE_CALL_H
#define ES_BASE_CALL_H

#include "base/base.h"

#include "access/xact.h"
#include "nodes/execnodes.h"
#include "utils/tuplestore.h"

#include "base/event.h"

/*
 * What looks at the log as it is now cannot run in a parallel query, where all have
 * one snapshot.  Functions are labelled so, but what users call them from may not be.
 */
ES_NORETURN extern void es_call_report_parallel(void);

static inline void
es_call_refuse_parallel(void)
{
	if (unlikely(IsInParallelMode()))
		es_call_report_parallel();
}

/* Checks of arguments; all raise. */
extern void es_call_require_trigger(bool fits, const char *function);
extern void es_call_require(FunctionCallInfo fcinfo, int argno, const char *name);
extern text *es_call_name_arg(FunctionCallInfo fcinfo, int argno, const char *what, int max);
extern text *es_call_stream_arg(FunctionCallInfo fcinfo, int argno);
extern char *es_call_choice_arg(FunctionCallInfo fcinfo, int argno, const char *name,
								const char *one, const char *other);
extern int64 es_call_not_negative(int64 value, const char *name);
extern int64 es_call_position_arg(FunctionCallInfo fcinfo, int argno, const char *name);
extern bool es_call_flag_arg(FunctionCallInfo fcinfo, int argno, const char *name);
extern int64 es_call_limit_arg(FunctionCallInfo fcinfo, int argno, const char *name);
extern int64 es_call_interval_arg(FunctionCallInfo fcinfo, int argno, const char *name);

/* Results. */
extern TupleDesc es_call_result_desc(FunctionCallInfo fcinfo);
extern ReturnSetInfo *es_call_begin_rows(FunctionCallInfo fcinfo);
extern Datum es_call_result_row(FunctionCallInfo fcinfo, Datum value);

/* es_call_return_event, also a callback, puts an event into the ReturnSetInfo that it is given. */
static inline void
es_call_return_event(const EsEvent *event, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	es_event_values(event, values, isnull);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

#endif							/* ES_BASE_CALL_H */
