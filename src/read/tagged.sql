/* ---- tagged: reading by tags ---- */

CREATE FUNCTION @extschema@.es_read_tagged(tags text[], types text[] DEFAULT NULL, after_position bigint DEFAULT 0,
		max_count bigint DEFAULT 1000) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read_tagged(text[], text[], bigint, bigint) IS
	'events that carry all the tags, in order of position, up to where all are final';
