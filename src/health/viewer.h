/*
 * viewer.h
 *		Who may see how the store is doing, and how long a look may wait.
 */
#ifndef ES_HEALTH_VIEWER_H
#define ES_HEALTH_VIEWER_H

#include "base/base.h"

extern bool es_viewer_may(void);
extern void es_viewer_require(const char *function);
extern void es_viewer_limit_waits(void);

#endif							/* ES_HEALTH_VIEWER_H */
