/* ---- append ---- */

CREATE FUNCTION @extschema@.es_last_position() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_last_position() IS
	'the position of the last event that this session appended, NULL before the first; a rollback does not undo it';
