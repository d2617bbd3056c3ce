/*
 * subscriber.h
 *		Whether the store is kept up to date by logical replication.
 */
#ifndef ES_LOG_SUBSCRIBER_H
#define ES_LOG_SUBSCRIBER_H

#include "base/base.h"

#include "base/objects.h"

/* What was found last; see es_subscriber_is. */
typedef struct EsSubscriber
{
	bool		known;			/* no invalidation came since */
	bool		exists;			/* some relation of the store is in one */
	bool		copied;			/* all of them have been copied */
	bool		complete;		/* by one subscription */
	Oid			schema;			/* of which store */
	uint64		changes;		/* how often it was looked up */
} EsSubscriber;

extern EsSubscriber es_subscriber_state;

extern void es_subscriber_init(void);
extern void es_subscriber_look(void);
extern bool es_subscriber_has_all(void);
extern void es_subscriber_prevent_write(const char *command);
extern void es_subscriber_begin_change(EsRelation *definitions, const char *command);
extern void es_subscriber_refuse_part(void);

/*
 * es_subscriber_is tells whether some relation of the store is in a subscription,
 * be it disabled.
 */
static inline bool
es_subscriber_is(void)
{
	if (unlikely(!es_subscriber_state.known || es_subscriber_state.schema != es_base_store()->schema))
		es_subscriber_look();
	return es_subscriber_state.exists;
}

#endif							/* ES_LOG_SUBSCRIBER_H */
