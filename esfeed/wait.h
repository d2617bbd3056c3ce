/*
 * wait.h
 *		The signals that end the program, and waiting for them, for descriptors
 *		and for the time.
 */
#ifndef WAIT_H
#define WAIT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/* How many descriptors one wait may be for, besides the signals. */
#define WAIT_MAX 8

/* Descriptors to wait for, filled by those who have some. */
typedef struct WaitSet
{
	struct pollfd fds[WAIT_MAX + 1];
	int			count;
	int			timeout;		/* milliseconds; < 0: none */
} WaitSet;

extern void wait_init(void);
extern bool wait_stopped(void);

extern void wait_begin(WaitSet *set, int timeout);
extern void wait_add(WaitSet *set, int fd, short events);
extern void wait_at_most(WaitSet *set, int64_t timeout);
extern void wait_now(WaitSet *set);
extern void wait_pause(int timeout);

#endif							/* WAIT_H */
