/* ---- category: all streams of a category folded, by several processes ---- */

CREATE FUNCTION @extschema@.es_replay_category(
	category text,
	reducer text DEFAULT NULL,
	as_of timestamptz DEFAULT NULL
) RETURNS SETOF @extschema@.es_state
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_replay_category(text, text, timestamptz) IS 'the state of each stream of a category, in no particular order';

ALTER FUNCTION @extschema@.es_replay_category(text, text, timestamptz) SUPPORT eventstore.read_support;
