/*
 * call.c
 *		What SQL functions take and give.
 */
#include "base/call.h"

#include "access/htup_details.h"
#include "datatype/timestamp.h"
#include "executor/nodeHash.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/names.h"
#include "base/objects.h"

/* es_call_report_parallel raises 25000. */
void
es_call_report_parallel(void)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_TRANSACTION_STATE),
			errmsg("cannot look at the event store as it is now during a parallel operation"),
			errhint("Mark functions that use the event store as PARALLEL UNSAFE."));
}

/* es_call_require_trigger raises 39P01 unless a trigger function was called as what it is for. */
void
es_call_require_trigger(bool fits, const char *function)
{
	if (!fits)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function eventstore.%s can only be called by triggers of the event store", function));
}

/* es_call_require raises 22004 if an argument is NULL. */
void
es_call_require(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" must not be null", name));
}

/*
 * es_call_name_arg fetches the argument that names what is asked for, 1..max bytes;
 * NULL is 22004.
 */
text *
es_call_name_arg(FunctionCallInfo fcinfo, int argno, const char *what, int max)
{
	text	   *name;

	es_call_require(fcinfo, argno, what);
	name = PG_GETARG_TEXT_PP(argno);
	es_names_check_name(name, what, max);
	return name;
}

/* es_call_stream_arg fetches an argument that names a stream, checked. */
text *
es_call_stream_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	es_call_require(fcinfo, argno, "stream");
	name = PG_GETARG_TEXT_PP(argno);
	es_names_check_stream(name);
	return name;
}

/*
 * es_call_choice_arg fetches an argument that is one of two words; NULL is 22004,
 * anything else 22023.
 */
char *
es_call_choice_arg(FunctionCallInfo fcinfo, int argno, const char *name, const char *one, const char *other)
{
	char	   *word;

	es_call_require(fcinfo, argno, name);
	word = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(word, one) != 0 && strcmp(word, other) != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be \"%s\" or \"%s\", not \"%s\"", name, one, other, es_names_show(word)));
	return word;
}

/* es_call_not_negative gives an argument's value as it is; a negative one is 22023. */
int64
es_call_not_negative(int64 value, const char *name)
{
	if (value < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must not be negative", name));
	return value;
}

/* es_call_position_arg fetches a position; NULL is 22004, a negative one 22023. */
int64
es_call_position_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	es_call_require(fcinfo, argno, name);
	return es_call_not_negative(PG_GETARG_INT64(argno), name);
}

/* es_call_flag_arg fetches a boolean; NULL is 22004. */
bool
es_call_flag_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	es_call_require(fcinfo, argno, name);
	return PG_GETARG_BOOL(argno);
}

/* es_call_limit_arg fetches a limit: NULL is unlimited, a negative one is 22023. */
int64
es_call_limit_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	return PG_ARGISNULL(argno) ? PG_INT64_MAX : es_call_not_negative(PG_GETARG_INT64(argno), name);
}

/*
 * es_call_interval_arg fetches a span of time, in microseconds; NULL is 22004, a
 * negative one 22023.
 */
int64
es_call_interval_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	Interval   *interval;
	double		usecs;

	es_call_require(fcinfo, argno, name);
	interval = PG_GETARG_INTERVAL_P(argno);
	usecs = (double) interval->time + (double) interval->day * USECS_PER_DAY +
		(double) interval->month * DAYS_PER_MONTH * USECS_PER_DAY;
	usecs = Min(Max(usecs, -1), (double) PG_INT64_MAX / 4);
	return es_call_not_negative((int64) usecs, name);
}

/*
 * es_call_begin_rows begins the result of a function that returns rows, to be
 * put into ->setResult.  They stay in memory up to what a hash table may take:
 * a stream of some thousand events is folded by the client at once, and going
 * through a temporary file would cost more than reading it from the log.
 */
ReturnSetInfo *
es_call_begin_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		random_access;
	size_t		memory = get_hash_memory_limit() / 1024;
	MemoryContext old;

	InitMaterializedSRF(fcinfo, 0);
	if (result->setDesc->tdtypeid == es_base_event_type())
		es_event_check(result->setDesc);
	random_access = (result->allowedModes & SFRM_Materialize_Random) != 0;
	tuplestore_end(result->setResult);
	old = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	result->setResult = tuplestore_begin_heap(random_access, false, (int) Min(memory, INT_MAX));
	MemoryContextSwitchTo(old);
	return result;
}

/* es_call_result_desc describes the row that a function returns. */
TupleDesc
es_call_result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return BlessTupleDesc(desc);
}

/* es_call_result_row makes the row of a procedure's one INOUT argument. */
Datum
es_call_result_row(FunctionCallInfo fcinfo, Datum value)
{
	bool		isnull[1] = {false};

	return HeapTupleGetDatum(heap_form_tuple(es_call_result_desc(fcinfo), &value, isnull));
}
