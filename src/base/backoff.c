/*
 * backoff.c
 *		How long to wait before what has failed is tried again.
 */
#include "base/backoff.h"

#include "utils/guc.h"

#define MOST_DELAY_MS	(5 * 60 * 1000)

static int	retry_delay = 1000; /* GUC eventstore.retry_delay, ms */

/* Defines the GUC; called once, from _PG_init. */
void
es_backoff_init(void)
{
	DefineCustomIntVariable("eventstore.retry_delay",
							"How long a partition waits after an event was refused for the first time.",
							"Each further time it waits twice as long, at most five minutes.",
							&retry_delay, 1000, 1, MOST_DELAY_MS,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* es_backoff_delay tells how long to wait after so many failed attempts, in microseconds. */
int64
es_backoff_delay(int attempts)
{
	int64		delay = retry_delay;

	while (--attempts > 0 && delay < MOST_DELAY_MS)
		delay *= 2;
	return Min(delay, MOST_DELAY_MS) * 1000;
}

/*
 * es_backoff_is_pending tells whether what has failed waits until a time that is yet to
 * come.  One that is further away than any wait was set by a clock that has been set
 * back since, and does not count.
 */
bool
es_backoff_is_pending(TimestampTz until, TimestampTz now)
{
	return until > now && until - now <= MOST_DELAY_MS * INT64CONST(1000);
}
