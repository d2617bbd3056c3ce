/* ---- scan: what segments hold ---- */

CREATE FUNCTION eventstore.segment_events(segment bigint) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'es_segment_events';
COMMENT ON FUNCTION eventstore.segment_events(bigint) IS 'how many events a segment has: counts them; behind es_segments';

CREATE FUNCTION eventstore.segment_time(segment bigint, newest boolean) RETURNS timestamptz
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'es_segment_time';
COMMENT ON FUNCTION eventstore.segment_time(bigint, boolean) IS 'when a segment''s last event was recorded, or its first; behind es_segments';

CREATE FUNCTION eventstore.segment_version(segment bigint, stream_id bigint, hidden bigint) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'es_segment_version';
COMMENT ON FUNCTION eventstore.segment_version(bigint, bigint, bigint) IS 'a stream''s last version in a segment, or up to which all are hidden; behind es_streams';

/* STABLE, where pg_total_relation_size is not: else it is called even where nobody asks for its column. */
CREATE FUNCTION eventstore.segment_bytes(relation regclass) RETURNS bigint
	LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'pg_total_relation_size';
COMMENT ON FUNCTION eventstore.segment_bytes(regclass) IS 'how much room a segment takes, with indexes and TOAST; behind es_segments';

/*
 * The log itself must not be asked here: a query over it plans for, and locks,
 * every segment there is. Functions look at one segment, and only where their
 * column is asked for; for that the columns of both halves must be of exactly the
 * same types.
 */
CREATE VIEW @extschema@.es_segments WITH (security_barrier) AS
	SELECT s.segment,
		s.first_position,
		s.last_position,
		CASE
			WHEN c.oid IS NULL OR NOT c.relispartition THEN 0
			ELSE COALESCE(s.events, eventstore.segment_events(s.segment))
		END AS events,
		eventstore.segment_bytes(c.oid) AS bytes,
		eventstore.segment_time(s.segment, false) AS from_time,
		eventstore.segment_time(s.segment, true) AS to_time,
		CASE
			WHEN s.emptied AND c.oid IS NULL THEN 'removed'
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
		AND c.relname OPERATOR(pg_catalog.=) ('events_' OPERATOR(pg_catalog.||) s.segment::pg_catalog.text)::pg_catalog.name
	WHERE eventstore.has_right('read', NULL) OR eventstore.has_right('admin', NULL)
	UNION ALL
	SELECT f.segment, f.first_position, f.last_position, 0::pg_catalog.int8, NULL::pg_catalog.int8, NULL::pg_catalog.timestamptz,
		NULL::pg_catalog.timestamptz, 'failed'::pg_catalog.text
	FROM eventstore.maker_failure f
	WHERE NOT EXISTS (SELECT 1 FROM eventstore.segments s WHERE s.segment OPERATOR(pg_catalog.=) f.segment)
		AND (eventstore.has_right('read', NULL) OR eventstore.has_right('admin', NULL));
COMMENT ON VIEW @extschema@.es_segments IS
	'segments of the log: positions, events (counted once, when sealed), bytes with indexes and TOAST, times of the first and last event, state ready, active, full, sealed (full, and frozen once), removed (dropped, as no event was left), detached, or failed (the next one, which could not be made yet; eventstore.maker_failure says why)';
