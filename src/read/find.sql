/* ---- find: one event of a stream ---- */

CREATE FUNCTION @extschema@.es_position(stream text, version bigint) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_position(text, bigint) IS
	'the position of a stream''s event, NULL if there is none: what the version that an append returned means to the log, on any connection';

CREATE FUNCTION @extschema@.es_find_event(stream text, event_id uuid) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_find_event(text, uuid) IS
	'the event that was appended to a stream with this id, if there is one; ids that the store has made are not looked for';
