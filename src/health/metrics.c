/*
 * metrics.c
 *		How the store is doing, in numbers, as Prometheus wants them.
 *
 * Counters and histograms are what sessions have counted (shared/counter.c).  Gauges are
 * looked at as they are asked for: views of metrics.sql tell each kind of them, a row with
 * the name, labels and value each; what they mean is said here.
 *
 * A look is in nobody's way and lets nobody get in its own.  It writes nothing.  It waits
 * for a lock no longer than a moment (viewer.c), or lock_timeout if that is shorter: an
 * administrator has a table for himself, say.  What cannot be looked at is left out, and
 * scrape_failed says which view that was; all the others come all the same.  Each is a
 * subtransaction; to be cancelled ends all of it.
 *
 * What a lag is in seconds is found out by few looks into the log (read/lag.c): where these do
 * not suffice, it is the age of an older event.
 *
 * Views are asked as the extension's owner, who may see all of the store, since who may
 * call this need not have a right on it.  Of standbys the server tells only whom it trusts
 * with that, so they are asked for as the caller.
 *
 * While a store is being loaded nothing is concluded from it: what is about positions is left out.
 */
#include "health/metrics.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/pending.h"
#include "base/quiet.h"
#include "health/viewer.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "read/lag.h"
#include "shared/counter.h"
#include "shared/mark.h"
#include "shared/roster.h"
#include "shared/trouble.h"

#define PREFIX			"eventstore_"
#define MOST_LOOKS		10000	/* at events, for the sake of lags */
#define Natts_metrics	5

PG_FUNCTION_INFO_V1(es_library_version);
PG_FUNCTION_INFO_V1(es_metrics);

/* What there is to say of each gauge. */
typedef struct GaugeName
{
	const char *name;
	const char *help;
} GaugeName;

static const GaugeName gauge_names[] = {
	{"build_info", "Always 1; its labels tell the versions of the extension, its library and the server."},
	{"preloaded", "1 if the library is preloaded, so that there are background workers and counters."},
	{"standby", "1 if the server is in recovery."},
	{"subscriber", "1 if the store is a logical subscriber's, whose events are appended elsewhere."},
	{"loading", "1 while the store is being loaded, as by a restore."},
	{"scrape_failed", "1 if some gauges could not be looked at, as when a table is locked, and are left out."},
	{"last_position", "The last position that was given out."},
	{"settled_position", "The position up to which the log is final."},
	{"in_flight_transactions", "Transactions that have appended and not ended, prepared ones included."},
	{"in_flight_prepared", "Of them, those that are prepared."},
	{"in_flight_oldest_seconds", "How long the oldest of them has been running."},
	{"streams_estimate", "Streams that were begun, those of transactions that were rolled back included."},
	{"subscription_lag_events", "Positions given out after the checkpoint of a subscription's partition."},
	{"subscription_lag_seconds", "Age of the oldest event that a subscription's partition has not dealt with; 0 if there is none."},
	{"subscription_leased", "1 if a member has the partition of a subscription."},
	{"subscription_parked_events", "Events of a subscription that were given up and wait for somebody to decide."},
	{"projection_lag_events", "Positions given out after what an asynchronous projection has taken in."},
	{"projection_lag_seconds", "Age of the oldest event that an asynchronous projection has not taken in; 0 if there is none."},
	{"projection_running", "0 if a projection stands failed."},
	{"projection_rebuilding", "1 while a projection is being rebuilt."},
	{"projection_failed_attempts", "How often a projection has failed in a row."},
	{"projection_failed_seconds", "For how long a projection has been failing; 0 if it is not."},
	{"feed_active", "1 if somebody consumes the feed now."},
	{"feed_lost", "1 if the feed has no replication slot, or one that has lost its WAL."},
	{"feed_lag_bytes", "WAL between what a feed's consumer has confirmed and the end."},
	{"feed_retained_bytes", "WAL that the server keeps for a feed."},
	{"feed_lag_events", "Events, about, that were committed after what a feed's consumer has confirmed."},
	{"feed_lag_seconds", "Age of the oldest event that a feed lets through and its consumer has, about, not confirmed."},
	{"slot_active", "1 if a logical replication slot of this database is in use."},
	{"slot_lost", "1 if a logical replication slot of this database has lost its WAL."},
	{"slot_retained_bytes", "WAL that the server keeps for a logical replication slot of this database."},
	{"replication_lag_bytes", "WAL that a standby or another consumer of it, by the name it gives, has not replayed."},
	{"log_segments", "Segments of the log, by state."},
	{"segment_events", "Events in segments, by state; of those that are not sealed yet, positions given out."},
	{"segment_bytes", "Bytes of segments with their indexes, by state."},
	{"sealed_position", "The position up to which the log is sealed."},
	{"unsealed_events", "Positions given out after the last seal."},
	{"seal_age_seconds", "How long ago the last seal was made."},
	{"retention_behind_events", "Positions given out that the rules on what ages out have not been held against yet, by category."},
	{"retention_skipped_streams", "Streams that should have been truncated and could not be."},
	{"retention_skipped_seconds", "For how long one of them has been waiting."},
	{"scavengeable_streams", "Streams with hidden events that are still to be removed; at most 10,000 are counted."},
	{"worker_up", "1 if the store has its background worker."},
	{"worker_task_failing", "1 if background work fails now, by task."},
	{"worker_last_failure_timestamp_seconds", "When background work failed last, by task; 0 if it has not since the server was started."}
};

