/*
 * upkeep.c
 *		What the worker of a store does now and then.
 *
 * It comes by once in a minute, and when a rule was made, and carries out what rules say
 * ages out (lifecycle/retention.c): batch by batch, each in a transaction of its own, until
 * nothing is left of what was due when the round began.  Then, if there are hidden events, it
 * has them removed (lifecycle/scavenge.c).  As it comes by it also sees to it that grants say
 * what their roles are called by now (rights/grant.c).
 */
#include "server/upkeep.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "lifecycle/retention.h"
#include "lifecycle/scavenge.h"
#include "rights/grant.h"
#include "shared/mark.h"

#define ROUND_US		(60 * USECS_PER_SEC)
#define LOADING_AGAIN	(5 * USECS_PER_SEC)
#define BARRED_AGAIN	USECS_PER_SEC

/*
 * es_upkeep_work does a piece of upkeep, in a transaction of its own, and tells when it is
 * to be called again: DT_NOBEGIN at once.
 */
TimestampTz
es_upkeep_work(void)
{
	static EsRetentionRound round;	/* began DT_NOBEGIN, or 0: there is none */
	static bool under_way = false;
	TimestampTz again_at = DT_NOBEGIN;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!under_way)
		round.began = GetCurrentTimestamp();
	under_way = false;			/* unless this goes well */
	if (!es_base_is_installed())
		again_at = GetCurrentTimestamp() + ROUND_US;
	else if (es_sharedmark_is_loading(es_base_oid(&es_base_position_seq)))
		again_at = GetCurrentTimestamp() + LOADING_AGAIN;
	else
	{
		pgstat_report_activity(STATE_RUNNING, "carrying out what eventstore's retention says");
		PushActiveSnapshot(GetTransactionSnapshot());
		es_grant_refresh();
		if (es_retention_apply(&round))
		{
			es_scavenge_start();
			/* who has just made a rule may not have let go of the rules yet */
			again_at = GetCurrentTimestamp() + (round.barred ? BARRED_AGAIN : ROUND_US);
		}
		PopActiveSnapshot();
	}
	CommitTransactionCommand();
	under_way = again_at == DT_NOBEGIN;
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return again_at;
}
