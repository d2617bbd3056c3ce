/*
 * wait.c
 *		Waiting for news.
 *
 * A function cannot give up its statement's snapshot, so es_wait holds back
 * vacuum while it waits, and therefore waits at most eventstore.max_wait.  The
 * procedure es_wait_for, called outside a transaction block, ends its
 * transaction first and waits with neither snapshot nor xid.
 *
 * Between looks a waiter sleeps on its latch.  Where waiters are woken (shared/wake.c)
 * it sleeps until then, and looks again now and then all the same, should a
 * wake-up have been missed.  Elsewhere, and on a standby, where commits are
 * replayed and wake nobody, it sleeps a little longer each time.  Every sleep
 * ends at once on cancel, termination and postmaster death.
 */
#include "log/wait.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "log/holders.h"
#include "log/settle.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "shared/wake.h"

#define MIN_SLEEP_MS	1
#define MAX_SLEEP_MS	20
#define WOKEN_SLEEP_MS	1000	/* where a wake-up comes */

static int	max_wait = 10000;	/* GUC eventstore.max_wait, ms */

PG_FUNCTION_INFO_V1(es_wait);
PG_FUNCTION_INFO_V1(es_wait_for);

/* Defines the GUC; called once, from _PG_init. */
void
es_wait_init(void)
{
	DefineCustomIntVariable("eventstore.max_wait",
							"The longest that a waiting function waits while it holds a snapshot.",
							NULL,
							&max_wait, 10000, 0, 24 * 3600 * 1000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* es_wait_cap limits a timeout to what may be waited with a snapshot. */
int64
es_wait_cap(int64 timeout)
{
	return Min(timeout, (int64) max_wait * 1000);
}

/* One look, which leaves no memory behind. */
static bool
look_for_news_once(EsWait *wait, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		over;

	wait->hindered = false;
	wait->again_at = DT_NOEND;
	over = wait->look(wait);
	MemoryContextSwitchTo(old);
	MemoryContextReset(context);
	return over;
}

/* How long to sleep, in ms, before a time; at least 1. */
static long
compute_sleep_ms(TimestampTz then, TimestampTz now, long most)
{
	return then - now >= most * 1000 ? most : Max((then - now + 999) / 1000, 1);
}

/* What a wait is for, as it is counted. */
static EsCounter
tell_what_is_waited_for(const EsWait *wait)
{
	if (es_settle_is_by_mark() || !(wait->hindered || es_settle_hindered()))
		return ES_COUNT_WAITS_FOR_EVENTS;
	return es_holders_prepared_first() ? ES_COUNT_WAITS_FOR_PREPARED : ES_COUNT_WAITS_FOR_TRANSACTION;
}

/* Sleeps, and counts that: once for each thing that a wait comes to be for. */
static void
sleep_and_count(EsWait *wait, EsCounter *counted, long sleep_ms)
{
	EsCounter	what = tell_what_is_waited_for(wait);
	instr_time	start;
	uint64		slept;

	if (what != *counted)
		es_counter_add(what, 1);
	*counted = what;
	es_counter_start(&start);
	es_wake_sleep(sleep_ms);
	slept = es_counter_elapsed(&start);
	es_counter_add(ES_COUNT_WAIT_TIME_EVENTS + (what - ES_COUNT_WAITS_FOR_EVENTS), slept);
	wait->slept += slept;
}

/*
 * es_wait_until looks until a look finds that the wait is over, or its time is;
 * tells whether it was a look.
 */
bool
es_wait_until(EsWait *wait)
{
	TimestampTz deadline = GetCurrentTimestamp() + wait->timeout;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore wait",
												  ALLOCSET_SMALL_SIZES);
	bool		woken = es_wake_works() && !RecoveryInProgress();
	long		sleep_ms = MIN_SLEEP_MS;
	uint64		interest = 0;	/* what is registered */
	EsCounter	counted = ES_NCOUNTERS; /* what was waited for last */
	bool		over;

	while (!(over = look_for_news_once(wait, context)))
	{
		TimestampTz now = GetCurrentTimestamp();
		uint64		wanted = wait->hindered ? ES_WAKE_ALL : wait->interest;

		if (now >= deadline)
			break;
		if (woken && (interest != wanted || !es_wake_is_registered()))
		{
			/*
			 * registered first, then looked; what was caught in a look may
			 * have ended it
			 */
			es_wake_end();
			es_wake_begin(interest = wanted);
			continue;
		}
		if (wait->detached)
			InvalidateCatalogSnapshot();
		/* what came during the look may have set the latch in vain */
		sleep_and_count(wait, &counted, es_wake_told() ? 0 :
						compute_sleep_ms(Min(deadline, wait->again_at), now,
										 woken && !es_settle_is_by_mark() ? WOKEN_SLEEP_MS : sleep_ms));
		(void) es_wake_told();	/* the look to come is about that */
		sleep_ms = Min(sleep_ms * 2, MAX_SLEEP_MS);
	}
	es_wake_end();
	MemoryContextDelete(context);
	return over;
}

/*
 * es_wait_detach ends the transaction that a procedure was called in, if it may,
 * and tells whether it did; then es_wait_attach has to follow.  It may where CALL is
 * the client's own statement, or that of a procedure or DO block which is; not in an
 * exception block, and not where there is no portal, as in a background worker.
 */
bool
es_wait_detach(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic || IsSubTransaction() || PortalContext == NULL)
		return false;
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();

	/* else the first look's snapshot would be the transaction's */
	XactIsoLevel = XACT_READ_COMMITTED;
	return true;
}

/* es_wait_attach ends what es_wait_detach began. */
void
es_wait_attach(bool detached)
{
	if (detached)
		SPI_finish();
}

/* ---- for the settled position ---- */

/* What is waited for, and what was found. */
typedef struct SettledWait
{
	int64		after;
	int64		settled;
} SettledWait;

/* Looks whether the settled position has passed. */
static bool
look_at_settled(EsWait *wait)
{
	SettledWait *what = wait->arg;

	what->settled = es_settle_compute();
	return what->settled > what->after;
}

/* Waits until the settled position passes after, or the time is over, and returns it. */
static int64
wait_until_settled(int64 after, int64 timeout, bool detached)
{
	SettledWait what = {.after = after};
	EsWait		wait = {.look = look_at_settled,.arg = &what,.timeout = timeout,.detached = detached,
	.interest = ES_WAKE_ALL};

	(void) es_wait_until(&wait);
	return what.settled;
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

	es_call_require(fcinfo, 0, "after_position");
	timeout = es_wait_cap(es_call_interval_arg(fcinfo, 1, "timeout"));
	es_right_require_any(ES_RIGHTS_ALL);
	PG_RETURN_INT64(wait_until_settled(PG_GETARG_INT64(0), timeout, false));
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
	bool		detached;
	int64		after;
	int64		timeout;
	int64		settled;

	es_call_require(fcinfo, 0, "after_position");
	after = PG_GETARG_INT64(0);
	timeout = es_call_interval_arg(fcinfo, 1, "timeout");
	es_right_require_any(ES_RIGHTS_ALL);
	detached = es_wait_detach(fcinfo);
	settled = wait_until_settled(after, detached ? timeout : es_wait_cap(timeout), detached);
	es_wait_attach(detached);
	return es_call_result_row(fcinfo, Int64GetDatum(settled));
}
