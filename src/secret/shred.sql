/* ---- shred: keys destroyed ---- */

CREATE FUNCTION @extschema@.es_shred(subject text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_shred(text) IS
	'destroys the keys of a subject: its protected fields, and states made of them, are null for ever';
