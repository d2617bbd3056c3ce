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

CREATE PROCEDURE @extschema@.es_poll_wait(subscription text, timeout interval, INOUT ready boolean DEFAULT NULL)
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE @extschema@.es_poll_wait(text, interval, boolean) IS
	'waits, without snapshot and transaction id, until es_poll has news for the member that this session polled for last';
