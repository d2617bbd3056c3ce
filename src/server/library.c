/*
 * library.c
 *		The library's entry: each part registers what it needs.
 *
 * _PG_init also runs in processes where nothing was preloaded, walsenders
 * among them; it never raises.  The order of its calls counts: the server runs
 * transaction callbacks in the reverse order.
 */
#include "base/base.h"

#include "utils/guc.h"

#include "append/bulk.h"
#include "base/backoff.h"
#include "base/loaded.h"
#include "base/objects.h"
#include "fold/foldnode.h"
#include "health/doctor.h"
#include "json/node.h"
#include "json/scope.h"
#include "json/size.h"
#include "lifecycle/policy.h"
#include "lifecycle/scavenge.h"
#include "log/durable.h"
#include "log/earlyrelease.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "log/wait.h"
#include "projection/batch.h"
#include "projection/declare.h"
#include "projection/privacy.h"
#include "projection/projection.h"
#include "projection/protect.h"
#include "read/callscan.h"
#include "read/readnode.h"
#include "rights/right.h"
#include "rights/sight.h"
#include "segment/typeindex.h"
#include "secret/keycache.h"
#include "secret/masterkey.h"
#include "server/ddlguard.h"
#include "server/discard.h"
#include "server/launcher.h"
#include "server/statements.h"
#include "server/upkeep.h"
#include "server/upgrade.h"
#include "server/worker.h"
#include "shared/counter.h"
#include "shared/flight.h"
#include "shared/headway.h"
#include "shared/mark.h"
#include "shared/memory.h"
#include "shared/nudge.h"
#include "shared/roster.h"
#include "shared/tenure.h"
#include "shared/tips.h"
#include "shared/trouble.h"
#include "shared/wake.h"
#include "stream/tipcache.h"
#include "table/kept.h"
#include "type/handler.h"
#include "type/renew.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/*
 * Called once in each process that loads the library.  Settings from before that are not
 * good make warnings, at which the server would let a cancel in; and what is interrupted
 * here can never be loaded again.
 */
void
_PG_init(void)
{
	HOLD_INTERRUPTS();
	es_node_init();				/* first, since it can fail, and is tried
								 * again */
	es_loaded_init();
	es_base_init();
	es_jsonsize_init();
	es_shared_init();
	es_counter_init();
	es_trouble_init();
	es_headway_init();
	es_sharedmark_init();
	es_flight_init();
	es_tips_init();
	es_roster_init();
	es_nudge_init();
	es_wake_init();
	es_tenure_init();
	es_kept_init();
	es_right_init();
	es_sight_init();
	es_subscriber_init();
	es_segment_init();
	es_durable_init();
	es_earlyrelease_init();
	es_settle_init();
	es_wait_init();
	es_typeindex_init();
	es_tipcache_init();
	es_bulk_init();
	es_backoff_init();
	es_handler_init();
	es_renew_init();
	es_callscan_init();
	es_readnode_init();
	es_foldnode_init();
	es_scope_init();
	es_masterkey_init();
	es_keycache_init();
	es_projection_init();
	es_batch_init();
	es_declare_init();
	es_privacy_init();
	es_protect_init();
	es_policy_init();
	es_scavenge_init();
	es_doctor_init();
	es_statements_init();
	es_discard_init();
	es_ddlguard_init();
	es_upgrade_init();
	es_upkeep_init();
	es_worker_init();
	es_launcher_init();
	MarkGUCPrefixReserved("eventstore");
	RESUME_INTERRUPTS();
}
