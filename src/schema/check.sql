/* ---- check: a value held against a schema by hand ---- */

CREATE FUNCTION @extschema@.es_check_schema(schema jsonb, data jsonb)
	RETURNS TABLE(pointer text, rule text, message text)
	LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_check_schema(jsonb, jsonb) IS
	'what is wrong with data by a JSON Schema (2020-12): a row for each rule that is broken, with a JSON pointer into the data; no rows if it is valid';
