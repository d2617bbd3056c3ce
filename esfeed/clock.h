/*
 * clock.h
 *		Time that only grows.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

extern int64_t clock_now(void);

#endif							/* CLOCK_H */
