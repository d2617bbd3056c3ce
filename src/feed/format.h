/*
 * format.h
 *		How events and the frames around them look on a feed.
 */
#ifndef ES_FEED_FORMAT_H
#define ES_FEED_FORMAT_H

#include "base/base.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#include "base/event.h"
#include "feed/option.h"

/* What is told about a transaction; members that are zero are left out. */
typedef struct EsFeedFrame
{
	const char *name;
	TransactionId xid;
	TransactionId subxid;
	const char *gid;
	const char *moment;			/* "commit", "prepare", …: of lsn and time */
	XLogRecPtr	lsn;
	TimestampTz time;
} EsFeedFrame;

extern void es_feedformat_check(const EsEvent *event, EsFeedFormat format);
extern char *es_feedformat_source(MemoryContext context);
extern void es_feedformat_json(StringInfo out, const EsEvent *event, TransactionId xid);
extern void es_feedformat_cloudevent(StringInfo out, const EsEvent *event,
									 const char *source, TransactionId xid);
extern void es_feedformat_frame(StringInfo out, const EsFeedFrame *frame);

#endif							/* ES_FEED_FORMAT_H */
