/* ---- registry: the schemas of the versions of types ---- */

CREATE TABLE eventstore.schemas (
	after_position bigint NOT NULL,
	registered_at timestamptz NOT NULL,
	version int NOT NULL CHECK (version OPERATOR(pg_catalog.>=) 1),
	type text COLLATE "C" NOT NULL,
	compatibility text COLLATE "C" NOT NULL,
	schema jsonb NOT NULL,
	CONSTRAINT schemas_by_type PRIMARY KEY (type, version)
);
COMMENT ON TABLE eventstore.schemas IS 'what the data of events of a type and version must look like: JSON Schema 2020-12';
COMMENT ON COLUMN eventstore.schemas.after_position IS 'the last position given out when it was registered: events of its version come after that, unless another definition had allowed them before';

SELECT pg_catalog.pg_extension_config_dump('eventstore.schemas', '');

CREATE FUNCTION eventstore.forget_schemas() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_registry_forget';
COMMENT ON FUNCTION eventstore.forget_schemas() IS 'row trigger: rows that a restore or a subscription brings reach sessions that know the schemas';
CREATE TRIGGER forget_schemas AFTER INSERT OR UPDATE OR DELETE ON eventstore.schemas
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_schemas();
ALTER TABLE eventstore.schemas ENABLE ALWAYS TRIGGER forget_schemas;

CREATE VIEW @extschema@.es_schemas WITH (security_barrier) AS
	SELECT s.type, s.version, s.schema, s.compatibility, s.registered_at
	FROM eventstore.schemas s
	WHERE eventstore.may_anything();
COMMENT ON VIEW @extschema@.es_schemas IS
	'schemas: what data of which version of which type must look like, and how each was compatible with the one before';
