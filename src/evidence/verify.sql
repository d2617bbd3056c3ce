/* ---- verify: the log held against its seals ---- */

CREATE FUNCTION @extschema@.es_verify(from_position bigint DEFAULT 1, to_position bigint DEFAULT NULL)
	RETURNS TABLE("position" bigint, problem text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_verify(bigint, bigint) IS
	'what of the sealed log, and of its seals, is not as it was sealed; no rows: it is intact';
