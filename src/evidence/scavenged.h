/*
 * scavenged.h
 *		What scavenging has removed of a store that is sealed.
 */
#ifndef ES_EVIDENCE_SCAVENGED_H
#define ES_EVIDENCE_SCAVENGED_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "table/columns.h"

/* An event that was removed. */
typedef struct EsScavenged
{
	int64		position;
	int64		stream_id;
	int64		version;
} EsScavenged;

extern const EsShape es_scavenged_shape;	/* of eventstore.scavenged */

extern void es_scavenged_note(EsScavenged *events, int count);
extern bool es_scavenged_any(Snapshot snapshot);
extern EsScavenged *es_scavenged_read(int64 first, int64 last, Snapshot snapshot, int *count);

#endif							/* ES_EVIDENCE_SCAVENGED_H */
