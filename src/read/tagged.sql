/* ---- tagged: reading by query, and by tags ---- */

CREATE FUNCTION @extschema@.es_read_query(query jsonb DEFAULT NULL, after_position bigint DEFAULT 0,
		max_count bigint DEFAULT 1000, backwards boolean DEFAULT false, to_position bigint DEFAULT NULL)
	RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read_query(jsonb, bigint, bigint, boolean, bigint) IS
	'events that match a query, an array of {"types"?, "tags"?, "last"?}, in order of position, or backwards, up to where all are final';

CREATE FUNCTION @extschema@.es_read_tagged(tags text[], types text[] DEFAULT NULL, after_position bigint DEFAULT 0,
		max_count bigint DEFAULT 1000) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read_tagged(text[], text[], bigint, bigint) IS
	'events that carry all the tags, in order of position, up to where all are final; short for es_read_query';
