/* ---- read ---- */

CREATE FUNCTION @extschema@.es_read(stream text, from_version bigint DEFAULT NULL, max_count bigint DEFAULT NULL,
		backwards boolean DEFAULT false) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read(text, bigint, bigint, boolean) IS
	'events of a stream in order of version; from_version NULL: from the first, or backwards from the last';