/* Where gauges come from. */
typedef struct GaugeSource
{
	const char *name;			/* for scrape_failed */
	const char *query;			/* gives name, labels, value */
	bool		as_caller;
	bool		of_positions;	/* nothing to be concluded from while the
								 * store is being loaded */
} GaugeSource;

#define FROM_VIEW(view) "SELECT g.name, g.labels, g.value FROM eventstore." view " g"

static const GaugeSource sources[] = {
	{"server", FROM_VIEW("gauges_of_server")},
	{"log", FROM_VIEW("gauges_of_log"),.of_positions = true},
	{"subscriptions", FROM_VIEW("gauges_of_subscriptions"),.of_positions = true},
	{"projections", FROM_VIEW("gauges_of_projections"),.of_positions = true},
	{"feeds", FROM_VIEW("gauges_of_feeds"),.of_positions = true},
	{"slots", FROM_VIEW("gauges_of_slots")},
	{"segments", FROM_VIEW("gauges_of_segments")},
	{"evidence", FROM_VIEW("gauges_of_evidence"),.of_positions = true},
	{"retention", FROM_VIEW("gauges_of_retention"),.of_positions = true},
	{"replication", "SELECT 'replication_lag_bytes'::pg_catalog.text, "
		"pg_catalog.jsonb_build_object('application_name', s.application_name), "
		"pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() "
		"ELSE pg_catalog.pg_current_wal_lsn() END, pg_catalog.max(s.replay_lsn))::pg_catalog.float8 "
	"FROM pg_catalog.pg_stat_replication s WHERE s.replay_lsn IS NOT NULL GROUP BY s.application_name",.as_caller = true}
};

/* ---- rows ---- */

