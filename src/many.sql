/* ---- many: one call over many streams ---- */

CREATE FUNCTION @extschema@.es_append_many(events jsonb)
	RETURNS TABLE (stream text, version bigint, "position" bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_many(jsonb) IS
	'appends events to many streams, all or nothing, in the given order: {"stream", "type", "data"?, "metadata"?, "event_id"?, "tags"?, "expected_version"?}; without "type" a check; one row for each event';
