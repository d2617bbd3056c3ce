/* ---- doctor: what is wrong, and what helps ---- */

CREATE FUNCTION @extschema@.es_doctor() RETURNS TABLE(severity text, finding text, detail text, remedy text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_doctor() IS
	'what is wrong with the store, or holds something back, and the statement that helps, worst first; severity is ok, notice, warning or critical';