/* es_metrics_label makes an object of one label. */
Datum
es_metrics_label(const char *name, const char *value)
{
	JsonbParseState *state = NULL;
	JsonbValue	member = {.type = jbvString};

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (name)
	{
		member.val.string.val = unconstify(char *, name);
		member.val.string.len = strlen(name);
		(void) pushJsonbValue(&state, WJB_KEY, &member);
		member.val.string.val = unconstify(char *, value);
		member.val.string.len = strlen(value);
		(void) pushJsonbValue(&state, WJB_VALUE, &member);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* es_metrics_put puts a row into the result. */
void
es_metrics_put(ReturnSetInfo *result, const EsMetric *metric, Datum labels)
{
	Datum		values[Natts_metrics];
	bool		isnull[Natts_metrics] = {false};
	char		name[NAMEDATALEN];

	snprintf(name, sizeof(name), PREFIX "%s", metric->name);
	values[0] = CStringGetTextDatum(name);
	values[1] = labels;
	values[2] = Float8GetDatum(metric->value);
	values[3] = CStringGetTextDatum(metric->kind);
	values[4] = CStringGetTextDatum(metric->help);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* Puts a gauge into the result. */
static void
put_gauge(ReturnSetInfo *result, const char *name, Datum labels, double value)
{
	EsMetric	metric = {.kind = "gauge",.value = value};

	for (int i = 0; i < lengthof(gauge_names) && metric.name == NULL; i++)
		if (strcmp(gauge_names[i].name, name) == 0)
		{
			metric.name = gauge_names[i].name;
			metric.help = gauge_names[i].help;
		}
	if (metric.name == NULL)
		elog(ERROR, "unknown gauge \"%s\"", name);
	es_metrics_put(result, &metric, labels);
}

/* Puts a gauge without labels into the result. */
static void
put_plain_gauge(ReturnSetInfo *result, const char *name, double value)
{
	put_gauge(result, name, es_metrics_label(NULL, NULL), value);
}

/* ---- what was counted ---- */

/* A number as it is shown: seconds for what is kept in microseconds. */
static double
shown_number(const EsCounterName *what, uint64 number)
{
	return what->is_time ? number / 1e6 : (double) number;
}

/* Puts a histogram into the result. */
static void
put_histogram(ReturnSetInfo *result, const EsCounterName *what, const uint64 *places)
{
	char		name[NAMEDATALEN];
	EsMetric	metric = {.name = name,.kind = "histogram",.help = what->help};
	uint64		count = 0;

	snprintf(name, sizeof(name), "%s_bucket", what->name);
	for (int i = 0; i < ES_HISTOGRAM_PLACES - 1; i++)
	{
		char	   *bound = i == ES_HISTOGRAM_BOUNDS ? "+Inf" : psprintf("%.9g", shown_number(what, UINT64CONST(1) << i));

		count += places[i];
		metric.value = (double) count;
		es_metrics_put(result, &metric, es_metrics_label("le", bound));
	}
	snprintf(name, sizeof(name), "%s_sum", what->name);
	metric.value = shown_number(what, places[ES_HISTOGRAM_PLACES - 1]);
	es_metrics_put(result, &metric, es_metrics_label(NULL, NULL));
	snprintf(name, sizeof(name), "%s_count", what->name);
	metric.value = (double) count;
	es_metrics_put(result, &metric, es_metrics_label(NULL, NULL));
}

/* Puts what sessions have counted into the result, if they count. */
static void
put_counts(ReturnSetInfo *result)
{
	EsCounts   *counts = palloc(sizeof(EsCounts));

	if (!es_counter_sum(counts))
		return;
	for (int i = 0; i < ES_NCOUNTERS; i++)
	{
		const EsCounterName *what = &es_counter_names[i];
		EsMetric	metric = {.name = what->name,.kind = "counter",.help = what->help};

		metric.value = shown_number(what, counts->counters[i]);
		es_metrics_put(result, &metric, es_metrics_label(what->label, what->value));
	}
	for (int i = 0; i < ES_NHISTOGRAMS; i++)
		put_histogram(result, &es_counter_histogram_names[i], counts->histograms[i]);
}

/* ---- gauges ---- */

/* A look at a source on its way. */
typedef struct GaugeLook
{
	const GaugeSource *source;
	ReturnSetInfo *result;
} GaugeLook;

/* Puts the rows that a query has given into the result; what is NULL there is not known. */
static void
put_queried_gauges(ReturnSetInfo *result)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		double		value = DatumGetFloat8(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull));

		if (!isnull)
			put_gauge(result, SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1),
					  SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull), value);
	}
}

