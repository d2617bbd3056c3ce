/* ---- protect: what is protected, told ---- */

CREATE FUNCTION @extschema@.es_protect(category text, paths text[], subject text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_protect(text, text[], text) IS
	'encrypts fields of the data of a category''s events from now on, each event''s with the key of its subject, besides those that are protected already; no paths: none is, from now on';
