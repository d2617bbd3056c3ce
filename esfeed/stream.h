/*
 * stream.h
 *		Delivering what comes: the replication protocol.
 */
#ifndef STREAM_H
#define STREAM_H

#include "run.h"
#include "server.h"

extern Outcome stream_deliver(Run *run);

#endif							/* STREAM_H */
