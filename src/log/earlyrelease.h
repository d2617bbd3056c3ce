/*
 * earlyrelease.h
 *		Locks given back before the commit is on disk.
 */
#ifndef ES_LOG_EARLYRELEASE_H
#define ES_LOG_EARLYRELEASE_H

#include "base/base.h"

/* What is known of a transaction's writes as an append begins. */
typedef struct EsOwnWrites
{
	bool		only;			/* there are none but of appends */
	uint64		users_runs;
} EsOwnWrites;

extern void es_earlyrelease_init(void);
extern EsOwnWrites es_earlyrelease_begin(void);
extern void es_earlyrelease_end(EsOwnWrites writes);
extern void es_earlyrelease_met_other(void);

#endif							/* ES_LOG_EARLYRELEASE_H */
