/*
 * holders.h
 *		Who may still fill holes, and where their positions begin.
 */
#ifndef ES_LOG_HOLDERS_H
#define ES_LOG_HOLDERS_H

#include "base/base.h"

#include "storage/lock.h"

/* A transaction that holds the sequence, in progress or prepared. */
typedef struct EsHolder
{
	VirtualTransactionId id;
	int64		below;			/* its positions are all above this one */
	bool		exact;			/* more will not become known */
	TransactionId prepared;		/* its xid, if below is to be searched for */
} EsHolder;

extern EsHolder *es_holders_look(Oid sequence, int *count);
extern int64 es_holders_find_lowest(EsHolder *holders, int count, int64 settled, bool *known);
extern void es_holders_note(int64 upto, const EsHolder *holders, int count);
extern int64 es_holders_noted_upto(void);
extern bool es_holders_prepared_first(void);
extern void es_holders_forget(void);

#endif							/* ES_LOG_HOLDERS_H */
