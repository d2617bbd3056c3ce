/* ---- readnode: reads in FROM ---- */

CREATE FUNCTION eventstore.read_support(internal) RETURNS internal
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_readnode_support';
COMMENT ON FUNCTION eventstore.read_support(internal) IS 'planner support function: how many events a reader gives out';

ALTER FUNCTION @extschema@.es_read(text, bigint, bigint, boolean) SUPPORT eventstore.read_support;
ALTER FUNCTION @extschema@.es_read_all(bigint, bigint, text[], text[], text, bigint, boolean) SUPPORT eventstore.read_support;
ALTER FUNCTION @extschema@.es_read_category(text, bigint, bigint, text[], bigint, boolean) SUPPORT eventstore.read_support;
ALTER FUNCTION @extschema@.es_read_query(jsonb, bigint, bigint, boolean, bigint) SUPPORT eventstore.read_support;
ALTER FUNCTION @extschema@.es_read_tagged(text[], text[], bigint, bigint) SUPPORT eventstore.read_support;
