/*
 * poll.h
 *		What a subscription delivers.
 */
#ifndef ES_POLL_H
#define ES_POLL_H

#include "base.h"

#endif							/* ES_POLL_H */
