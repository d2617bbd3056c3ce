/* ---- ack: what becomes of deliveries ---- */

CREATE FUNCTION @extschema@.es_ack(subscription text, partition int, "position" bigint, member text DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_ack(text, int, bigint, text) IS
	'acknowledges all events of a partition up to a position, in the consumer''s own transaction';

CREATE FUNCTION @extschema@.es_nack(subscription text, partition int, "position" bigint, reason text,
		member text DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_nack(text, int, bigint, text, text) IS
	'refuses an event: it is delivered again after a while, or parked after max_attempts';

CREATE FUNCTION @extschema@.es_parked(subscription text)
		RETURNS TABLE("position" bigint, partition int, attempts int, reason text, parked_at timestamptz)
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_parked(text) IS 'the events of a subscription that were given up on';

CREATE FUNCTION @extschema@.es_replay_parked(subscription text, "position" bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_replay_parked(text, bigint) IS
	'has parked events delivered again, one or all (NULL), and says how many';

CREATE FUNCTION @extschema@.es_rewind(subscription text, after_position bigint) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_rewind(text, bigint) IS
	'lets a subscription begin anew after a position (NULL: from now on); members lose what they hold';
