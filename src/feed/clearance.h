/*
 * clearance.h
 *		What of a feed its consumer may read.
 */
#ifndef ES_FEED_CLEARANCE_H
#define ES_FEED_CLEARANCE_H

#include "base/base.h"

#include "base/names.h"
#include "feed/filter.h"

/* What the user of a decoding session may read; all of it lives as long as the session. */
typedef struct EsClearance
{
	const char *role;
	bool		all;
	EsNames		categories;		/* if it is not all */
} EsClearance;

extern void es_clearance_take(EsClearance *clearance);
extern void es_clearance_require(const EsClearance *clearance, const EsFeedKept *kept, const EsFeedFilter *filter);

#endif							/* ES_FEED_CLEARANCE_H */
