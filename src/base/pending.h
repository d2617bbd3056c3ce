/*
 * pending.h
 *		What a statement has taken but not yet appended.
 */
#ifndef ES_BASE_PENDING_H
#define ES_BASE_PENDING_H

#include "base/base.h"

/* Appends what is pending.  Set by the part that keeps it. */
extern void (*es_pending_flush_hook) (void);

/* es_pending_flush must be called before anything looks at the log. */
static inline void
es_pending_flush(void)
{
	if (es_pending_flush_hook)
		es_pending_flush_hook();
}

#endif							/* ES_BASE_PENDING_H */
