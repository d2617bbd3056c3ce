/*
 * upkeep.c
 *		What the worker of a store does now and then.
 *
 * It comes by once in a minute, and when a rule was made, and carries out what rules say
 * ages out (lifecycle/retention.c): batch by batch, each in a transaction of its own, until
 * nothing is left of what was due when the round began.  Then, if there are hidden events, it
 * has them removed (lifecycle/scavenge.c): in another transaction, as who removes must see what
 * was hidden, and once nobody else is at it.  While rounds fail it does so before it tries the
 * next one: what users hide goes on to be removed.  As it comes by it also sees to it that
 * grants say what their roles are called by now (rights/grant.c).
 *
 * It seals the log each eventstore.seal_interval, if there is something new; a log that was
 * not sealed for long is sealed in steps, so that projections have their turn.
 */
#include "server/upkeep.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/objects.h"
#include "base/owner.h"
#include "evidence/growth.h"
#include "evidence/seal.h"
#include "lifecycle/retention.h"
#include "lifecycle/scavenge.h"
#include "log/subscriber.h"
#include "rights/grant.h"
#include "shared/mark.h"

#define ROUND_US		(60 * USECS_PER_SEC)
#define SEAL_STEP		100000	/* events that are sealed at a time */
#define LOADING_AGAIN	(5 * USECS_PER_SEC)
#define BARRED_AGAIN	USECS_PER_SEC
#define SCAVENGE_AGAIN	(5 * USECS_PER_SEC)

static int	seal_interval = 0;	/* GUC eventstore.seal_interval, ms */

/* Defines the GUC; called once, from _PG_init. */
void
es_upkeep_init(void)
{
	DefineCustomIntVariable("eventstore.seal_interval",
							"How often the worker seals the log, if there is something new.",
							"0 turns that off: then only es_seal() seals it.",
							&seal_interval, 0, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* Rounds of retention. */
static struct
{
	EsRetentionRound round;
	bool		under_way;
	TimestampTz next_at;		/* when the next one is due */
	bool		failing;		/* unless the next piece goes well */
	bool		scavenge;		/* what is hidden is still to be removed */
	TimestampTz scavenged_at;	/* when that was begun last */
}			retention = {.next_at = DT_NOBEGIN};

/* es_upkeep_begin_round has a round begin with the next piece. */
void
es_upkeep_begin_round(void)
{
	retention.next_at = DT_NOBEGIN;
}

/* Does a piece of a round, in a transaction; false if that was the last. */
static bool
carry_on_round(void)
{
	EsRetentionRound *round = &retention.round;
	bool		ended;

	if (!retention.under_way)
	{
		memset(round, 0, sizeof(*round));
		round->began = GetCurrentTimestamp();
	}
	retention.under_way = false;	/* unless this goes well */
	retention.failing = true;
	pgstat_report_activity(STATE_RUNNING, "carrying out what eventstore's retention says");
	PushActiveSnapshot(GetTransactionSnapshot());
	es_grant_refresh();
	ended = es_retention_apply(round);
	if (ended)
	{
		retention.scavenge = true;
		/* who has just made a rule may not have let go of the rules yet */
		if (round->sqlerrcode == 0)
			retention.next_at = GetCurrentTimestamp() + (round->barred ? BARRED_AGAIN : ROUND_US);
	}
	PopActiveSnapshot();
	return !ended;
}

/* Has what is hidden removed, in a transaction; tells when to try again, DT_NOEND: that is done. */
static TimestampTz
start_scavenging(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	retention.scavenged_at = GetCurrentTimestamp();
	retention.scavenge = !es_scavenge_start();
	PopActiveSnapshot();
	return retention.scavenge ? GetCurrentTimestamp() + SCAVENGE_AGAIN : DT_NOEND;
}

/* Tells whether there is a store whose upkeep is for now; *again_at: else look again then. */
static bool
is_store_ready(TimestampTz *again_at)
{
	if (!es_base_is_installed())
		*again_at = GetCurrentTimestamp() + ROUND_US;
	else if (es_sharedmark_is_loading(es_base_oid(&es_base_position_seq)))
		*again_at = GetCurrentTimestamp() + LOADING_AGAIN;
	else
		return true;
	return false;
}

/* Has what is hidden removed while rounds fail, once in a minute, in a transaction of its own. */
static void
scavenge_meanwhile(void)
{
	TimestampTz again_at;

	if (es_backoff_is_pending(retention.scavenged_at + (retention.scavenge ? SCAVENGE_AGAIN : ROUND_US),
							  GetCurrentTimestamp()))
		return;
	StartTransactionCommand();
	if (is_store_ready(&again_at))
		(void) start_scavenging();
	CommitTransactionCommand();
}

/*
 * es_upkeep_work does a piece of upkeep, in a transaction of its own, and tells when it is
 * to be called again: DT_NOBEGIN at once.  Raises what a rule of retention has failed with,
 * once the round has ended.
 */
TimestampTz
es_upkeep_work(void)
{
	TimestampTz again_at = DT_NOBEGIN;
	bool		more = false;
	bool		ready;

	SetCurrentStatementStartTimestamp();
	if (retention.failing)
		scavenge_meanwhile();
	StartTransactionCommand();
	ready = is_store_ready(&again_at);
	if (ready && retention.next_at <= GetCurrentTimestamp())
		more = carry_on_round();
	else if (ready)
	{
		again_at = retention.scavenge ? start_scavenging() : DT_NOEND;
		again_at = Min(again_at, retention.next_at);
	}
	CommitTransactionCommand();
	retention.under_way = more;
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	if (!more)
		es_retention_report(&retention.round, ERROR);
	retention.failing = false;
	return again_at;
}

/* ---- seals ---- */

/* Seals a part of the log that is not sealed; false if there may be more at once. */
static bool
seal_a_step(void)
{
	EsOwnerContext saved;
	bool		all;

	if (!es_base_is_installed() || es_subscriber_is() ||
		es_sharedmark_is_loading(es_base_oid(&es_base_position_seq)) || !es_seal_lock(false))
		return true;
	pgstat_report_activity(STATE_RUNNING, "sealing the log of eventstore");
	PushActiveSnapshot(GetTransactionSnapshot());
	es_owner_enter(&saved);
	(void) es_growth_seal(SEAL_STEP, &all);
	es_owner_leave(&saved);
	PopActiveSnapshot();
	return all;
}

/*
 * es_upkeep_seal seals the log, in a transaction of its own, and tells when that was: DT_NOBEGIN
 * if there is more to do at once.
 */
TimestampTz
es_upkeep_seal(void)
{
	TimestampTz began = GetCurrentTimestamp();
	bool		all;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	all = seal_a_step();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return all ? began : DT_NOBEGIN;
}

/* es_upkeep_seal_due tells when the log is to be sealed that was sealed last at a time. */
TimestampTz
es_upkeep_seal_due(TimestampTz last)
{
	if (seal_interval == 0)
		return DT_NOEND;
	return TIMESTAMP_NOT_FINITE(last) ? last : last + seal_interval * INT64CONST(1000);
}
