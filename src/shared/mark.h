/*
 * mark.h
 *		What sessions have found to be settled, for all sessions.
 */
#ifndef ES_SHARED_MARK_H
#define ES_SHARED_MARK_H

#include "base/base.h"

extern void es_sharedmark_init(void);
extern int64 es_sharedmark_get(Oid sequence);
extern void es_sharedmark_raise(Oid sequence, int64 position);
extern void es_sharedmark_set_loading(Oid sequence, bool loading);
extern bool es_sharedmark_is_loading(Oid sequence);
extern void es_sharedmark_forget(Oid database);

#endif							/* ES_SHARED_MARK_H */
