/* ---- truncate: older events hidden ---- */

CREATE FUNCTION @extschema@.es_truncate_stream(stream text, before_version bigint) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_truncate_stream(text, bigint) IS
	'hides the events of a stream before a version from reads and replays, after leaving snapshots of what they have led to; the log keeps them until they are scavenged';
