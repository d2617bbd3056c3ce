/*
 * ack.h
 *		What becomes of deliveries.
 */
#ifndef ES_SUBSCRIPTION_ACK_H
#define ES_SUBSCRIPTION_ACK_H

#include "base/base.h"

extern void es_ack_init(void);
extern int64 es_ack_delay_after(int attempts);

#endif							/* ES_SUBSCRIPTION_ACK_H */
