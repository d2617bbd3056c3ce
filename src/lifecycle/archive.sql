/* ---- archive: segments that leave the log, and come back ---- */

CREATE FUNCTION @extschema@.es_detach_segments(before timestamptz) RETURNS SETOF text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_detach_segments(timestamptz) IS
	'takes complete segments whose events are all older out of the log, and returns their names: plain tables, to be dumped and dropped';

CREATE FUNCTION @extschema@.es_attach_segment(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_attach_segment(text) IS
	'takes a segment into the log again, also one that was dropped and restored from an archive';
