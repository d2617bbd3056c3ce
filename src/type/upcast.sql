/* ---- upcast: what makes the data of old events look like new ones' ---- */

CREATE TABLE eventstore.upcasters (
	type text COLLATE "C" NOT NULL,
	from_version int NOT NULL CHECK (from_version OPERATOR(pg_catalog.>=) 1),
	handler text,
	ops jsonb,
	CONSTRAINT upcasters_by_type PRIMARY KEY (type, from_version),
	CHECK ((handler IS NULL) OPERATOR(pg_catalog.<>) (ops IS NULL))
);
COMMENT ON TABLE eventstore.upcasters IS 'what takes the data of events of a type from a version to the next: a function or operations';

SELECT pg_catalog.pg_extension_config_dump('eventstore.upcasters', '');

CREATE FUNCTION eventstore.forget_upcasters() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_upcast_forget';
COMMENT ON FUNCTION eventstore.forget_upcasters() IS 'row trigger: rows that a restore or a subscription brings reach sessions that know the upcasters';
CREATE TRIGGER forget_upcasters AFTER INSERT ON eventstore.upcasters
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_upcasters();
ALTER TABLE eventstore.upcasters ENABLE ALWAYS TRIGGER forget_upcasters;

CREATE FUNCTION @extschema@.es_register_upcaster(type text, from_version int, handler regprocedure) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_upcaster(text, int, regprocedure) IS 'makes a function, jsonb to jsonb, take the data of events of a type from a version to the next';

CREATE FUNCTION @extschema@.es_register_upcaster_ops(type text, from_version int, ops jsonb) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_upcaster_ops(text, int, jsonb) IS 'makes operations, as es_register_reducer_ops has them, take the data of events of a type from a version to the next';

CREATE FUNCTION @extschema@.es_upcast(event @extschema@.es_event) RETURNS @extschema@.es_event
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_upcast(@extschema@.es_event) IS 'an event with its data in the newest form; the stored event stays as it is';
