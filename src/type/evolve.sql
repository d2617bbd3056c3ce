/* ---- evolve: changes of what is defined of types ---- */

CREATE FUNCTION @extschema@.es_register_upcaster(type text, from_version int, handler regprocedure) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_upcaster(text, int, regprocedure) IS 'makes a function, jsonb to jsonb, take the data of events of a type from a version to the next';

CREATE FUNCTION @extschema@.es_register_upcaster_ops(type text, from_version int, ops jsonb) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_upcaster_ops(text, int, jsonb) IS 'makes operations, as es_register_reducer_ops has them, take the data of events of a type from a version to the next';

CREATE FUNCTION @extschema@.es_drop_upcaster(type text, from_version int) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_upcaster(text, int) IS 'drops the last upcaster of a type, as long as no event is of a later version';

CREATE FUNCTION @extschema@.es_register_schema(type text, schema jsonb, compatibility text DEFAULT 'backward') RETURNS int
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_register_schema(text, jsonb, text) IS 'registers what data of the newest version of a type, or else of a next one, must look like (JSON Schema 2020-12), and returns that version; compatibility with the schema before: none, backward, forward or full';

CREATE FUNCTION @extschema@.es_drop_schema(type text, version int) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_schema(text, int) IS 'drops the last schema of a type, as long as no event is of its version';
