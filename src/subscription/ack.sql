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

CREATE FUNCTION @extschema@.es_rewind(subscription text, after_position bigint) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_rewind(text, bigint) IS
	'lets a subscription begin anew after a position (NULL: from now on); members lose what they hold';
