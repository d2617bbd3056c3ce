/*
 * pin.h
 *		What is kept for as long as it is current, or somebody has it.
 */
#ifndef ES_BASE_PIN_H
#define ES_BASE_PIN_H

#include "base/base.h"

/* Something read-only in a memory context of its own, which it goes with. */
typedef struct EsPinned
{
	MemoryContext context;
	int			pins;
	bool		current;		/* those who come will be given it, too */
} EsPinned;

extern MemoryContextCallback *es_pin_prepare(MemoryContext holder);
extern void es_pin_hold(EsPinned *pinned, MemoryContextCallback *callback, MemoryContext holder);
extern void es_pin_outdate(EsPinned *pinned);

#endif							/* ES_BASE_PIN_H */
