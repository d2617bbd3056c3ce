/* ---- segment: the log's partitions ---- */

CREATE TABLE eventstore.segments (
	segment bigint NOT NULL,
	first_position bigint NOT NULL,
	last_position bigint NOT NULL,
	sealed boolean NOT NULL DEFAULT false,
	CONSTRAINT segments_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE eventstore.segments IS 'one row for each segment that was ever made; segment n is the table eventstore.events_n';
SELECT pg_catalog.pg_extension_config_dump('eventstore.segments', '');
CALL eventstore.install_guards('eventstore.segments');

CREATE FUNCTION @extschema@.es_set_segment_size(positions bigint) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_set_segment_size(bigint) IS
	'sets how many positions a segment holds (100 to 2^40, default 2^24); only before the first append, for the store''s owner';

CREATE VIEW @extschema@.es_segments AS
	SELECT s.segment,
		s.first_position,
		s.last_position,
		(SELECT pg_catalog.count(*) FROM eventstore.events e
		  WHERE e.position OPERATOR(pg_catalog.>=) s.first_position
			AND e.position OPERATOR(pg_catalog.<=) s.last_position) AS events,
		pg_catalog.pg_total_relation_size(c.oid) AS bytes,
		(SELECT e.recorded_at FROM eventstore.events e
		  WHERE e.position OPERATOR(pg_catalog.>=) s.first_position
			AND e.position OPERATOR(pg_catalog.<=) s.last_position
		  ORDER BY e.position LIMIT 1) AS from_time,
		(SELECT e.recorded_at FROM eventstore.events e
		  WHERE e.position OPERATOR(pg_catalog.>=) s.first_position
			AND e.position OPERATOR(pg_catalog.<=) s.last_position
		  ORDER BY e.position DESC LIMIT 1) AS to_time,
		CASE
			WHEN c.oid IS NULL OR NOT c.relispartition THEN 'detached'
			WHEN s.sealed THEN 'sealed'
			WHEN s.last_position OPERATOR(pg_catalog.<=) p.last_value THEN 'full'
			WHEN s.first_position OPERATOR(pg_catalog.<=) p.last_value AND p.is_called THEN 'active'
			ELSE 'ready'
		END AS state
	FROM eventstore.segments s
	CROSS JOIN eventstore.position_seq p
	LEFT JOIN pg_catalog.pg_class c
		ON c.relnamespace OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.regnamespace
		AND c.relname OPERATOR(pg_catalog.=) ('events_' OPERATOR(pg_catalog.||) s.segment::pg_catalog.text)::pg_catalog.name;
COMMENT ON VIEW @extschema@.es_segments IS
	'segments of the log: positions, events (counted), bytes with indexes and TOAST, times of the first and last event, state ready, active, full, sealed (full, and frozen once) or detached';
