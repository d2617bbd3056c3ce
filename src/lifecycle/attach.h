/*
 * attach.h
 *		Taking a table into the log again.
 */
#ifndef ES_LIFECYCLE_ATTACH_H
#define ES_LIFECYCLE_ATTACH_H

#include "base/base.h"

#include "utils/relcache.h"

#include "lifecycle/archived.h"

/* A table that is to become a segment again. */
typedef struct EsAttach
{
	int64		segment;
	Oid			relid;
	EsArchived	known;			/* of the segment */
	TransactionId writer;		/* whose rows all snapshots see by now;
								 * invalid: none of late */
	int64		events;			/* found in it */
} EsAttach;

extern void es_attach_check_shape(Relation rel, int64 segment);
extern void es_attach_prepare(EsAttach *attach);
extern void es_attach_enter_log(const EsAttach *attach);

#endif							/* ES_LIFECYCLE_ATTACH_H */
