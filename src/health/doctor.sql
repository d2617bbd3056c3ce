/* ---- doctor: what is wrong, and what helps ---- */

CREATE FUNCTION @extschema@.es_doctor(OUT severity text, OUT finding text, OUT detail text, OUT remedy text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_doctor() IS
	'what is wrong with the store, or holds something back, and the statement that helps, worst first; severity is ok, notice, warning or critical';
