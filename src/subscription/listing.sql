/* ---- listing: what there is to see of subscriptions ---- */

/* STABLE for the same reason as eventstore.lag_time. */
CREATE FUNCTION eventstore.partition_lag_time(subscription_id bigint, partition int, partitions int, "position" bigint, last bigint,
		failures int, categories text[], types text[], query jsonb) RETURNS interval
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_partition_lag_time';
COMMENT ON FUNCTION eventstore.partition_lag_time(bigint, int, int, bigint, bigint, int, text[], text[], jsonb) IS
	'the age of the oldest event that a partition of a subscription has not dealt with; NULL if there is none; behind es_subscriptions';

CREATE FUNCTION eventstore.partition_lease_until(subscription_id bigint, partition int, lease_until timestamptz, kept_until timestamptz)
	RETURNS timestamptz
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_partition_lease_until';
COMMENT ON FUNCTION eventstore.partition_lease_until(bigint, int, timestamptz, timestamptz) IS
	'until when a partition of a subscription is its member''s, given what its row says; behind es_subscriptions';

CREATE VIEW @extschema@.es_subscriptions WITH (security_barrier) AS
	WITH ends AS MATERIALIZED (SELECT e.last FROM eventstore.log_ends() e)
	SELECT s.name AS subscription,
		p.partition,
		p.position,
		CASE WHEN p.member OPERATOR(pg_catalog.=) '' THEN NULL ELSE p.member END AS member,
		eventstore.partition_lease_until(p.subscription_id, p.partition, p.lease_until, p.kept_until) AS lease_until,
		GREATEST(e.last OPERATOR(pg_catalog.-) p.position, 0::pg_catalog.int8) AS lag,
		p.parked::pg_catalog.int8 AS parked,
		s.categories,
		s.types,
		s.max_attempts,
		eventstore.partition_lag_time(s.subscription_id, p.partition, s.partitions, p.position, e.last,
			p.pending OPERATOR(pg_catalog.+) p.parked OPERATOR(pg_catalog.+) p.discarded, s.categories, s.types, s.query) AS lag_time,
		s.query,
		eventstore.role_name(s.system_id, s.creator_oid, s.creator) AS creator,
		s.created_at,
		s.application
	FROM eventstore.subscriptions s
	JOIN eventstore.subscription_partitions p ON p.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
	CROSS JOIN ends e
	WHERE eventstore.may_see_all(s.categories);
COMMENT ON VIEW @extschema@.es_subscriptions IS
	'subscriptions, a row for each partition: how far it is acknowledged, who has it until when, how far it is behind, how many events are parked, what it is of, who has made it, when, by which application; for who has read or admin on that';
