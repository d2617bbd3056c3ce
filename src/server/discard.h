/*
 * discard.h
 *		What a session forgets before somebody else gets it.
 */
#ifndef ES_SERVER_DISCARD_H
#define ES_SERVER_DISCARD_H

#include "base/base.h"

extern void es_discard_init(void);

#endif							/* ES_SERVER_DISCARD_H */
