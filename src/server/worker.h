/*
 * worker.h
 *		The background workers that look after stores.
 */
#ifndef ES_SERVER_WORKER_H
#define ES_SERVER_WORKER_H

#include "base/base.h"

#include "datatype/timestamp.h"

extern void es_worker_init(void);
extern bool es_worker_told_to_go(void);
extern void es_worker_set_up(void);
extern void es_worker_sleep_until(TimestampTz then);

/* Found by name, as the library's entry for workers. */
extern PGDLLEXPORT void es_worker_main(Datum main_arg);

#endif							/* ES_SERVER_WORKER_H */
