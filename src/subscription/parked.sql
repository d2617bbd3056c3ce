/* ---- parked: events that were given up on ---- */

CREATE FUNCTION @extschema@.es_parked(subscription text)
		RETURNS TABLE("position" bigint, partition int, attempts int, reason text, parked_at timestamptz,
			stream text, version bigint, type text)
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_parked(text) IS 'the events of a subscription that were given up on';

CREATE FUNCTION @extschema@.es_replay_parked(subscription text, "position" bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_replay_parked(text, bigint) IS
	'has parked events delivered again, one or all (NULL), and says how many';

CREATE FUNCTION @extschema@.es_discard_parked(subscription text, "position" bigint) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_discard_parked(text, bigint) IS
	'lets go of a parked event, which is not delivered any more';
