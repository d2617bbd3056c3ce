/* ---- reveal: data with protected fields, given out plain ---- */

CREATE FUNCTION @extschema@.es_reveal(stream text, type text, data jsonb) RETURNS jsonb
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_reveal(text, text, jsonb) IS
	'an event''s data with its protected fields plain, as a feed''s consumer with the right to read the stream needs them; null where the subject is shredded';

CREATE FUNCTION eventstore.plain_support(internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_reveal_support';
COMMENT ON FUNCTION eventstore.plain_support(internal) IS 'planner support function: where nothing is protected, stored data are plain';

/*
 * The view es_events asks it; without the right to read there is nothing of it to be seen there.  By what it costs the
 * planner asks it after a sort whose first rows are wanted, a cursor's and LIMIT's: rows are sorted as they are stored.
 */
CREATE FUNCTION eventstore.plain(data jsonb, stream text, type text, "position" bigint, event_id uuid) RETURNS jsonb
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 SUPPORT eventstore.plain_support AS 'MODULE_PATHNAME', 'es_reveal_plain';
COMMENT ON FUNCTION eventstore.plain(jsonb, text, text, bigint, uuid) IS 'the data of a stored event with its protected fields plain; behind es_events';
