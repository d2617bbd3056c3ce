/*
 * retention.h
 *		Carrying out the rules on which events age out.
 */
#ifndef ES_LIFECYCLE_RETENTION_H
#define ES_LIFECYCLE_RETENTION_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "base/names.h"

/* A round: what is due when it begins.  Zeroed but for the first members. */
typedef struct EsRetentionRound
{
	bool		by_hand;		/* wait for others who carry rules out; try
								 * again at once what has failed */
	TimestampTz began;			/* by the clock */
	int			streams;		/* truncated by the last call */
	bool		barred;			/* the last call found somebody else at it */
	int			nfailed;		/* rules that have failed; they are not tried
								 * again in it */
	int			sqlerrcode;		/* of what one has failed with; 0: none has */
	char		category[ES_MAX_STREAM_NAME + 1];	/* whose rule that was,
													 * the first by name */
	char		failure[1024];	/* and what it says */
} EsRetentionRound;

extern bool es_retention_apply(EsRetentionRound *round);
extern void es_retention_report(EsRetentionRound *round, int elevel);

#endif							/* ES_LIFECYCLE_RETENTION_H */
