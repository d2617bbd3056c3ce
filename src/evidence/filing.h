/*
 * filing.h
 *		Whether an event is filed where readers of its stream and its category find it.
 */
#ifndef ES_EVIDENCE_FILING_H
#define ES_EVIDENCE_FILING_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "base/event.h"

#define ES_FILING_STREAMS	8192	/* that are remembered */

/* What is known of streams, and of the run that the last event was of. */
typedef struct EsFiling
{
	struct
	{
		int64		id;
		uint64		hash;		/* of its name; 0: nothing is known */
	}			streams[ES_FILING_STREAMS];
	uint64		seed;
	int64		segment;		/* the one that is gone over */
	int32		run_key;		/* category_key of the run, */
	int64		run_end;		/* and its last position; 0: none is known */
} EsFiling;

extern EsFiling *es_filing_begin(void);
extern void es_filing_begin_segment(EsFiling *filing, int64 segment);
extern bool es_filing_is_right(EsFiling *filing, const EsEvent *event, Snapshot *snapshot);

#endif							/* ES_EVIDENCE_FILING_H */
