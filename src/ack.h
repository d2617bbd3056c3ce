/*
 * ack.h
 *		What becomes of deliveries.
 */
#ifndef ES_ACK_H
#define ES_ACK_H

#include "base.h"

extern void es_ack_init(void);

#endif							/* ES_ACK_H */
