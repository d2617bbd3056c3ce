/*
 * viewer.h
 *		Who may see how the store is doing.
 */
#ifndef ES_HEALTH_VIEWER_H
#define ES_HEALTH_VIEWER_H

#include "base/base.h"

extern bool es_viewer_may(void);
extern void es_viewer_require(const char *function);

#endif							/* ES_HEALTH_VIEWER_H */
