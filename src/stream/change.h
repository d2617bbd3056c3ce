/*
 * change.h
 *		Changing the row of a stream by itself, without an append.
 */
#ifndef ES_STREAM_CHANGE_H
#define ES_STREAM_CHANGE_H

#include "base/base.h"

#include "stream/lock.h"
#include "stream/stream.h"
#include "stream/tipcache.h"

typedef enum EsChangeState
{
	ES_CHANGE_MISSING,			/* there is no such stream */
	ES_CHANGE_BUSY,				/* another transaction has to end first */
	ES_CHANGE_OPEN				/* it may be changed, until the end */
} EsChangeState;

/* A stream that may be changed: what it is now, own appends included. */
typedef struct EsChange
{
	EsStream	stream;
	EsTip		tip;
	EsKnownTip *known;			/* where this transaction keeps both; or NULL */
	uint64		tips;			/* the generation of tips that it is of */
	EsStreamLocks locks;
} EsChange;

extern EsChangeState es_change_begin(EsChange *change, const text *name, bool wait);
extern void es_change_write(EsChange *change);
extern void es_change_end(EsChange *change);

#endif							/* ES_STREAM_CHANGE_H */
