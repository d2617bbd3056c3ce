/* ---- poll: what a subscription delivers ---- */

CREATE TYPE @extschema@.es_delivery AS (
	position bigint,
	stream text,
	version bigint,
	type text,
	type_version int,
	data jsonb,
	metadata jsonb,
	event_id uuid,
	recorded_at timestamptz,
	partition int,
	attempt int
);
COMMENT ON TYPE @extschema@.es_delivery IS 'an event as a subscription delivers it: its partition, and which attempt it is';

CREATE FUNCTION @extschema@.es_poll(subscription text, max_count int DEFAULT 100, wait interval DEFAULT '0',
		member text DEFAULT NULL, lease interval DEFAULT '30s') RETURNS SETOF @extschema@.es_delivery
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_poll(text, int, interval, text, interval) IS
	'what follows the last acknowledgement in the partitions that the member has, or gets, in order of position; the same again until acknowledged';

CREATE PROCEDURE @extschema@.es_poll_wait(subscription text, timeout interval, INOUT ready boolean DEFAULT NULL,
		member text DEFAULT NULL)
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE @extschema@.es_poll_wait(text, interval, boolean, text) IS
	'waits, without snapshot and transaction id, until es_poll has something for the member';

CREATE VIEW @extschema@.es_subscriptions AS
	SELECT s.name AS subscription,
		p.partition,
		p.position,
		CASE WHEN p.member OPERATOR(pg_catalog.=) '' THEN NULL ELSE p.member END AS member,
		p.lease_until,
		GREATEST(l.settled OPERATOR(pg_catalog.-) p.position, 0::pg_catalog.int8) AS lag,
		p.parked::pg_catalog.int8 AS parked
	FROM eventstore.subscriptions s
	JOIN eventstore.subscription_partitions p ON p.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
	CROSS JOIN (SELECT @extschema@.es_settled_position() AS settled OFFSET 0) l;
COMMENT ON VIEW @extschema@.es_subscriptions IS
	'subscriptions, a row for each partition: how far it is acknowledged, who has it until when, how many positions it is behind, how many events are parked';
