/* ---- subscription: what consumers inside the database follow, and how far they are ---- */

CREATE SEQUENCE eventstore.subscription_id_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE eventstore.subscription_id_seq IS 'subscription ids, in order of creation';

/* max_attempts NULL: nothing is ever parked. categories, types and query NULL: all. */
CREATE TABLE eventstore.subscriptions (
	subscription_id bigint NOT NULL,
	partitions int NOT NULL,
	max_attempts int,
	created_at timestamptz NOT NULL,
	name text COLLATE "C" NOT NULL,
	categories text[],
	types text[],
	query jsonb,
	system_id bigint NOT NULL,
	creator_oid oid NOT NULL,
	creator text COLLATE "C" NOT NULL,
	application text,
	CONSTRAINT subscriptions_by_id PRIMARY KEY (subscription_id),
	CONSTRAINT subscriptions_by_name UNIQUE (name)
);
COMMENT ON TABLE eventstore.subscriptions IS 'one row for each subscription';
COMMENT ON COLUMN eventstore.subscriptions.system_id IS 'the cluster that creator_oid is of; in others who has made it goes by the name';
COMMENT ON COLUMN eventstore.subscriptions.application IS 'the application_name of the session that has made it; NULL if it had none, and before 0.1.1';

SELECT pg_catalog.pg_extension_config_dump('eventstore.subscription_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.subscriptions', '');

CREATE FUNCTION eventstore.forget_subscriptions() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_subscription_forget';
COMMENT ON FUNCTION eventstore.forget_subscriptions() IS 'row trigger: rows that logical replication changes reach sessions that know the subscriptions';

CREATE TRIGGER forget_subscriptions AFTER UPDATE ON eventstore.subscriptions
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_subscriptions();
ALTER TABLE eventstore.subscriptions ENABLE ALWAYS TRIGGER forget_subscriptions;
