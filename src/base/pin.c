/*
 * pin.c
 *		What is kept for as long as it is current, or somebody has it.
 *
 * Who uses something that an invalidation may make stale, while users' code runs,
 * pins it: it stays as it is until the memory context of its holder is reset or
 * deleted, as it is after an error, too.
 */
#include "base/pin.h"

#include "utils/memutils.h"

/* Undoes one es_pin_hold: its holder is gone. */
static void
release_pin(void *arg)
{
	EsPinned   *pinned = arg;

	if (--pinned->pins == 0 && !pinned->current)
		MemoryContextDelete(pinned->context);
}

/*
 * es_pin_prepare makes, before there is something to hold, what es_pin_hold needs:
 * that cannot fail.
 */
MemoryContextCallback *
es_pin_prepare(MemoryContext holder)
{
	return MemoryContextAlloc(holder, sizeof(MemoryContextCallback));
}

/* es_pin_hold keeps something until the holder's memory context is reset or deleted. */
void
es_pin_hold(EsPinned *pinned, MemoryContextCallback *callback, MemoryContext holder)
{
	callback->func = release_pin;
	callback->arg = pinned;
	MemoryContextRegisterResetCallback(holder, callback);
	pinned->pins++;
}

/* es_pin_outdate says that something is not current any more: it goes with its last pin. */
void
es_pin_outdate(EsPinned *pinned)
{
	pinned->current = false;
	if (pinned->pins == 0)
		MemoryContextDelete(pinned->context);
}
