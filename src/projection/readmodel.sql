/* ---- readmodel: the states that projections with a reducer keep ---- */

CREATE FUNCTION @extschema@.es_projection(projection text, key text DEFAULT NULL)
	RETURNS TABLE (key text, version bigint, "position" bigint, state jsonb)
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_projection(text, text) IS
	'the states that a projection keeps: of one key, or of all (NULL); version tells how many events are folded into it';
