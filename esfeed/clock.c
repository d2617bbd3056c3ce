/*
 * clock.c
 *		Time that only grows.
 */
#include "clock.h"

#include <time.h>

/* clock_now gives milliseconds that only grow, whatever the system's clock is set to. */
int64_t
clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
