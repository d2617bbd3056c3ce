/* ---- growth: sealing the log ---- */

CREATE FUNCTION @extschema@.es_seal() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_seal() IS
	'closes the settled log so far under a Merkle root, and returns the position up to which it is sealed';
