/* ---- keep: what a truncation keeps ---- */

CREATE FUNCTION @extschema@.es_adopt_snapshots(reducer text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_adopt_snapshots(text) IS
	'lets a reducer that was changed go on from the states that truncations have kept of it; returns how many';
