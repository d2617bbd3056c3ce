/* ---- subscription: what consumers inside the database follow, and how far they are ---- */

CREATE SEQUENCE eventstore.subscription_id_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE eventstore.subscription_id_seq IS 'subscription ids, in order of creation';

/* max_attempts NULL: nothing is ever parked. categories and types NULL: all. */
CREATE TABLE eventstore.subscriptions (
	subscription_id bigint NOT NULL,
	partitions int NOT NULL,
	max_attempts int,
	created_at timestamptz NOT NULL,
	name text COLLATE "C" NOT NULL,
	categories text[],
	types text[],
	CONSTRAINT subscriptions_by_id PRIMARY KEY (subscription_id),
	CONSTRAINT subscriptions_by_name UNIQUE (name)
);
COMMENT ON TABLE eventstore.subscriptions IS 'one row for each subscription';

/*
 * How far each partition is. The columns that change are in no index, and pages
 * have room, so updates are HOT: a subscription stays one row a partition, whatever
 * goes through it.
 */
CREATE TABLE eventstore.subscription_partitions (
	subscription_id bigint NOT NULL,
	position bigint NOT NULL,
	delivered_upto bigint NOT NULL,
	scanned_upto bigint NOT NULL,
	lapsed_upto bigint NOT NULL,
	partition int NOT NULL,
	delivered int NOT NULL,
	lapses int NOT NULL,
	pending int NOT NULL,
	parked int NOT NULL,
	retry_at timestamptz,
	lease_until timestamptz,
	member text COLLATE "C",
	CONSTRAINT subscription_partitions_by_key PRIMARY KEY (subscription_id, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE eventstore.subscription_partitions IS 'how far each partition of a subscription is, and which member has it';
COMMENT ON COLUMN eventstore.subscription_partitions.position IS 'acknowledged up to here, or passed over by the filter';
COMMENT ON COLUMN eventstore.subscription_partitions.delivered_upto IS 'last event delivered to the member';
COMMENT ON COLUMN eventstore.subscription_partitions.scanned_upto IS 'up to here all that there is has been delivered to the member';
COMMENT ON COLUMN eventstore.subscription_partitions.delivered IS 'how many events the last delivery had';
COMMENT ON COLUMN eventstore.subscription_partitions.lapses IS 'how many leases have ended with deliveries open since the last acknowledgement';
COMMENT ON COLUMN eventstore.subscription_partitions.lapsed_upto IS 'what was open as the last of these ended was up to here';
COMMENT ON COLUMN eventstore.subscription_partitions.pending IS 'how many events in subscription_failures are to be delivered again';
COMMENT ON COLUMN eventstore.subscription_partitions.parked IS 'how many events in subscription_failures are parked';
COMMENT ON COLUMN eventstore.subscription_partitions.retry_at IS 'nothing is delivered before this time';
COMMENT ON COLUMN eventstore.subscription_partitions.member IS 'who has the partition while the lease lasts; empty for the member without a name';

SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_partitions', '');
CALL eventstore.install_guards('eventstore.subscriptions');
CALL eventstore.install_guards('eventstore.subscription_partitions');

CREATE FUNCTION @extschema@.es_subscribe(subscription text, after_position bigint DEFAULT 0, categories text[] DEFAULT NULL,
		types text[] DEFAULT NULL, partitions int DEFAULT 1, max_attempts int DEFAULT 5) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_subscribe(text, bigint, text[], text[], int, int) IS
	'makes a subscription to what follows a position (NULL: from now on), of some categories and types or of all (NULL)';

CREATE FUNCTION @extschema@.es_unsubscribe(subscription text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_unsubscribe(text) IS 'drops a subscription with all that is known of it';
