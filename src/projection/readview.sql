/* ---- readview: read models for SQL ---- */

CREATE FUNCTION @extschema@.es_projection_view(projection text, view name) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_projection_view(text, name) IS
	'makes a view (key, version, position, state) of the states that a projection keeps; it is the caller''s';

CREATE FUNCTION @extschema@.es_index_projection(projection text, definition text) RETURNS name
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_index_projection(text, text) IS
	'makes an index on the states that a projection keeps; definition is what CREATE INDEX has after the table';

CREATE FUNCTION @extschema@.es_drop_projection_index(projection text, index name) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_projection_index(text, name) IS 'drops an index that es_index_projection has made';
