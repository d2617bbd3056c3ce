/*
 * counter.h
 *		What sessions count, and how long things take, for es_metrics().
 */
#ifndef ES_SHARED_COUNTER_H
#define ES_SHARED_COUNTER_H

#include "base/base.h"

#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "portability/instr_time.h"

/* What is counted; counter.c has names and meanings, in this order. */
typedef enum EsCounter
{
	ES_COUNT_APPENDS,
	ES_COUNT_EVENTS_APPENDED,
	ES_COUNT_APPEND_RETRIES,
	ES_COUNT_CONDITIONAL_APPENDS,
	ES_COUNT_REFUSED_VERSION,
	ES_COUNT_REFUSED_CONDITION,
	ES_COUNT_REFUSED_DATA,
	ES_COUNT_REFUSED_IDS,
	ES_COUNT_REFUSED_DELETED,
	ES_COUNT_REFUSED_SUBJECT,
	ES_COUNT_APPEND_LOCK_WAITS,
	ES_COUNT_APPEND_LOCK_WAIT_TIME,
	ES_COUNT_EVENTS_READ,
	ES_COUNT_POLLS,
	ES_COUNT_EVENTS_DELIVERED,
	ES_COUNT_ACKS,
	ES_COUNT_NACKS,
	ES_COUNT_FOLDS,
	ES_COUNT_FOLDED_EVENTS,
	ES_COUNT_SNAPSHOT_HITS,
	ES_COUNT_SNAPSHOT_MISSES,
	ES_COUNT_WAITS_FOR_EVENTS,
	ES_COUNT_WAITS_FOR_TRANSACTION,
	ES_COUNT_WAITS_FOR_PREPARED,
	ES_COUNT_WAITS_FOR_FLUSH,
	ES_COUNT_WAIT_TIME_EVENTS,
	ES_COUNT_WAIT_TIME_TRANSACTION,
	ES_COUNT_WAIT_TIME_PREPARED,
	ES_COUNT_WAIT_TIME_FLUSH,
	ES_COUNT_KEY_COMMAND_RUNS,
	ES_COUNT_KEY_COMMAND_FAILURES,
	ES_COUNT_PROJECTION_BATCHES,
	ES_COUNT_PROJECTION_EVENTS,
	ES_COUNT_PROJECTION_FAILURES,
	ES_COUNT_SCAVENGED_EVENTS,
	ES_COUNT_SEALED_EVENTS,
	ES_COUNT_FAILURES,			/* one for each task, see shared/trouble.h */
	ES_NCOUNTERS = ES_COUNT_FAILURES + 9
} EsCounter;

/* What is measured: its distribution is kept. */
typedef enum EsHistogram
{
	ES_TIME_APPEND,
	ES_TIME_READ,
	ES_TIME_REPLAY,
	ES_TIME_POLL,
	ES_SIZE_APPEND,
	ES_NHISTOGRAMS
} EsHistogram;

/* Upper bounds are powers of two, from 1 on; one more place has what is above all of them. */
#define ES_HISTOGRAM_BOUNDS		27
#define ES_HISTOGRAM_PLACES		(ES_HISTOGRAM_BOUNDS + 2)	/* the last one is the
															 * sum */

/* All that is counted, as plain numbers. */
typedef struct EsCounts
{
	uint64		counters[ES_NCOUNTERS];
	uint64		histograms[ES_NHISTOGRAMS][ES_HISTOGRAM_PLACES];
} EsCounts;

/* What this is called, and what it means, outside. */
typedef struct EsCounterName
{
	const char *name;
	const char *label;			/* NULL: it has none */
	const char *value;			/* of the label */
	bool		is_time;		/* in microseconds; else a number */
	const char *help;
} EsCounterName;

extern const EsCounterName es_counter_names[ES_NCOUNTERS];
extern const EsCounterName es_counter_histogram_names[ES_NHISTOGRAMS];

/* Where this backend counts: its slot, which nobody else writes; NULL: it has none (yet). */
typedef struct EsCounterSlot
{
	pg_atomic_uint64 counters[ES_NCOUNTERS];
	pg_atomic_uint64 histograms[ES_NHISTOGRAMS][ES_HISTOGRAM_PLACES];
	pg_atomic_uint32 database;	/* which it counts for; InvalidOid: it is free */
} EsCounterSlot;

extern EsCounterSlot *es_counter_slot;
extern bool es_counter_off;

extern void es_counter_attach(void);

/* Tells whether this backend counts. */
static inline bool
es_counter_is_on(void)
{
	if (unlikely(es_counter_slot == NULL) && !es_counter_off)
		es_counter_attach();
	return es_counter_slot != NULL;
}

/* Adds to a number that only this backend writes. */
static inline void
es_counter_raise(pg_atomic_uint64 *number, uint64 n)
{
	pg_atomic_write_u64(number, pg_atomic_read_u64(number) + n);
}

/*
 * es_counter_add counts.  It allocates nothing, raises nothing, takes no lock, and does
 * nothing where the library is not preloaded.
 */
static inline void
es_counter_add(EsCounter which, uint64 n)
{
	if (es_counter_is_on())
		es_counter_raise(&es_counter_slot->counters[which], n);
}

/* es_counter_place tells which place of a histogram a value has. */
static inline int
es_counter_place(uint64 value)
{
	int			place = value <= 1 ? 0 : pg_leftmost_one_pos64(value - 1) + 1;

	return Min(place, ES_HISTOGRAM_BOUNDS);
}

/* es_counter_note puts a value, in events or microseconds, into a histogram; as es_counter_add. */
static inline void
es_counter_note(EsHistogram which, uint64 value)
{
	if (!es_counter_is_on())
		return;
	es_counter_raise(&es_counter_slot->histograms[which][es_counter_place(value)], 1);
	es_counter_raise(&es_counter_slot->histograms[which][ES_HISTOGRAM_PLACES - 1], value);
}

/* es_counter_start begins to measure a time, if this backend counts. */
static inline void
es_counter_start(instr_time *start)
{
	if (es_counter_is_on())
		INSTR_TIME_SET_CURRENT(*start);
	else
		INSTR_TIME_SET_ZERO(*start);
}

/* es_counter_elapsed gives the microseconds since es_counter_start; 0 if nothing is counted. */
static inline uint64
es_counter_elapsed(const instr_time *start)
{
	instr_time	now;

	if (INSTR_TIME_IS_ZERO(*start))
		return 0;
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, *start);
	return INSTR_TIME_GET_MICROSEC(now);
}

/* es_counter_note_time puts the time since es_counter_start into a histogram. */
static inline void
es_counter_note_time(EsHistogram which, const instr_time *start)
{
	if (!INSTR_TIME_IS_ZERO(*start))
		es_counter_note(which, es_counter_elapsed(start));
}

/* For those who show it. */
extern void es_counter_init(void);
extern bool es_counter_sum(EsCounts *counts);
extern void es_counter_forget(Oid database);

#endif							/* ES_SHARED_COUNTER_H */
