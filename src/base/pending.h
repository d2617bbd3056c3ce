/*
 * pending.h
 *		What a statement has taken but not yet appended.
 */
#ifndef ES_BASE_PENDING_H
#define ES_BASE_PENDING_H

#include "base/base.h"

/* Appends what is pending.  Set by the part that keeps it. */
extern void (*es_base_flush_hook) (void);

/* es_base_flush_pending must be called before anything looks at the log. */
static inline void
es_base_flush_pending(void)
{
	if (es_base_flush_hook)
		es_base_flush_hook();
}

#endif							/* ES_BASE_PENDING_H */
