/*
 * loaded.h
 *		Which file the library was loaded from.
 */
#ifndef ES_BASE_LOADED_H
#define ES_BASE_LOADED_H

#include "base/base.h"

extern void es_loaded_init(void);
extern bool es_loaded_is_replaced(void);

#endif							/* ES_BASE_LOADED_H */
