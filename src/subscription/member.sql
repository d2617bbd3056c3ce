/* ---- member: who consumes a subscription ---- */

/* Kept up by polls. As in subscription_partitions, updates are HOT. */
CREATE TABLE eventstore.subscription_members (
	subscription_id bigint NOT NULL,
	alive_until timestamptz NOT NULL,
	member text COLLATE "C" NOT NULL,
	CONSTRAINT subscription_members_by_key PRIMARY KEY (subscription_id, member)
) WITH (fillfactor = 50);
COMMENT ON TABLE eventstore.subscription_members IS 'who polls a subscription of more than one partition; polls keep it up';
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_members', '');
