/*
 * poll.h
 *		What a subscription delivers.
 */
#ifndef ES_SUBSCRIPTION_POLL_H
#define ES_SUBSCRIPTION_POLL_H

#include "base/base.h"

#endif							/* ES_SUBSCRIPTION_POLL_H */
