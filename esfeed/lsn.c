/*
 * lsn.c
 *		LSNs as text.
 */
#include "lsn.h"

#include <stdio.h>

/* lsn_parse reads one; false if the text is none. */
bool
lsn_parse(const char *text, uint64_t *lsn)
{
	unsigned int high;
	unsigned int low;

	if (sscanf(text, "%X/%X", &high, &low) != 2)
		return false;
	*lsn = (uint64_t) high << 32 | low;
	return true;
}
