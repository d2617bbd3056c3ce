/*
 * history.h
 *		Delivering history: events up to the head, by es_read_all.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "run.h"
#include "server.h"

extern Outcome history_deliver(Run *run);

#endif							/* HISTORY_H */
