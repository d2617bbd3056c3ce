/*
 * call.h
 *		What SQL functions take and give.
 */
#ifndef ES_BASE_CALL_H
#define ES_BASE_CALL_H

#include "base/base.h"

#include "access/xact.h"
#include "nodes/execnodes.h"

/*
 * What looks at the log as it is now cannot run in a parallel query, where all have
 * one snapshot.  Functions are labelled so, but what users call them from may not be.
 */
ES_NORETURN extern void es_base_report_parallel(void);

static inline void
es_base_refuse_parallel(void)
{
	if (unlikely(IsInParallelMode()))
		es_base_report_parallel();
}

/* Checks of arguments; all raise. */
extern void es_base_require_trigger(bool fits, const char *function);
extern void es_base_require(FunctionCallInfo fcinfo, int argno, const char *name);
extern text *es_base_stream_arg(FunctionCallInfo fcinfo, int argno);
extern int64 es_base_check_limit(int64 limit, const char *name);
extern int64 es_base_limit_arg(FunctionCallInfo fcinfo, int argno, const char *name);
extern int64 es_call_interval_arg(FunctionCallInfo fcinfo, int argno, const char *name);

/* Results. */
extern ReturnSetInfo *es_base_begin_rows(FunctionCallInfo fcinfo);
extern Datum es_call_result_row(FunctionCallInfo fcinfo, Datum value);

#endif							/* ES_BASE_CALL_H */
