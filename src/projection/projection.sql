/* ---- projection: which read models are kept up to date ---- */

CREATE SEQUENCE eventstore.projection_id_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE eventstore.projection_id_seq IS 'projection ids, in order of creation';

/*
 * A projection has a reducer and a key, or a handler. Functions and the role are
 * kept by name: OIDs would not survive a dump or pg_upgrade. categories and types
 * NULL: all.
 */
CREATE TABLE eventstore.projections (
	projection_id bigint NOT NULL,
	created_at timestamptz NOT NULL,
	name text COLLATE "C" NOT NULL,
	mode text NOT NULL CHECK (mode OPERATOR(pg_catalog.=) 'inline' OR mode OPERATOR(pg_catalog.=) 'async'),
	reducer text COLLATE "C",
	key text,
	handler text,
	reset text,
	categories text[],
	types text[],
	creator text NOT NULL,
	CONSTRAINT projections_by_id PRIMARY KEY (projection_id),
	CONSTRAINT projections_by_name UNIQUE (name)
);
COMMENT ON TABLE eventstore.projections IS 'one row for each projection';
COMMENT ON COLUMN eventstore.projections.key IS 'SQL/JSON path that gives the key that an event is folded into, or a JSON object of paths by event type; NULL with a handler';
COMMENT ON COLUMN eventstore.projections.handler IS 'qualified name of a function of one argument, es_event; NULL with a reducer';
COMMENT ON COLUMN eventstore.projections.reset IS 'qualified name of a function without arguments that empties what the handler writes';
COMMENT ON COLUMN eventstore.projections.creator IS 'role that the reducer''s handlers, or the handler, run as';

SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projections', '');

CREATE FUNCTION eventstore.forget_projections() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_projection_forget';
COMMENT ON FUNCTION eventstore.forget_projections() IS 'row trigger: projections that a restore or a subscription brings, or takes, reach sessions, and have a table for their states, or none';

CREATE TRIGGER forget_projections AFTER INSERT OR DELETE ON eventstore.projections
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_projections();
ALTER TABLE eventstore.projections ENABLE ALWAYS TRIGGER forget_projections;
