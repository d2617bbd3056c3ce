/* ---- aggregate: folding the events of any query ---- */

CREATE FUNCTION eventstore.fold_transition(state internal, reducer text, event @extschema@.es_event) RETURNS internal
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_aggregate_transition';
COMMENT ON FUNCTION eventstore.fold_transition(internal, text, @extschema@.es_event) IS 'takes an event into the state of the aggregate es_fold';

CREATE FUNCTION eventstore.fold_result(state internal) RETURNS jsonb
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_aggregate_result';
COMMENT ON FUNCTION eventstore.fold_result(internal) IS 'the state of the aggregate es_fold as jsonb';

CREATE AGGREGATE @extschema@.es_fold(reducer text, event @extschema@.es_event) (
	SFUNC = eventstore.fold_transition,
	STYPE = internal,
	FINALFUNC = eventstore.fold_result,
	PARALLEL = UNSAFE
);
COMMENT ON AGGREGATE @extschema@.es_fold(text, @extschema@.es_event) IS 'folds the events of any query by a reducer, in the order in which they come: say ORDER BY in it';
