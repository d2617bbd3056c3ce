/* ---- readview: read models for SQL ---- */

CREATE FUNCTION eventstore.shown_state_support(internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_readview_support';
COMMENT ON FUNCTION eventstore.shown_state_support(internal) IS 'planner support: takes eventstore.shown_state away where nothing is protected';

CREATE FUNCTION eventstore.shown_state(projection_id bigint, state jsonb, sealed text) RETURNS jsonb
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SUPPORT eventstore.shown_state_support
	AS 'MODULE_PATHNAME', 'es_readview_show';
COMMENT ON FUNCTION eventstore.shown_state(bigint, jsonb, text) IS
	'what is stored of a projection''s state as readers may see it; behind the views of es_projection_view';

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
