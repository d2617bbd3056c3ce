/*
 * retention.h
 *		Carrying out the rules on which events age out.
 */
#ifndef ES_LIFECYCLE_RETENTION_H
#define ES_LIFECYCLE_RETENTION_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* A round: what is due when it begins.  Zeroed but for the first members. */
typedef struct EsRetentionRound
{
	bool		by_hand;		/* wait for others who carry rules out; try
								 * again at once what has failed */
	TimestampTz began;			/* by the clock */
	int			streams;		/* truncated by the last call */
	bool		barred;			/* the last call found somebody else at it */
} EsRetentionRound;

extern bool es_retention_apply(EsRetentionRound *round);

#endif							/* ES_LIFECYCLE_RETENTION_H */
