/*
 * wait.h
 *		Waiting for news.
 */
#ifndef ES_LOG_WAIT_H
#define ES_LOG_WAIT_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* A wait: what for, and what a look at it found. */
typedef struct EsWait
{
	bool		(*look) (struct EsWait *wait);	/* tells whether it is over */
	void	   *arg;			/* of the look */
	int64		timeout;		/* microseconds */
	bool		detached;		/* no snapshot is to be held between looks */
	uint64		interest;		/* what news matter, see shared/wake.h */

	uint64		slept;			/* microseconds, if they are counted */

	/* set by the look, anew each time */
	bool		hindered;		/* a transaction in flight is in the way: any
								 * news matter */
	TimestampTz again_at;		/* something may change by then without any
								 * news; DT_NOEND: nothing will */
} EsWait;

extern void es_wait_init(void);
extern bool es_wait_until(EsWait *wait);
extern bool es_wait_detach(FunctionCallInfo fcinfo);
extern void es_wait_attach(bool detached);
extern int64 es_wait_cap(int64 timeout);

#endif							/* ES_LOG_WAIT_H */
