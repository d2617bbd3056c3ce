/*
 * counter.c
 *		What sessions count, and how long things take, for es_metrics().
 *
 * With the library preloaded each backend has a slot in shared memory, on cache lines of
 * its own, which only itself writes: by plain loads and stores, without a lock.  So to
 * count costs what a static variable costs, can be done anywhere, also in a critical
 * section or after an error, and never fails.  Who reads a slot meanwhile gets each number
 * as it was or as it is.
 *
 * A slot counts for the database that its backend is connected to.  As the backend ends,
 * whichever way, what it has counted goes to the totals of that database, under the lock,
 * and its slot is free.  Readers have the lock shared while they add the slots to the
 * totals, so nothing is missed and nothing comes twice.  Nobody takes the lock to count.
 *
 * There is room for the totals of MOST_DATABASES; what sessions of further ones have
 * counted ends with them.  A database that is dropped gives its place up.
 *
 * A crash of any process empties all of it, and a restart: who follows such numbers, as
 * Prometheus does, takes a lower one for a beginning.
 */
#include "shared/counter.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#include "shared/memory.h"

#define MOST_DATABASES	256

/* What ended sessions of a database have counted; under the lock. */
typedef struct EsCounterTotals
{
	Oid			database;		/* InvalidOid: the place is free */
	EsCounts	counts;
} EsCounterTotals;

/* A slot, and what keeps it off the cache lines of the next. */
typedef union EsCounterPlace
{
	EsCounterSlot slot;
	char		pad[TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(EsCounterSlot))];
} EsCounterPlace;

typedef struct EsCounterShared
{
	EsCounterTotals totals[MOST_DATABASES];
	EsCounterPlace *places;		/* NPLACES, by number of backend */
} EsCounterShared;

#define NPLACES		(MaxBackends + 1)
#define RETRIES_HELP "Appends that stored nothing since all their events, with the ids given, were stored already."
#define REFUSED_HELP "Appends that were refused, by reason."
#define WAITS_HELP	"Times that a reader waited in the server for the log, by what it waited for."
#define WAIT_TIME_HELP	"Time that readers waited in the server for the log, by what they waited for."
#define WORKER_HELP	"Times that work in the background failed, by what it was."

