/*
 * error.c
 *		Errors of what users have us run, as they come out of the event store.
 *
 * A handler's error, and that of an operation on a state, comes out as VE009
 * with the original message, SQLSTATE and detail; what is none of its doing
 * passes through as it is.  What a handler says that was given protected data goes to the
 * client only.
 */
#include "base/error.h"

#include "access/parallel.h"

#include "base/names.h"

bool		es_error_is_secret = false;

#define WITHHELD	"handler failed with protected data"
#define MOST_OF_AN_ERROR	10000	/* bytes of each part of it */

/*
 * es_error_ends_statement tells whether an error is about the statement as a whole, whatever
 * a part of it was doing: the query was cancelled, the server goes down, or the transaction
 * has to be retried.
 */
bool
es_error_ends_statement(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK;
}

/*
 * Tells whether an error is the machine's: memory, disk or connections are used up, or a file
 * cannot be read.  A limit that somebody has set (temp_file_limit) is not of that kind, nor is a
 * piece of memory larger than there can be, which is no lack of it (XX000, 54000).
 */
static bool
is_of_machine(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYSTEM_ERROR ||
		(ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES &&
		 sqlerrcode != ERRCODE_CONFIGURATION_LIMIT_EXCEEDED);
}

/*
 * es_error_passes_through tells whether an error is none of a handler's doing, so that it may go
 * well another time with the same event.
 */
bool
es_error_passes_through(int sqlerrcode)
{
	return es_error_ends_statement(sqlerrcode) || is_of_machine(sqlerrcode);
}

/* es_error_detail makes the DETAIL of a VE009: the original SQLSTATE and detail; NULL for none. */
const char *
es_error_detail(const ErrorData *cause)
{
	/* a handler's own replay failed: its detail has said so already */
	if (cause->sqlerrcode == ES_ERRCODE_HANDLER_FAILED)
		return cause->detail;
	if (cause->detail)
		return psprintf("SQLSTATE %s: %s", unpack_sql_state(cause->sqlerrcode), cause->detail);
	return psprintf("SQLSTATE %s", unpack_sql_state(cause->sqlerrcode));
}

/*
 * es_error_cut cuts what an error says to a size to look at: it is copied, sent,
 * logged and kept, and users' code can make any part of it as long as memory is.
 */
void
es_error_cut(ErrorData *error)
{
	char	  **parts[] = {&error->message, &error->detail, &error->hint, &error->context};

	for (int i = 0; i < lengthof(parts); i++)
	{
		char	   *whole = *parts[i];
		size_t		len = whole ? strlen(whole) : 0;

		if (len <= MOST_OF_AN_ERROR)
			continue;
		*parts[i] = es_names_cut(whole, (int) len, MOST_OF_AN_ERROR);
		pfree(whole);
	}
}

/* es_error_append_only raises VE002 for what would be done ("update") to a relation. */
void
es_error_append_only(const char *action, const char *relation)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
			errmsg("cannot %s \"%s\" because the event store is append-only", action, relation),
			errhint("Append an event that corrects the earlier ones."));
}

/*
 * es_error_hide_context is a context callback that has the server's log do without the
 * context of what is said meanwhile, be it a warning or what ends the session: it may have
 * statements of functions with protected data in them.
 */
void
es_error_hide_context(void *arg)
{
	errhidecontext(true);
}

/*
 * es_error_withhold takes away what an error says that may quote protected data, all but its
 * SQLSTATE; the client, if there is one, gets it beforehand, past the server's log.  Not from a
 * parallel worker: the leader would log what it passes on.
 */
void
es_error_withhold(ErrorData *error)
{
	/* also an inner handler's, which has got the statements of this one */
	error->context = NULL;
	if (error->message && strcmp(error->message, WITHHELD) == 0)
		return;					/* an inner handler's, or a parallel worker's */
	if (!IsParallelWorker())
		ereport(WARNING_CLIENT_ONLY,
				errcode(error->sqlerrcode),
				errmsg("what failed with protected data: %s", error->message ? error->message : "unknown error"),
				error->detail ? errdetail_internal("%s", error->detail) : 0,
				error->hint ? errhint("%s", error->hint) : 0);
	error->message = pstrdup(WITHHELD);
	error->detail = error->detail_log = error->internalquery = NULL;
	error->internalpos = 0;
	error->schema_name = error->table_name = error->column_name = NULL;
	error->datatype_name = error->constraint_name = NULL;
	error->hint = pstrdup("What it said may quote the data, so it is not logged; the client gets it as a warning.");
}

/*
 * es_error_report_failure reports the error that a handler raised, in its PG_CATCH block.  What
 * passes through may have been raised by the handler itself, and has its statements as context,
 * so of a handler with protected data only the SQLSTATE does.
 */
void
es_error_report_failure(MemoryContext context)
{
	ErrorData  *cause;
	const char *detail;
	bool		passes;

	MemoryContextSwitchTo(context);
	cause = CopyErrorData();
	passes = es_error_passes_through(cause->sqlerrcode);
	if (passes && !es_error_is_secret)
		PG_RE_THROW();
	es_error_cut(cause);
	FlushErrorState();
	if (es_error_is_secret)
		es_error_withhold(cause);
	detail = passes ? NULL : es_error_detail(cause);
	ereport(ERROR,
			errcode(passes ? cause->sqlerrcode : ES_ERRCODE_HANDLER_FAILED),
			errmsg_internal("%s", cause->message ? cause->message : "handler failed"),
			detail ? errdetail_internal("%s", detail) : 0,
			cause->hint ? errhint("%s", cause->hint) : 0,
			cause->context ? errcontext("%s", cause->context) : 0);
}
