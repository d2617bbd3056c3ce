/* ---- declare: what makes and drops projections ---- */

CREATE FUNCTION @extschema@.es_create_projection(projection text, reducer text, mode text DEFAULT 'async',
		category text DEFAULT NULL, key text DEFAULT '$.stream') RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_create_projection(text, text, text, text, text) IS
	'makes a projection that folds events into one state for each key; inline (with the append) or async';

CREATE FUNCTION @extschema@.es_create_handler_projection(projection text, handler regprocedure, mode text DEFAULT 'async',
		categories text[] DEFAULT NULL, types text[] DEFAULT NULL, reset regprocedure DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_create_handler_projection(text, regprocedure, text, text[], text[], regprocedure) IS
	'makes a projection that calls handler(es_event), which writes tables of its own; reset() empties them for a rebuild';

CREATE FUNCTION @extschema@.es_drop_projection(projection text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_projection(text) IS 'drops a projection with the states that it keeps';
