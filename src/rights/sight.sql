/* ---- sight: rights as views ask for them ---- */

CREATE FUNCTION eventstore.may_read(stream text) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_sight_may_read';
COMMENT ON FUNCTION eventstore.may_read(text) IS 'whether the current user may read a stream; behind es_events, es_streams and es_snapshots';

CREATE FUNCTION eventstore.has_right(privilege text, category text) RETURNS boolean
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_sight_has_right';
COMMENT ON FUNCTION eventstore.has_right(text, text) IS 'whether the current user has a privilege on a category, NULL: on all; behind views';

/* STABLE, for an IMMUTABLE one is called and not planned. */
CREATE FUNCTION eventstore.sight_support(internal) RETURNS internal
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_sight_support';
COMMENT ON FUNCTION eventstore.sight_support(internal) IS 'planner support function: takes the barrier from a view of ours, for whoever may read everything';
CREATE FUNCTION eventstore.sight() RETURNS boolean
	LANGUAGE c STABLE PARALLEL SAFE SUPPORT eventstore.sight_support AS 'MODULE_PATHNAME', 'es_sight';
COMMENT ON FUNCTION eventstore.sight() IS 'true; where it is planned, beside a view that asks for rights, it has that planned by the user''s rights; behind es_events, es_streams and es_snapshots';
