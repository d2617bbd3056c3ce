/* ---- condition: appends that depend on what else was appended ---- */

CREATE FUNCTION @extschema@.es_append_if(events jsonb, after_position bigint, types text[] DEFAULT NULL, tags text[] DEFAULT NULL,
		query jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_if(jsonb, bigint, text[], text[], jsonb) IS
	'appends like es_append_many, unless an event after after_position has one of the types and all the tags, or matches the query (VE011); returns the last position';
