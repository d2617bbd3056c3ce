/*
 * earlyrelease.h
 *		Locks given back before the commit is on disk.
 */
#ifndef ES_LOG_EARLYRELEASE_H
#define ES_LOG_EARLYRELEASE_H

#include "base/base.h"

extern void es_earlyrelease_init(void);
extern void es_earlyrelease_begin(void);
extern void es_earlyrelease_end(void);
extern void es_earlyrelease_met_other(void);

#endif							/* ES_LOG_EARLYRELEASE_H */
