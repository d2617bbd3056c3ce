/*
 * renew.h
 *		Events given out: plain, and in their newest form.
 */
#ifndef ES_TYPE_RENEW_H
#define ES_TYPE_RENEW_H

#include "base/base.h"

#include "nodes/execnodes.h"

#include "base/event.h"
#include "secret/protection.h"
#include "type/handler.h"
#include "type/upcast.h"

/* What gives events out, in a memory context of its holder. */
typedef struct EsRenewer
{
	const EsUpcasters *upcasters;	/* NULL: events stay as they are stored */
	EsCalls    *calls;
	MemoryContext holder;
	MemoryContext context;		/* of one event; NULL: not made yet */
	ReturnSetInfo *result;
} EsRenewer;

extern void es_renew_init(void);
extern void es_renew_begin(EsRenewer *renewer, ReturnSetInfo *result);
extern void es_renew_event(const EsRenewer *renewer, EsEvent *event);
extern void es_renew_return_event(const EsEvent *event, void *arg);

/* es_renew_is_old tells whether es_renew_event may change an event. */
static inline bool
es_renew_is_old(const EsRenewer *renewer, const EsEvent *event)
{
	return (unlikely(renewer->upcasters != NULL) && es_upcast_wants(renewer->upcasters, event)) ||
		(unlikely(es_protection_any()) && es_protection_of(DatumGetTextPP(event->stream)) != NULL);
}

#endif							/* ES_TYPE_RENEW_H */
