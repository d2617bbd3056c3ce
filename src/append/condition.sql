/* ---- condition: appends that depend on what else was appended ---- */

CREATE FUNCTION @extschema@.es_append_if(events jsonb, after_position bigint, types text[] DEFAULT NULL, tags text[] DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_if(jsonb, bigint, text[], text[]) IS
	'appends like es_append_many, unless an event after after_position has one of the types and all the tags (VE001); returns the last position';

CREATE FUNCTION @extschema@.es_read_tagged(tags text[], types text[] DEFAULT NULL, after_position bigint DEFAULT 0,
		max_count bigint DEFAULT 1000) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_read_tagged(text[], text[], bigint, bigint) IS
	'events that carry all the tags, in order of position, up to where all are final';
