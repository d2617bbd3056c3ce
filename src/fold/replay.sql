/* ---- replay: streams folded into states ---- */

CREATE FUNCTION @extschema@.es_replay(
	stream text,
	reducer text DEFAULT NULL,
	until_version bigint DEFAULT NULL,
	as_of timestamptz DEFAULT NULL
) RETURNS SETOF @extschema@.es_state
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_replay(text, text, bigint, timestamptz) IS 'the state of a stream: one row, none if there is nothing to fold; both bounds are inclusive';

CREATE FUNCTION @extschema@.es_replay_steps(
	stream text,
	reducer text DEFAULT NULL,
	from_version bigint DEFAULT 1,
	until_version bigint DEFAULT NULL
) RETURNS SETOF @extschema@.es_state
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_replay_steps(text, text, bigint, bigint) IS 'the state of a stream after each event from from_version on';

CREATE FUNCTION @extschema@.es_replay_as(
	stream text,
	state anyelement,
	reducer text DEFAULT NULL,
	until_version bigint DEFAULT NULL,
	as_of timestamptz DEFAULT NULL
) RETURNS anyelement
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_replay_as(text, anyelement, text, bigint, timestamptz) IS 'the state of a stream as its own type, such as NULL::order_state; NULL if there is nothing to fold';

CREATE FUNCTION @extschema@.es_snapshot(stream text, reducer text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_snapshot(text, text) IS 'leaves a snapshot of a stream that replays go on from; its version, 0 if there is nothing to fold';
