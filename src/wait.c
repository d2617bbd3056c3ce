/*
 * wait.c
 *		Waiting until the settled position has moved on.
 *
 * A function cannot give up its statement's snapshot, so es_wait holds back
 * vacuum while it waits, and therefore waits at most eventstore.max_wait.  The
 * procedure es_wait_for, called outside a transaction block, ends its
 * transaction first and waits with neither snapshot nor xid.
 *
 * Between looks a waiter sleeps on its latch, a little longer each time.
 * Every sleep ends at once on cancel, termination and postmaster death.
 */
#include "wait.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MIN_SLEEP_MS	1
#define MAX_SLEEP_MS	20

int			es_max_wait = 10000;

PG_FUNCTION_INFO_V1(es_wait);
PG_FUNCTION_INFO_V1(es_wait_for);

/* Defines the GUC; called once, from _PG_init. */
void
es_wait_init(void)
{
	DefineCustomIntVariable("eventstore.max_wait",
							"The longest that a waiting function waits while it holds a snapshot.",
							NULL,
							&es_max_wait, 10000, 0, 24 * 3600 * 1000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* Fetches the timeout argument, in microseconds. */
static int64
timeout_arg(FunctionCallInfo fcinfo, int argno)
{
	Interval   *interval;
	double		usecs;

	es_base_require(fcinfo, argno, "timeout");
	interval = PG_GETARG_INTERVAL_P(argno);
	usecs = (double) interval->time + (double) interval->day * USECS_PER_DAY +
		(double) interval->month * DAYS_PER_MONTH * USECS_PER_DAY;
	if (usecs < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("timeout must not be negative"));
	return (int64) Min(usecs, (double) PG_INT64_MAX / 4);
}

/*
 * Waits until the settled position passes after, or the time is over, and
 * returns it.  With detached no snapshot is left behind between looks.
 */
static int64
wait_until_settled(int64 after, int64 timeout, bool detached)
{
	TimestampTz deadline = GetCurrentTimestamp() + timeout;
	long		sleep_ms = MIN_SLEEP_MS;

	for (;;)
	{
		int64		settled = es_settle_compute();
		TimestampTz now;

		if (settled > after)
			return settled;
		now = GetCurrentTimestamp();
		if (now >= deadline)
			return settled;
		if (detached)
			InvalidateCatalogSnapshot();
		es_settle_sleep(Min(sleep_ms, (deadline - now + 999) / 1000));
		sleep_ms = Min(sleep_ms * 2, MAX_SLEEP_MS);
	}
}

/*
 * es_wait(after_position, timeout): waits for news.
 *
 * Returns the settled position as soon as it passes after_position, or what it
 * is when the timeout ends; eventstore.max_wait caps the timeout.  NULLs are
 * 22004, a negative timeout 22023.  Holds its statement's snapshot.
 */
Datum
es_wait(PG_FUNCTION_ARGS)
{
	int64		timeout;

	es_base_require(fcinfo, 0, "after_position");
	timeout = Min(timeout_arg(fcinfo, 1), (int64) es_max_wait * 1000);
	PG_RETURN_INT64(wait_until_settled(PG_GETARG_INT64(0), timeout, false));
}

/* Makes the row of the procedure's INOUT argument. */
static Datum
settled_row(FunctionCallInfo fcinfo, int64 settled)
{
	TupleDesc	desc;
	Datum		values[1] = {Int64GetDatum(settled)};
	bool		isnull[1] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "es_wait_for: return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull));
}

/*
 * es_wait_for(after_position, timeout, INOUT settled): waits for news without
 * snapshot and transaction id, as long as told.
 *
 * Ends the transaction it was called in; inside a transaction block, or called
 * from where that is not possible, it is like es_wait.  Errors as es_wait.
 */
Datum
es_wait_for(PG_FUNCTION_ARGS)
{
	bool		detached = fcinfo->context && IsA(fcinfo->context, CallContext) &&
	!castNode(CallContext, fcinfo->context)->atomic;
	int64		after;
	int64		timeout;
	int64		settled;

	es_base_require(fcinfo, 0, "after_position");
	after = PG_GETARG_INT64(0);
	timeout = timeout_arg(fcinfo, 1);
	if (detached)
	{
		SPI_connect_ext(SPI_OPT_NONATOMIC);
		SPI_commit();
		settled = wait_until_settled(after, timeout, true);
		SPI_finish();
	}
	else
		settled = wait_until_settled(after, Min(timeout, (int64) es_max_wait * 1000), false);
	return settled_row(fcinfo, settled);
}
