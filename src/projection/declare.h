/*
 * declare.h
 *		Making and dropping projections.
 */
#ifndef ES_PROJECTION_DECLARE_H
#define ES_PROJECTION_DECLARE_H

#include "base/base.h"

extern void es_declare_init(void);

#endif							/* ES_PROJECTION_DECLARE_H */
