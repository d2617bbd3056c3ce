/*
 * scavenge.h
 *		Removing what is hidden, and giving back its room.
 */
#ifndef ES_LIFECYCLE_SCAVENGE_H
#define ES_LIFECYCLE_SCAVENGE_H

#include "base/base.h"

extern void es_scavenge_init(void);
extern bool es_scavenge_start(void);
extern PGDLLEXPORT void es_scavenge_main(Datum main_arg);

#endif							/* ES_LIFECYCLE_SCAVENGE_H */
