/* ---- view: the view es_events ---- */

CREATE VIEW eventstore.readable_events WITH (security_barrier) AS
	SELECT e.position,
		s.name AS stream,
		e.version,
		e.type,
		e.type_version,
		eventstore.plain(e.data, e.stream, e.type, e.position, e.event_id) AS data,
		e.metadata,
		e.event_id,
		e.recorded_at
	FROM eventstore.events e
	LEFT JOIN eventstore.streams s ON s.stream_id OPERATOR(pg_catalog.=) e.stream_id
	WHERE eventstore.may_read(e.stream);
COMMENT ON VIEW eventstore.readable_events IS 'the events that the current user may read; behind es_events';

CREATE VIEW @extschema@.es_events AS
	SELECT e.position, e.stream, e.version, e.type, e.type_version, e.data, e.metadata, e.event_id, e.recorded_at
	FROM eventstore.sight() CROSS JOIN eventstore.readable_events e;
COMMENT ON VIEW @extschema@.es_events IS
	'the events that one may read; INSERT and COPY append through the same path as es_append';
ALTER VIEW @extschema@.es_events ALTER COLUMN data SET DEFAULT '{}';
ALTER VIEW @extschema@.es_events ALTER COLUMN metadata SET DEFAULT '{}';

CREATE FUNCTION eventstore.ingest() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_ingest_row';
COMMENT ON FUNCTION eventstore.ingest() IS 'trigger: a row put into es_events is appended';

CREATE FUNCTION eventstore.refuse() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_store_guard_rows';
COMMENT ON FUNCTION eventstore.refuse() IS 'trigger: UPDATE and DELETE of es_events are VE002';

CREATE FUNCTION eventstore.ingest_statement() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_ingest_statement';
COMMENT ON FUNCTION eventstore.ingest_statement() IS 'trigger: a statement begins or ends to put rows into es_events';

/* Statement triggers fire in order of name: ours before those of users. */
CREATE TRIGGER "00_ingest_begin" BEFORE INSERT ON @extschema@.es_events
	FOR EACH STATEMENT EXECUTE FUNCTION eventstore.ingest_statement();
CREATE TRIGGER "00_ingest_end" AFTER INSERT ON @extschema@.es_events
	FOR EACH STATEMENT EXECUTE FUNCTION eventstore.ingest_statement();
CREATE TRIGGER ingest INSTEAD OF INSERT ON @extschema@.es_events
	FOR EACH ROW EXECUTE FUNCTION eventstore.ingest();
CREATE TRIGGER refuse INSTEAD OF UPDATE OR DELETE ON @extschema@.es_events
	FOR EACH ROW EXECUTE FUNCTION eventstore.refuse();

/*
 * Under session_replication_role = replica a row put into the view would
 * vanish without a word. ALTER TABLE ... ENABLE ALWAYS TRIGGER does not take
 * views, so the catalog is told directly; the REVOKE that follows at the end
 * of this script brings the change to this session's caches too. What pg_upgrade
 * does about it is in server/upgrade.c.
 */
UPDATE pg_catalog.pg_trigger SET tgenabled = 'A'
	WHERE tgrelid OPERATOR(pg_catalog.=) '@extschema@.es_events'::pg_catalog.regclass;

CREATE FUNCTION eventstore.es_event(row_of_view @extschema@.es_events) RETURNS @extschema@.es_event
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_ingest_cast';
COMMENT ON FUNCTION eventstore.es_event(@extschema@.es_events) IS 'a row of es_events as an es_event';
CREATE CAST (@extschema@.es_events AS @extschema@.es_event)
	WITH FUNCTION eventstore.es_event(@extschema@.es_events) AS IMPLICIT;
COMMENT ON CAST (@extschema@.es_events AS @extschema@.es_event) IS 'a row of es_events is an es_event';
