/*
 * lsn.h
 *		LSNs as text.
 */
#ifndef LSN_H
#define LSN_H

#include <stdbool.h>
#include <stdint.h>

/* For printing one. */
#define LSN_FORMAT "%X/%X"
#define LSN_PARTS(lsn) (unsigned int) ((lsn) >> 32), (unsigned int) (lsn)

extern bool lsn_parse(const char *text, uint64_t *lsn);

#endif							/* LSN_H */
