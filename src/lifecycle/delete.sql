/* ---- delete: streams deleted ---- */

CREATE FUNCTION @extschema@.es_delete_stream(stream text, expected_version bigint DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_delete_stream(text, bigint) IS
	'deletes a stream by appending an event of type $stream-deleted: nothing can be appended after it, reads and replays give nothing, the log keeps the events until they are scavenged';
