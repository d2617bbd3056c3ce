/*
 * walmark.h
 *		Which positions belong to which part of the WAL, roughly.
 */
#ifndef ES_LOG_WALMARK_H
#define ES_LOG_WALMARK_H

#include "base/base.h"

#include "access/xlogdefs.h"

#include "table/columns.h"

/* Up to this position everything was committed before the WAL came here. */
typedef struct EsWalMark
{
	XLogRecPtr	lsn;
	int64		position;
} EsWalMark;

extern const EsShape es_walmark_shape;

extern void es_walmark_add(XLogRecPtr lsn, int64 position);
extern int64 es_walmark_position(XLogRecPtr lsn, EsWalMark last);

#endif							/* ES_LOG_WALMARK_H */