const EsCounterName es_counter_names[ES_NCOUNTERS] = {
	[ES_COUNT_APPENDS] = {"appends_total",.help = "Calls that appended events, retries included; what was rolled back later counts as well."},
	[ES_COUNT_EVENTS_APPENDED] = {"events_appended_total",.help = "Events that were written; what was rolled back later counts as well."},
	[ES_COUNT_APPEND_RETRIES] = {"append_retries_total",.help = RETRIES_HELP},
	[ES_COUNT_CONDITIONAL_APPENDS] = {"conditional_appends_total",.help = "Calls of es_append_if whose condition held."},
	[ES_COUNT_REFUSED_VERSION] = {"append_refusals_total", "reason", "wrong_expected_version",.help = REFUSED_HELP},
	[ES_COUNT_REFUSED_CONDITION] = {"append_refusals_total", "reason", "condition_failed",.help = REFUSED_HELP},
	[ES_COUNT_REFUSED_DATA] = {"append_refusals_total", "reason", "schema_violation",.help = REFUSED_HELP},
	[ES_COUNT_REFUSED_IDS] = {"append_refusals_total", "reason", "event_id_conflict",.help = REFUSED_HELP},
	[ES_COUNT_REFUSED_DELETED] = {"append_refusals_total", "reason", "stream_deleted",.help = REFUSED_HELP},
	[ES_COUNT_REFUSED_SUBJECT] = {"append_refusals_total", "reason", "subject_shredded",.help = REFUSED_HELP},
	[ES_COUNT_APPEND_LOCK_WAITS] = {"append_lock_waits_total",.help = "Times that an append, or a truncation, waited for a transaction that had appended to the same stream, or decides a condition."},
	[ES_COUNT_APPEND_LOCK_WAIT_TIME] = {"append_lock_wait_seconds_total",.is_time = true,.help = "Time that appends, and truncations, waited for transactions that had appended to the same stream, or decide a condition."},
	[ES_COUNT_EVENTS_READ] = {"events_read_total",.help = "Events that functions whose names begin with es_read gave out."},
	[ES_COUNT_POLLS] = {"polls_total",.help = "Calls of es_poll."},
	[ES_COUNT_EVENTS_DELIVERED] = {"events_delivered_total",.help = "Events that es_poll delivered, each time again counted."},
	[ES_COUNT_ACKS] = {"acks_total",.help = "Calls of es_ack that went well."},
	[ES_COUNT_NACKS] = {"nacks_total",.help = "Calls of es_nack that went well."},
	[ES_COUNT_FOLDS] = {"folds_total",.help = "Streams that were folded into a state by replays."},
	[ES_COUNT_FOLDED_EVENTS] = {"folded_events_total",.help = "Events that replays folded into states."},
	[ES_COUNT_SNAPSHOT_HITS] = {"snapshot_hits_total",.help = "Replays of a stream that began at a snapshot."},
	[ES_COUNT_SNAPSHOT_MISSES] = {"snapshot_misses_total",.help = "Replays of a stream that looked for a snapshot and found none."},
	[ES_COUNT_WAITS_FOR_EVENTS] = {"settle_waits_total", "waited_for", "events",.help = WAITS_HELP},
	[ES_COUNT_WAITS_FOR_TRANSACTION] = {"settle_waits_total", "waited_for", "transaction",.help = WAITS_HELP},
	[ES_COUNT_WAITS_FOR_PREPARED] = {"settle_waits_total", "waited_for", "prepared",.help = WAITS_HELP},
	[ES_COUNT_WAITS_FOR_FLUSH] = {"settle_waits_total", "waited_for", "flush",.help = WAITS_HELP},
	[ES_COUNT_WAIT_TIME_EVENTS] = {"settle_wait_seconds_total", "waited_for", "events", true, WAIT_TIME_HELP},
	[ES_COUNT_WAIT_TIME_TRANSACTION] = {"settle_wait_seconds_total", "waited_for", "transaction", true, WAIT_TIME_HELP},
	[ES_COUNT_WAIT_TIME_PREPARED] = {"settle_wait_seconds_total", "waited_for", "prepared", true, WAIT_TIME_HELP},
	[ES_COUNT_WAIT_TIME_FLUSH] = {"settle_wait_seconds_total", "waited_for", "flush", true, WAIT_TIME_HELP},
	[ES_COUNT_KEY_COMMAND_RUNS] = {"key_command_runs_total",.help = "Times that a command that prints the master key was run."},
	[ES_COUNT_KEY_COMMAND_FAILURES] = {"key_command_failures_total",.help = "Times that a command that prints the master key printed none."},
	[ES_COUNT_PROJECTION_BATCHES] = {"projection_batches_total",.help = "Batches that asynchronous projections took in."},
	[ES_COUNT_PROJECTION_EVENTS] = {"projection_events_total",.help = "Events that asynchronous projections took in, rebuilds included."},
	[ES_COUNT_PROJECTION_FAILURES] = {"projection_failures_total",.help = "Failures of asynchronous projections."},
	[ES_COUNT_SCAVENGED_EVENTS] = {"scavenged_events_total",.help = "Events that were removed for good."},
	[ES_COUNT_SEALED_EVENTS] = {"sealed_events_total",.help = "Events that were sealed."},
	[ES_COUNT_FAILURES] = {"worker_failures_total", "task", "settling",.help = WORKER_HELP},
	{"worker_failures_total", "task", "projections",.help = WORKER_HELP},
	{"worker_failures_total", "task", "retention",.help = WORKER_HELP},
	{"worker_failures_total", "task", "sealing",.help = WORKER_HELP},
	{"worker_failures_total", "task", "scavenging",.help = WORKER_HELP},
	{"worker_failures_total", "task", "segments",.help = WORKER_HELP},
	{"worker_failures_total", "task", "freezing",.help = WORKER_HELP},
	{"worker_failures_total", "task", "indexing",.help = WORKER_HELP},
	{"worker_failures_total", "task", "keys",.help = WORKER_HELP}
};

const EsCounterName es_counter_histogram_names[ES_NHISTOGRAMS] = {
	[ES_TIME_APPEND] = {"append_duration_seconds",.is_time = true,.help = "Duration of calls that append and went well, waits included, the commit not."},
	[ES_TIME_READ] = {"read_duration_seconds",.is_time = true,.help = "Duration of calls of the functions whose names begin with es_read."},
	[ES_TIME_REPLAY] = {"replay_duration_seconds",.is_time = true,.help = "Duration of the replays of one stream."},
	[ES_TIME_POLL] = {"poll_duration_seconds",.is_time = true,.help = "Duration of calls of es_poll, without the time that they waited for events."},
	[ES_SIZE_APPEND] = {"append_batch_events",.help = "Events a call that appends."}
};

EsCounterSlot *es_counter_slot = NULL;

/* Nothing is to be counted here: for lack of memory, or since what was counted is handed in. */
bool		es_counter_off = true;

static EsCounterShared *shared = NULL;

/* How much memory the totals take. */
static Size
counter_totals_size(void)
{
	return TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(EsCounterShared));
}

/* How much memory it takes. */
static Size
counters_size(void)
{
	return add_size(counter_totals_size(), mul_size(NPLACES, sizeof(EsCounterPlace)));
}

