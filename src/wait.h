/*
 * wait.h
 *		Waiting until the settled position has moved on.
 */
#ifndef ES_WAIT_H
#define ES_WAIT_H

#include "settle.h"

extern int	es_max_wait;		/* GUC eventstore.max_wait, ms */

extern void es_wait_init(void);

#endif							/* ES_WAIT_H */
