/*
 * lag.h
 *		How far consumers are behind.
 */
#ifndef ES_READ_LAG_H
#define ES_READ_LAG_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "base/event.h"
#include "base/names.h"
#include "json/match.h"

/* How many looks at events one statement may take. */
#define ES_LAG_LOOKS	INT64CONST(1000000)
extern int64 es_lag_looks;

/* What a consumer has not taken in yet. */
typedef struct EsLag
{
	int64		after;			/* it has all up to here */
	int64		last;			/* that was given out */
	EsNames		categories;		/* that it wants */
	EsNames		types;
	const EsQuery *query;		/* or NULL */
	bool		(*wants) (const EsEvent *event, void *arg); /* of these; NULL: all */
	void	   *arg;
} EsLag;

extern bool es_lag_find_oldest(const EsLag *lag, int64 *looks, TimestampTz *recorded_at);
extern Datum es_lag_age(TimestampTz recorded_at);

#endif							/* ES_READ_LAG_H */
