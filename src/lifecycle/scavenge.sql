/* ---- scavenge: removing what is hidden ---- */

CREATE FUNCTION @extschema@.es_scavenge(max_events bigint DEFAULT NULL) RETURNS TABLE(category text, events bigint, bytes bigint)
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_scavenge(bigint) IS
	'removes hidden events, so many at most, in batches that hold up nobody, and gives the disk their room back; what was removed, by category';
