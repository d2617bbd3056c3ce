/* ---- append ---- */

CREATE FUNCTION @extschema@.es_append(stream text, type text, data jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}',
		expected_version bigint DEFAULT NULL, event_id uuid DEFAULT NULL,
		type_version int DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append(text, text, jsonb, jsonb, bigint, uuid, int) IS
	'appends one event and returns its version; expected_version NULL: any, 0: no event yet, -1: at least one, n: exactly n; type_version NULL: the newest';

CREATE FUNCTION @extschema@.es_try_append(stream text, type text, data jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}',
		expected_version bigint DEFAULT NULL, event_id uuid DEFAULT NULL, type_version int DEFAULT NULL,
		OUT outcome text, OUT version bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_try_append(text, text, jsonb, jsonb, bigint, uuid, int) IS
	'es_append that tells its outcome in place of errors: appended; stored, if the stream has an event with this id; conflict, if it is not at the expected version';

CREATE FUNCTION @extschema@.es_append_batch(stream text, events jsonb, expected_version bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_batch(text, jsonb, bigint) IS
	'appends a JSON array of {"type", "data"?, "metadata"?, "event_id"?, "type_version"?}, all or nothing, and returns the last version';

CREATE FUNCTION @extschema@.es_append_json(stream text, events text, expected_version bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_json(text, text, bigint) IS
	'es_append_batch for the text of the JSON array, faster';

CREATE FUNCTION @extschema@.es_append_events(stream text, events @extschema@.es_new_event[], expected_version bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_events(text, @extschema@.es_new_event[], bigint) IS
	'appends an array of events, all or nothing, and returns the last version';

CREATE FUNCTION @extschema@.es_append_many(events jsonb)
	RETURNS TABLE (stream text, version bigint, "position" bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_append_many(jsonb) IS
	'appends events to many streams, all or nothing, in the given order: {"stream", "type", "data"?, "metadata"?, "event_id"?, "type_version"?, "tags"?, "expected_version"?}; without "type" a check; one row for each event';

CREATE FUNCTION @extschema@.es_last_position() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_last_position() IS
	'the position of the last event that this session appended, NULL before the first; a rollback does not undo it';
