/*
 * declare.h
 *		Making and dropping projections.
 */
#ifndef ES_DECLARE_H
#define ES_DECLARE_H

#include "base.h"

extern void es_declare_init(void);

#endif							/* ES_DECLARE_H */
