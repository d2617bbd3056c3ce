/* ---- define: what creates and changes reducers ---- */

CREATE FUNCTION eventstore.forget_reducers() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_define_forget';
COMMENT ON FUNCTION eventstore.forget_reducers() IS 'row trigger: rows that a restore or a subscription brings reach sessions that know the reducer';

CREATE TRIGGER forget_reducers AFTER INSERT OR UPDATE OR DELETE ON eventstore.reducers
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_reducers();
CREATE TRIGGER forget_reducers AFTER INSERT OR UPDATE OR DELETE ON eventstore.reducer_handlers
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_reducers();
CREATE TRIGGER forget_reducers AFTER INSERT OR UPDATE OR DELETE ON eventstore.snapshot_policies
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_reducers();
ALTER TABLE eventstore.snapshot_policies ENABLE ALWAYS TRIGGER forget_reducers;
ALTER TABLE eventstore.reducers ENABLE ALWAYS TRIGGER forget_reducers;
ALTER TABLE eventstore.reducer_handlers ENABLE ALWAYS TRIGGER forget_reducers;

CREATE FUNCTION @extschema@.es_create_reducer(
	reducer text,
	initial jsonb DEFAULT '{}',
	state_type regtype DEFAULT 'pg_catalog.jsonb',
	on_unknown text DEFAULT 'ignore'
) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_create_reducer(text, jsonb, regtype, text) IS 'creates a reducer without handlers; on_unknown says what an event type without a handler does: ignore or error';

CREATE FUNCTION @extschema@.es_drop_reducer(reducer text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_reducer(text) IS 'drops a reducer and its handlers';

CREATE FUNCTION @extschema@.es_register_reducer(reducer text, event_type text, handler regprocedure) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_reducer(text, text, regprocedure) IS 'makes a function fold events of a type (* for all others): f(state S, event es_event) RETURNS S or f(state S, data jsonb) RETURNS S';

CREATE FUNCTION @extschema@.es_register_reducer_ops(reducer text, event_type text, ops jsonb) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_reducer_ops(text, text, jsonb) IS 'makes operations fold events of a type (* for all others), without SQL: an operation or an array of them';

CREATE FUNCTION @extschema@.es_snapshot_every(reducer text, events int) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_snapshot_every(text, int) IS 'makes replays by a reducer leave a snapshot when they have folded more than so many events; NULL: no more';

CREATE FUNCTION @extschema@.es_drop_snapshots(reducer text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_snapshots(text) IS 'drops the snapshots of a reducer, when something has changed that PostgreSQL cannot see';
