/* ---- upcast: what makes the data of old events look like new ones' ---- */

CREATE TABLE eventstore.upcasters (
	after_position bigint NOT NULL,
	from_version int NOT NULL CHECK (from_version OPERATOR(pg_catalog.>=) 1),
	type text COLLATE "C" NOT NULL,
	handler text,
	ops jsonb,
	CONSTRAINT upcasters_by_type PRIMARY KEY (type, from_version),
	CHECK ((handler IS NULL) OPERATOR(pg_catalog.<>) (ops IS NULL))
);
COMMENT ON TABLE eventstore.upcasters IS 'what takes the data of events of a type from a version to the next: a function or operations';
COMMENT ON COLUMN eventstore.upcasters.after_position IS 'the last position given out when it was first registered: events of the version that it leads to come after that, unless another definition had allowed them before';

SELECT pg_catalog.pg_extension_config_dump('eventstore.upcasters', '');

CREATE FUNCTION eventstore.forget_upcasters() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_upcast_forget';
COMMENT ON FUNCTION eventstore.forget_upcasters() IS 'row trigger: rows that a restore or a subscription brings reach sessions that know the upcasters';
CREATE TRIGGER forget_upcasters AFTER INSERT OR UPDATE OR DELETE ON eventstore.upcasters
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_upcasters();
ALTER TABLE eventstore.upcasters ENABLE ALWAYS TRIGGER forget_upcasters;

CREATE FUNCTION @extschema@.es_upcast(event @extschema@.es_event) RETURNS @extschema@.es_event
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_upcast(@extschema@.es_event) IS 'an event with its data in the newest form; the stored event stays as it is';

CREATE VIEW @extschema@.es_upcasters WITH (security_barrier) AS
	SELECT u.type, u.from_version, COALESCE(u.handler, u.ops::pg_catalog.text) AS handler, u.ops
	FROM eventstore.upcasters u
	WHERE eventstore.may_anything();
COMMENT ON VIEW @extschema@.es_upcasters IS 'upcasters: what takes the data of a type from a version to the next, a function or operations';
