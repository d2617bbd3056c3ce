/* ---- compare: what registering a new version of a schema would say ---- */

CREATE FUNCTION @extschema@.es_compare_schemas(old_schema jsonb, new_schema jsonb, compatibility text DEFAULT 'backward')
		RETURNS TABLE(pointer text, rule text, message text, direction text, decided boolean)
	LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_compare_schemas(jsonb, jsonb, text) IS
	'what is against the compatibility of a new schema with an old one: what es_register_schema would say; no rows: nothing';
