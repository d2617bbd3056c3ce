/*
 * errand.h
 *		Background workers that a function waits for.
 */
#ifndef ES_BASE_ERRAND_H
#define ES_BASE_ERRAND_H

#include "base/base.h"

#include "lib/stringinfo.h"

#define ES_ERRAND_MOST_ORDER	96	/* bytes */

/* What a worker is to do. */
typedef struct EsErrand
{
	const char *function;		/* of the library */
	const char *type;			/* what the worker is called */
	const char *purpose;		/* what it is needed for, in a message:
								 * "scavenge" */
	const void *order;			/* what it is told, */
	Size		size;			/* ES_ERRAND_MOST_ORDER at most */
} EsErrand;

/* Takes a row that the worker has sent. */
typedef void (*EsErrandTake) (StringInfo row, void *arg);

extern void es_errand_run(const EsErrand *errand, EsErrandTake take, void *arg);
extern bool es_errand_start(const EsErrand *errand);

/* In the worker. */
extern int	es_errand_begin(void *order, Size size);
extern void es_errand_begin_row(StringInfo row);
extern void es_errand_end_row(StringInfo row);
extern void es_errand_end(void);

#endif							/* ES_BASE_ERRAND_H */
