/* ---- failure: events that a consumer could not deal with ---- */

/*
 * An event that is to be delivered again, or is parked. delivered says that it has
 * been, since it was put here: then an acknowledgement takes the row away. parked_at is
 * infinity where somebody has let a parked event go that the partition has not passed
 * yet.
 */
CREATE TABLE eventstore.subscription_failures (
	subscription_id bigint NOT NULL,
	position bigint NOT NULL,
	parked_at timestamptz,
	partition int NOT NULL,
	attempts int NOT NULL,
	delivered boolean NOT NULL,
	reason text,
	CONSTRAINT subscription_failures_by_key PRIMARY KEY (subscription_id, partition, position)
);
COMMENT ON TABLE eventstore.subscription_failures IS 'events of subscriptions that are to be delivered again (parked_at is NULL), are parked, or are not to be delivered any more (infinity)';
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_failures', '');
