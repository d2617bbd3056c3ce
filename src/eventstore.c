/*
 * eventstore.c
 *		The library's entry: each part registers what it needs.
 *
 * _PG_init also runs in processes where nothing was preloaded, walsenders
 * among them; it never raises.
 */
#include "base.h"

#include "utils/guc.h"

#include "handler.h"
#include "roster.h"
#include "ack.h"
#include "bulk.h"
#include "ddlguard.h"
#include "declare.h"
#include "flight.h"
#include "batch.h"
#include "mirror.h"
#include "projection.h"
#include "segment.h"
#include "settle.h"
#include "sharedmark.h"
#include "subscriber.h"
#include "subscription.h"
#include "textsize.h"
#include "tipcache.h"
#include "upgrade.h"
#include "utility.h"
#include "value.h"
#include "wait.h"
#include "wake.h"
#include "worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/* Called once in each process that loads the library. */
void
_PG_init(void)
{
	es_base_init();
	es_textsize_init();
	es_shared_init();
	es_sharedmark_init();
	es_flight_init();
	es_roster_init();
	es_wake_init();
	es_kept_init();
	es_subscriber_init();
	es_segment_init();
	es_settle_init();
	es_wait_init();
	es_mirror_init();
	es_tipcache_init();
	es_bulk_init();
	es_subscription_init();
	es_ack_init();
	es_handler_init();
	es_value_init();
	es_projection_init();
	es_batch_init();
	es_declare_init();
	es_utility_init();
	es_ddlguard_init();
	es_upgrade_init();
	es_worker_init();
	MarkGUCPrefixReserved("eventstore");
}
