/*
 * attach.h
 *		Finding the feed, or making it, and seeing that it is the known one.
 */
#ifndef ATTACH_H
#define ATTACH_H

#include "run.h"
#include "server.h"

extern Outcome attach_to_feed(Run *run);
extern Outcome attach_drop_leftover(Run *run);

#endif							/* ATTACH_H */