/* Asks a source. */
static void
ask_gauge_source(void *arg)
{
	const GaugeLook *look = arg;
	EsOwnerContext owner;
	int			level = 0;

	if (look->source->as_caller)
		level = es_owner_enter_settings();
	else
		es_owner_enter(&owner);
	es_viewer_limit_waits();
	SPI_connect();
	if (SPI_execute(look->source->query, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not ask for gauges");
	put_queried_gauges(look->result);
	SPI_finish();
	if (look->source->as_caller)
		es_owner_leave_settings(level);
	else
		es_owner_leave(&owner);
}

/* Asks a source; says so in the result if that fails. */
static void
put_source(ReturnSetInfo *result, const GaugeSource *source, MemoryContext context)
{
	GaugeLook	look = {.source = source,.result = result};
	MemoryContext old = MemoryContextSwitchTo(context);
	ErrorData  *error;

	CHECK_FOR_INTERRUPTS();
	error = es_quiet_try(ask_gauge_source, &look);
	if (error != NULL && es_error_ends_statement(error->sqlerrcode))
		ReThrowError(error);
	put_gauge(result, "scrape_failed", es_metrics_label("part", source->name), error != NULL);
	MemoryContextSwitchTo(old);
	MemoryContextReset(context);
}

/* Puts what there is to say of the server and the library into the result. */
static void
put_server(ReturnSetInfo *result, bool loading)
{
	put_plain_gauge(result, "preloaded", es_roster_exists());
	put_plain_gauge(result, "standby", RecoveryInProgress());
	put_plain_gauge(result, "subscriber", es_subscriber_is());
	put_plain_gauge(result, "loading", loading);
	if (!es_roster_exists())
		return;
	put_plain_gauge(result, "worker_up", es_roster_is_looked_after(MyDatabaseId));
	for (EsTask task = 0; task < ES_NTASKS; task++)
	{
		EsTrouble	trouble;
		bool		failed = es_trouble_read(task, &trouble);

		put_gauge(result, "worker_task_failing", es_metrics_label("task", es_trouble_names[task]), trouble.fails);
		put_gauge(result, "worker_last_failure_timestamp_seconds", es_metrics_label("task", es_trouble_names[task]),
				  failed ? trouble.last / 1e6 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY : 0);
	}
}

/* library_version(): the version of the library that this session has loaded. */
Datum
es_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(es_base_version));
}

/*
 * es_metrics(): how the store is doing, a row for each number, in names, units and kinds as
 * Prometheus wants them.
 *
 * For who has 'admin' on all categories, and for members of pg_read_all_stats, as pg_monitor
 * is; else 42501.  Counters and histograms are there where the library is preloaded.  Waits
 * for a lock for a tenth of a second at most, and leaves out what it then cannot look at.
 * Writes nothing.
 */
Datum
es_metrics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context;
	bool		loading;
	volatile bool worker = es_settle_for_worker;

	es_call_refuse_parallel();
	es_viewer_require("es_metrics");
	es_pending_flush();
	InitMaterializedSRF(fcinfo, 0);
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore metrics", ALLOCSET_DEFAULT_SIZES);
	loading = es_sharedmark_is_loading(es_base_oid(&es_base_position_seq));
	put_server(result, loading);
	put_counts(result);
	PG_TRY();
	{
		es_settle_for_worker = true;	/* to look is not to use the store */
		es_lag_looks = MOST_LOOKS;
		for (int i = 0; i < lengthof(sources); i++)
			if (!loading || !sources[i].of_positions)
				put_source(result, &sources[i], context);
	}
	PG_FINALLY();
	{
		es_settle_for_worker = worker;
		es_lag_looks = ES_LAG_LOOKS;
	}
	PG_END_TRY();
	MemoryContextDelete(context);
	return (Datum) 0;
}
