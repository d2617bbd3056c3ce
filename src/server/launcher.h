/*
 * launcher.h
 *		The background worker that starts the workers of stores.
 */
#ifndef ES_SERVER_LAUNCHER_H
#define ES_SERVER_LAUNCHER_H

#include "base/base.h"

extern void es_launcher_init(void);

/* Found by name, as the library's entry for the launcher. */
extern PGDLLEXPORT void es_launcher_main(Datum main_arg);

#endif							/* ES_SERVER_LAUNCHER_H */
