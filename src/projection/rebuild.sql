/* ---- rebuild: projections made anew beside the live ones ---- */

CREATE FUNCTION @extschema@.es_rebuild_projection(projection text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_rebuild_projection(text) IS
	'starts to make a projection anew beside the live one, which is replaced at the end; the worker, or es_run_projection, does the work';
