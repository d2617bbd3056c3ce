/*
 * metrics.h
 *		Numbers for Prometheus, in a file.
 */
#ifndef METRICS_H
#define METRICS_H

#include <stdbool.h>
#include <stdint.h>

extern void metrics_begin(const char *path, const char *feed);
extern void metrics_connected(bool connected);
extern void metrics_count(int64_t position);
extern void metrics_settle(uint64_t durable, int64_t low);
extern void metrics_show(void);

#endif							/* METRICS_H */
