/*
 * utility.h
 *		What our shared state has to know of statements that are not ours.
 */
#ifndef ES_UTILITY_H
#define ES_UTILITY_H

#include "base.h"

extern void es_utility_init(void);

#endif							/* ES_UTILITY_H */
