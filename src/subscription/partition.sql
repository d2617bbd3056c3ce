/* ---- partition: how far partitions are ---- */

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
	discarded int NOT NULL,
	retry_at timestamptz,
	lease_until timestamptz,
	kept_until timestamptz,
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
COMMENT ON COLUMN eventstore.subscription_partitions.discarded IS 'how many events in subscription_failures were parked, let go, and are still after the position';
COMMENT ON COLUMN eventstore.subscription_partitions.retry_at IS 'nothing is delivered before this time';
COMMENT ON COLUMN eventstore.subscription_partitions.kept_until IS 'set where deliveries and leases since are in the shared memory of the server; no lease goes past it';
COMMENT ON COLUMN eventstore.subscription_partitions.member IS 'who has the partition while the lease lasts; empty for the member without a name';
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_partitions', '');
