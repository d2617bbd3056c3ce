/* ---- typeindex: indexes of the events of one type ---- */

/* The types that each segment has an index of. */
CREATE TABLE eventstore.indexed_types (
	type text COLLATE "C" NOT NULL,
	CONSTRAINT indexed_types_pkey PRIMARY KEY (type)
);
COMMENT ON TABLE eventstore.indexed_types IS 'types of events that segments have indexes of';
SELECT pg_catalog.pg_extension_config_dump('eventstore.indexed_types', '');

CREATE FUNCTION @extschema@.es_index_type(type text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_index_type(text) IS
	'has segments indexed by a type of events, for queries by types alone; a background worker does it after the commit';

CREATE FUNCTION @extschema@.es_drop_type_index(type text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_drop_type_index(text) IS
	'takes back es_index_type; a background worker drops the indexes after the commit';

CREATE VIEW @extschema@.es_indexed_types WITH (security_barrier) AS
	SELECT t.type, count(s.segment) AS segments, count(i.indexrelid) FILTER (WHERE i.indisvalid) AS indexed
	FROM eventstore.indexed_types t
		LEFT JOIN eventstore.segments s ON EXISTS (SELECT FROM pg_catalog.pg_class p
			WHERE p.relnamespace OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.regnamespace AND p.relispartition
			AND p.relname OPERATOR(pg_catalog.=) pg_catalog.format('events_%s', s.segment)::pg_catalog.name)
		LEFT JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.regnamespace
			AND c.relname OPERATOR(pg_catalog.=) pg_catalog.format('events_%s_type_%s', s.segment,
				pg_catalog.to_hex(pg_catalog.hashtextextended(t.type, 0)))::pg_catalog.name
		LEFT JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) c.oid
	WHERE eventstore.may_anything()
	GROUP BY t.type;
COMMENT ON VIEW @extschema@.es_indexed_types IS 'types of events that are indexed, and how many of the segments have the index by now';
