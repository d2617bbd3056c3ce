/*
 * process.h
 *		What background workers of ours have in common.
 */
#ifndef ES_BASE_PROCESS_H
#define ES_BASE_PROCESS_H

#include "base/base.h"

#include "postmaster/bgworker.h"

/*
 * How long one waits for a lock while it holds others: below the default
 * deadlock_timeout, so that in a deadlock it is the one that gives up.
 */
#define ES_PROCESS_LOCK_TIMEOUT	"500ms"

/* What the types of our workers begin with, and that of the one which each store has. */
#define ES_PROCESS_PREFIX	"eventstore "
#define ES_PROCESS_MAIN		ES_PROCESS_PREFIX "worker"

extern void es_process_describe(BackgroundWorker *worker, const char *function, const char *type);
extern void es_process_set_transactions(const char *lock_timeout);
extern void es_process_release_at_exit(void);
extern void es_process_flush_wal(bool all);
extern bool es_process_waits_for(const List *pids, int other);
extern bool es_process_is_wal_sent(void);

#endif							/* ES_BASE_PROCESS_H */
