/*
 * holdoff.h
 *		Who wants no worker in a database.
 */
#ifndef ES_SHARED_HOLDOFF_H
#define ES_SHARED_HOLDOFF_H

#include "base/base.h"

#define ES_HOLDOFF_MOST	8		/* of one database; more take turns */

/* Processes, in shared memory, under the lock of what it is in; zeroed: nobody. */
typedef struct EsHoldoff
{
	pid_t		pids[ES_HOLDOFF_MOST];	/* 0: free */
} EsHoldoff;

extern pid_t es_holdoff_find(const EsHoldoff *holdoff);
extern bool es_holdoff_begin(EsHoldoff *holdoff);
extern void es_holdoff_end(EsHoldoff *holdoff);
extern void es_holdoff_wake(const EsHoldoff *holdoff);

#endif							/* ES_SHARED_HOLDOFF_H */