/* Makes the memory. */
static void
start_counters(void *memory)
{
	EsCounterShared *counters = memory;

	counters->places = (EsCounterPlace *) ((char *) memory + counter_totals_size());
	for (int i = 0; i < NPLACES; i++)
	{
		EsCounterSlot *slot = &counters->places[i].slot;

		pg_atomic_init_u32(&slot->database, InvalidOid);
		for (int j = 0; j < ES_NCOUNTERS; j++)
			pg_atomic_init_u64(&slot->counters[j], 0);
		for (int j = 0; j < ES_NHISTOGRAMS; j++)
			for (int k = 0; k < ES_HISTOGRAM_PLACES; k++)
				pg_atomic_init_u64(&slot->histograms[j][k], 0);
	}
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_counter_init(void)
{
	EsSharedPiece piece = {"eventstore counters", counters_size, start_counters, (void **) &shared};

	es_shared_add(&piece);
	es_counter_off = !process_shared_preload_libraries_in_progress;
}

/* Finds the totals of a database; NULL if it has none. */
static EsCounterTotals *
find_database_totals(Oid database)
{
	for (int i = 0; i < MOST_DATABASES; i++)
		if (shared->totals[i].database == database)
			return &shared->totals[i];
	return NULL;
}

/* Adds what a slot has counted. */
static void
add_slot(EsCounts *counts, EsCounterSlot *slot)
{
	for (int i = 0; i < ES_NCOUNTERS; i++)
		counts->counters[i] += pg_atomic_read_u64(&slot->counters[i]);
	for (int i = 0; i < ES_NHISTOGRAMS; i++)
		for (int j = 0; j < ES_HISTOGRAM_PLACES; j++)
			counts->histograms[i][j] += pg_atomic_read_u64(&slot->histograms[i][j]);
}

/* Makes a slot one that has counted nothing. */
static void
empty_slot(EsCounterSlot *slot)
{
	for (int i = 0; i < ES_NCOUNTERS; i++)
		pg_atomic_write_u64(&slot->counters[i], 0);
	for (int i = 0; i < ES_NHISTOGRAMS; i++)
		for (int j = 0; j < ES_HISTOGRAM_PLACES; j++)
			pg_atomic_write_u64(&slot->histograms[i][j], 0);
	pg_atomic_write_u32(&slot->database, InvalidOid);
}

/* Hands in what this backend has counted, as it ends; it counts no more. */
static void
hand_in_counts(int code, Datum arg)
{
	EsCounterSlot *slot = es_counter_slot;
	EsCounterTotals *totals;

	es_counter_slot = NULL;
	es_counter_off = true;
	LWLockAcquire(es_shared_lock(ES_LOCK_COUNTERS), LW_EXCLUSIVE);
	totals = find_database_totals(MyDatabaseId);
	if (totals == NULL && (totals = find_database_totals(InvalidOid)) != NULL)
	{
		memset(&totals->counts, 0, sizeof(totals->counts));
		totals->database = MyDatabaseId;
	}
	if (totals)
		add_slot(&totals->counts, slot);
	empty_slot(slot);
	LWLockRelease(es_shared_lock(ES_LOCK_COUNTERS));
}

/* es_counter_attach has this backend count from now on, if it can. */
void
es_counter_attach(void)
{
	if (shared == NULL || !OidIsValid(MyDatabaseId) || proc_exit_inprogress)
		return;
	es_counter_slot = &shared->places[es_my_backend()].slot;
	pg_atomic_write_u32(&es_counter_slot->database, MyDatabaseId);
	before_shmem_exit(hand_in_counts, (Datum) 0);
}

/* es_counter_sum gives what sessions of this database have counted; false if nobody counts. */
bool
es_counter_sum(EsCounts *counts)
{
	EsCounterTotals *totals;

	memset(counts, 0, sizeof(*counts));
	if (shared == NULL)
		return false;
	LWLockAcquire(es_shared_lock(ES_LOCK_COUNTERS), LW_SHARED);
	totals = find_database_totals(MyDatabaseId);
	if (totals)
		*counts = totals->counts;
	for (int i = 0; i < NPLACES; i++)
		if (pg_atomic_read_u32(&shared->places[i].slot.database) == MyDatabaseId)
			add_slot(counts, &shared->places[i].slot);
	LWLockRelease(es_shared_lock(ES_LOCK_COUNTERS));
	return true;
}

/* es_counter_forget forgets what was counted for a database that is gone. */
void
es_counter_forget(Oid database)
{
	EsCounterTotals *totals;

	if (shared == NULL)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_COUNTERS), LW_EXCLUSIVE);
	totals = find_database_totals(database);
	if (totals)
		totals->database = InvalidOid;
	LWLockRelease(es_shared_lock(ES_LOCK_COUNTERS));
}
