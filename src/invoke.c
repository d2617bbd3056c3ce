/*
 * invoke.c
 *		Calling users' functions, and reporting what they raise as VE009.
 *
 * When a function fails, the transaction, or the block that catches the error,
 * is lost as with any error; it is only reported anew.
 */
#include "invoke.h"

#include "pgstat.h"

/*
 * es_invoke_passes_through tells whether an error is none of a handler's doing:
 * the query was cancelled, the server goes down, or the transaction has to be
 * retried.
 */
bool
es_invoke_passes_through(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK;
}

/* Makes the DETAIL of a VE009: the original SQLSTATE and detail. */
static char *
describe_cause(const ErrorData *cause)
{
	/* a handler's own replay failed: its detail has said so already */
	if (cause->sqlerrcode == ES_ERRCODE_HANDLER_FAILED && cause->detail)
		return cause->detail;
	if (cause->detail)
		return psprintf("SQLSTATE %s: %s", unpack_sql_state(cause->sqlerrcode), cause->detail);
	return psprintf("SQLSTATE %s", unpack_sql_state(cause->sqlerrcode));
}

/* Reports the error that a handler raised, in its PG_CATCH block. */
static void
report_failure(MemoryContext context)
{
	ErrorData  *cause;

	MemoryContextSwitchTo(context);
	cause = CopyErrorData();
	if (es_invoke_passes_through(cause->sqlerrcode))
		PG_RE_THROW();
	FlushErrorState();
	ereport(ERROR,
			errcode(ES_ERRCODE_HANDLER_FAILED),
			errmsg_internal("%s", cause->message ? cause->message : "handler failed"),
			errdetail_internal("%s", describe_cause(cause)),
			cause->hint ? errhint("%s", cause->hint) : 0,
			cause->context ? errcontext("%s", cause->context) : 0);
}

/*
 * es_invoke_handler calls a handler.  Context callbacks from outside are left out
 * meanwhile: they come into the error when it is reported anew, and must not be
 * there twice.
 */
Datum
es_invoke_handler(FunctionCallInfo fcinfo)
{
	MemoryContext context = CurrentMemoryContext;
	PgStat_FunctionCallUsage usage;
	Datum		result = (Datum) 0;

	PG_TRY();
	{
		error_context_stack = NULL;
		pgstat_init_function_usage(fcinfo, &usage);
		result = FunctionCallInvoke(fcinfo);
		pgstat_end_function_usage(&usage, true);
	}
	PG_CATCH();
	{
		report_failure(context);
	}
	PG_END_TRY();
	return result;
}
