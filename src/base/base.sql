/* ---- base: schema and types ---- */

CREATE SCHEMA eventstore;
REVOKE ALL ON SCHEMA eventstore FROM PUBLIC;
COMMENT ON SCHEMA eventstore IS 'tables of the extension eventstore; use the functions and views named es_*';

CREATE TYPE @extschema@.es_event AS (
	position bigint,
	stream text,
	version bigint,
	type text,
	type_version int,
	data jsonb,
	metadata jsonb,
	event_id uuid,
	recorded_at timestamptz
);
COMMENT ON TYPE @extschema@.es_event IS 'one stored event';

CREATE TYPE @extschema@.es_new_event AS (
	type text,
	data jsonb,
	metadata jsonb,
	event_id uuid
);
COMMENT ON TYPE @extschema@.es_new_event IS 'one event to append; NULL metadata means {}, NULL event_id means a new UUIDv7';

CREATE TYPE @extschema@.es_state AS (
	stream text,
	version bigint,
	position bigint,
	state jsonb,
	recorded_at timestamptz
);
COMMENT ON TYPE @extschema@.es_state IS 'a folded state; version, position and recorded_at are those of the last event read';
