/*
 * tenure.h
 *		Leases on partitions of subscriptions, and how far these are delivered, between
 *		two writes of their rows.
 */
#ifndef ES_SHARED_TENURE_H
#define ES_SHARED_TENURE_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* A lease, as a delivery has left it. */
typedef struct EsTenure
{
	int64		subscription;
	TimestampTz kept_until;		/* as the row has it whose lease this is */
	TimestampTz lease_until;
	int64		delivered_upto;
	int64		scanned_upto;
	int			partition;
	int			delivered;
	Oid			table;			/* of the partitions' rows */
	Oid			database;		/* filled in here */
} EsTenure;

extern void es_tenure_init(void);
extern bool es_tenure_reserve(const EsTenure *tenure);
extern void es_tenure_keep(const EsTenure *tenure);
extern void es_tenure_forget(const EsTenure *tenure);
extern bool es_tenure_find(EsTenure *tenure);
extern bool es_tenure_take_pending(EsTenure *tenure);
extern void es_tenure_forget_all(Oid database);

#endif							/* ES_SHARED_TENURE_H */
