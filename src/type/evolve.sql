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
