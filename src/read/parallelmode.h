/*
 * parallelmode.h
 *		Whether the statement that is planned may be executed in parallel mode.
 */
#ifndef ES_READ_PARALLELMODE_H
#define ES_READ_PARALLELMODE_H

#include "base/base.h"

#include "nodes/parsenodes.h"

/* Tells whether an entry of FROM is one call, of a function, that is left out. */
typedef bool (*EsExemption) (const RangeTblEntry *entry);

extern void es_parallelmode_init(EsExemption exemption);
extern bool es_parallelmode_is_allowed(void);
extern void es_parallelmode_forbid(void);

#endif							/* ES_READ_PARALLELMODE_H */
