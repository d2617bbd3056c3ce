/*
 * sight.h
 *		What is seen of views by those who may not read everything.
 */
#ifndef ES_RIGHTS_SIGHT_H
#define ES_RIGHTS_SIGHT_H

#include "base/base.h"

extern void es_sight_init(void);

#endif							/* ES_RIGHTS_SIGHT_H */
