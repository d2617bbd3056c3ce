/*
 * sequence.h
 *		Sequences read where they are stored, and numbers taken off them in
 *		blocks.
 */
#ifndef ES_TABLE_SEQUENCE_H
#define ES_TABLE_SEQUENCE_H

#include "base/base.h"

#include "access/xlogdefs.h"

#include "base/objects.h"

extern int64 es_sequence_take(EsRelation *sequence, int64 n);
extern void es_sequence_raise(EsRelation *sequence, int64 number);
extern int64 es_sequence_read(EsRelation *sequence, XLogRecPtr *lsn);

#endif							/* ES_TABLE_SEQUENCE_H */
