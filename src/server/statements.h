/*
 * statements.h
 *		What our shared state has to know of statements that are not ours.
 */
#ifndef ES_SERVER_STATEMENTS_H
#define ES_SERVER_STATEMENTS_H

#include "base/base.h"

extern void es_statements_init(void);

#endif							/* ES_SERVER_STATEMENTS_H */
