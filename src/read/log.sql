/* ---- log: events in order of position ---- */

CREATE FUNCTION @extschema@.es_read_all(after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000,
		categories text[] DEFAULT NULL, types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL,
		to_position bigint DEFAULT NULL, backwards boolean DEFAULT false) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read_all(bigint, bigint, text[], text[], text, bigint, boolean) IS
	'events in order of position, or backwards, up to where all are final; to follow the log, ask again after the last position returned';

CREATE FUNCTION @extschema@.es_read_category(category text, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000,
		types text[] DEFAULT NULL, to_position bigint DEFAULT NULL, backwards boolean DEFAULT false)
	RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read_category(text, bigint, bigint, text[], bigint, boolean) IS
	'events of the streams of one category in order of position, or backwards, up to where all are final';
