/*
 * expect.h
 *		The streams of an append as they are found, held against what it expects.
 */
#ifndef ES_APPEND_EXPECT_H
#define ES_APPEND_EXPECT_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "append/request.h"
#include "stream/stream.h"
#include "stream/tipcache.h"
#include "table/table.h"

/* What is known of a stream that a call is about. */
typedef struct EsFoundStream
{
	EsTarget   *asked;
	EsStream	stream;
	bool		exists;
	EsTip		tip;			/* blocks that are written included */
	EsKnownTip *known;			/* where it was found, if it is a tip of this
								 * transaction */
	bool		written;		/* some event of this call is */
} EsFoundStream;

/* What is found of the streams of a call. */
typedef struct EsExpect
{
	EsAppend   *append;
	EsFoundStream *streams;		/* as append->targets */
	EsTable    *open;			/* the segment that is open; or NULL */
	bool		has_key;		/* has waited for the master key */

	TimestampTz earliest;		/* see earliest_time; DT_NOEND: not asked */
	TransactionId wait_for;
	const text *wait_stream;
	bool		needs_key;		/* waits for the master key instead, to
								 * compare with what is stored */
	List	   *refusals;		/* of EsRefusal, in the block's memory */
} EsExpect;

extern bool es_expect_check(EsExpect *found);

#endif							/* ES_APPEND_EXPECT_H */
