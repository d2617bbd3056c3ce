/*
 * pending.c
 *		What a statement has taken but not yet appended.
 *
 * Rows put into es_events are kept and appended many at a time (append/bulk.c), which
 * stands far above those who look at the log and must not see it without them.
 */
#include "base/pending.h"

void		(*es_pending_flush_hook) (void) = NULL;
