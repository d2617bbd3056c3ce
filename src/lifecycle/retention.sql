/* ---- retention: carrying out which events age out ---- */

CREATE FUNCTION eventstore.apply_retention() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_retention_run';
COMMENT ON FUNCTION eventstore.apply_retention() IS 'hides what is due by es_set_retention, in this transaction; returns of how many streams';
