/*
 * worker.h
 *		The background workers that look after stores.
 */
#ifndef ES_SERVER_WORKER_H
#define ES_SERVER_WORKER_H

#include "base/base.h"

extern void es_worker_init(void);
extern PGDLLEXPORT void es_worker_launcher_main(Datum main_arg);
extern PGDLLEXPORT void es_worker_main(Datum main_arg);

#endif							/* ES_SERVER_WORKER_H */
