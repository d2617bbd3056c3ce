/*
 * release.h
 *		Versions: that of the library, and those that scripts need.
 */
#ifndef ES_BASE_RELEASE_H
#define ES_BASE_RELEASE_H

#include "base/base.h"

extern void es_release_report(void);

#endif							/* ES_BASE_RELEASE_H */
