/*
 * patience.h
 *		Waiting for locks without keeping others off.
 */
#ifndef ES_BASE_PATIENCE_H
#define ES_BASE_PATIENCE_H

#include "base/base.h"

#include "nodes/pg_list.h"
#include "storage/lock.h"

/* Who waits, in a worker, for whom, and how. */
typedef struct EsPatience
{
	int			caller;			/* pid of the session that waits for the
								 * worker */
	int			lock_timeout;	/* of it, in ms; 0: none */
	bool		within;			/* in a transaction that goes on: steps are
								 * subtransactions */
} EsPatience;

/* A lock that a step needs. */
typedef struct EsNeededLock
{
	LOCKTAG		tag;
	LOCKMODE	mode;
} EsNeededLock;

typedef enum EsPatienceEnd
{
	ES_PATIENCE_DONE,
	ES_PATIENCE_CALLER,			/* those who have the lock wait for the caller */
	ES_PATIENCE_SELF			/* or for us */
} EsPatienceEnd;

typedef void (*EsPatienceStep) (void *arg);

extern bool es_patience_try(const EsPatience *patience, const char *timeout, EsPatienceStep step, void *arg);
extern EsPatienceEnd es_patience_run(const EsPatience *patience, List *locks, EsPatienceStep step, void *arg);
extern bool es_patience_await(const EsPatience *patience, VirtualTransactionId transaction);

#endif							/* ES_BASE_PATIENCE_H */
