/*
 * trouble.h
 *		What fails in the background, said once.
 */
#ifndef ES_SHARED_TROUBLE_H
#define ES_SHARED_TROUBLE_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* What may fail again and again; trouble.c has names, in this order. */
typedef enum EsTask
{
	ES_TASK_SETTLING,
	ES_TASK_PROJECTIONS,
	ES_TASK_RETENTION,
	ES_TASK_SEALING,
	ES_TASK_SCAVENGING,
	ES_TASK_SEGMENTS,
	ES_TASK_FREEZING,
	ES_TASK_INDEXING,
	ES_TASK_KEYS,				/* of any session, not of a worker */
	ES_NTASKS
} EsTask;

#define ES_TROUBLE_TEXT	512		/* bytes that are kept of what an error says */

/* How a task of this database is doing. */
typedef struct EsTrouble
{
	bool		fails;			/* now; else it is well again */
	uint64		failures;		/* in a row */
	TimestampTz since;			/* the first of them */
	TimestampTz last;			/* 0: it has never failed */
	char text[	ES_TROUBLE_TEXT];	/* what was said last */
} EsTrouble;

extern const char *const es_trouble_names[ES_NTASKS];

extern void es_trouble_init(void);
extern bool es_trouble_begin(EsTask task, const char *message);
extern void es_trouble_end(EsTask task);
extern void es_trouble_take_error(EsTask task);
extern void es_trouble_run(EsTask task, void (*work) (void *arg), void *arg);
extern bool es_trouble_read(EsTask task, EsTrouble *trouble);
extern void es_trouble_forget(Oid database);

#endif							/* ES_SHARED_TROUBLE_H */
