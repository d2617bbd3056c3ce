/* ---- metrics: how the store is doing, in numbers ---- */

CREATE FUNCTION eventstore.library_version() RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_library_version';
COMMENT ON FUNCTION eventstore.library_version() IS 'the version of the library that the session has loaded; behind es_metrics';

/*
 * A view for each kind of gauge: its name without the prefix, its labels, its value, NULL where that is not known.
 * What they are of, and mean, is said in metrics.c. Asked as the extension's owner.
 */
CREATE VIEW eventstore.gauges_of_server AS
	SELECT 'build_info'::pg_catalog.text AS name,
		pg_catalog.jsonb_build_object('version', x.extversion, 'library_version', eventstore.library_version(),
			'server_version', pg_catalog.current_setting('server_version')) AS labels,
		1::pg_catalog.float8 AS value
	FROM pg_catalog.pg_extension x
	WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore';
COMMENT ON VIEW eventstore.gauges_of_server IS 'what runs here; behind es_metrics';

CREATE VIEW eventstore.gauges_of_log AS
	SELECT g.name, '{}'::pg_catalog.jsonb AS labels, g.value
	FROM eventstore.log_ends() e
	CROSS JOIN (
		SELECT pg_catalog.count(*) AS transactions,
			pg_catalog.count(*) FILTER (WHERE f.state OPERATOR(pg_catalog.=) 'prepared') AS prepared,
			pg_catalog.min(f.since) AS since
		FROM @extschema@.es_in_flight f) f
	CROSS JOIN eventstore.stream_id_seq s
	CROSS JOIN LATERAL (VALUES
		('last_position', e.last::pg_catalog.float8),
		('settled_position', e.settled::pg_catalog.float8),
		('in_flight_transactions', f.transactions::pg_catalog.float8),
		('in_flight_prepared', f.prepared::pg_catalog.float8),
		('in_flight_oldest_seconds', COALESCE(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) f.since), 0)),
		('streams_estimate', CASE WHEN s.is_called THEN s.last_value ELSE 0 END::pg_catalog.float8)) g(name, value);
COMMENT ON VIEW eventstore.gauges_of_log IS 'numbers of the log: where it ends and is settled, who is in flight; behind es_metrics';

CREATE VIEW eventstore.gauges_of_subscriptions AS
	SELECT g.name, pg_catalog.jsonb_build_object('subscription', s.subscription, 'partition', s.partition::pg_catalog.text) AS labels, g.value
	FROM @extschema@.es_subscriptions s
	CROSS JOIN LATERAL (VALUES
		('subscription_lag_events', s.lag::pg_catalog.float8),
		('subscription_lag_seconds', COALESCE(pg_catalog.date_part('epoch', s.lag_time), 0)),
		('subscription_leased', COALESCE(s.lease_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp(), false)::pg_catalog.int4::pg_catalog.float8)) g(name, value)
	UNION ALL
	SELECT 'subscription_parked_events', pg_catalog.jsonb_build_object('subscription', s.name),
		(SELECT pg_catalog.sum(p.parked) FROM eventstore.subscription_partitions p
			WHERE p.subscription_id OPERATOR(pg_catalog.=) s.subscription_id)::pg_catalog.float8
	FROM eventstore.subscriptions s;
COMMENT ON VIEW eventstore.gauges_of_subscriptions IS 'numbers of subscriptions: how far they are behind; behind es_metrics';

CREATE VIEW eventstore.gauges_of_projections AS
	SELECT g.name, pg_catalog.jsonb_build_object('projection', p.projection) AS labels, g.value
	FROM @extschema@.es_projections p
	CROSS JOIN LATERAL (VALUES
		('projection_lag_events', CASE WHEN p.mode OPERATOR(pg_catalog.=) 'async' THEN p.lag::pg_catalog.float8 END),
		('projection_lag_seconds', CASE WHEN p.mode OPERATOR(pg_catalog.=) 'async'
			THEN COALESCE(pg_catalog.date_part('epoch', p.lag_time), 0) END),
		('projection_running', (p.status OPERATOR(pg_catalog.<>) 'failed')::pg_catalog.int4::pg_catalog.float8),
		('projection_rebuilding', (p.rebuild_position IS NOT NULL)::pg_catalog.int4::pg_catalog.float8),
		('projection_failed_attempts', p.attempts::pg_catalog.float8),
		('projection_failed_seconds',
			COALESCE(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.failed_since), 0))) g(name, value);
COMMENT ON VIEW eventstore.gauges_of_projections IS 'numbers of projections: how far they are behind, whether they run; behind es_metrics';

CREATE VIEW eventstore.gauges_of_feeds AS
	SELECT g.name, pg_catalog.jsonb_build_object('feed', f.feed) AS labels, g.value
	FROM @extschema@.es_feeds f
	CROSS JOIN eventstore.log_ends() e
	CROSS JOIN LATERAL (VALUES
		('feed_active', COALESCE(f.active, false)::pg_catalog.int4::pg_catalog.float8),
		('feed_lost', (f.slot_name IS NULL OR f.wal_status IS NOT DISTINCT FROM 'lost')::pg_catalog.int4::pg_catalog.float8),
		('feed_lag_bytes', f.lag_bytes::pg_catalog.float8),
		('feed_retained_bytes', f.retained_bytes::pg_catalog.float8),
		('feed_lag_events', f.lag_events::pg_catalog.float8),
		('feed_lag_seconds', CASE WHEN f.lag_events OPERATOR(pg_catalog.>=) 0 THEN COALESCE(pg_catalog.date_part('epoch',
			eventstore.lag_time(e.last OPERATOR(pg_catalog.-) f.lag_events, e.last, f.categories, f.types)), 0) END)) g(name, value)
	WHERE f.feed IS NOT NULL;
COMMENT ON VIEW eventstore.gauges_of_feeds IS 'numbers of feeds: how far their consumers are behind, the WAL kept for them; behind es_metrics';

CREATE VIEW eventstore.gauges_of_slots AS
	SELECT g.name, pg_catalog.jsonb_build_object('slot', s.slot_name) AS labels, g.value
	FROM pg_catalog.pg_replication_slots s
	CROSS JOIN LATERAL (VALUES
		('slot_active', s.active::pg_catalog.int4::pg_catalog.float8),
		('slot_lost', (s.wal_status IS NOT DISTINCT FROM 'lost')::pg_catalog.int4::pg_catalog.float8),
		('slot_retained_bytes', pg_catalog.pg_wal_lsn_diff(
			CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END,
			s.restart_lsn)::pg_catalog.float8)) g(name, value)
	WHERE s.database OPERATOR(pg_catalog.=) pg_catalog.current_database();
COMMENT ON VIEW eventstore.gauges_of_slots IS 'numbers of the logical replication slots of this database; behind es_metrics';

/*
 * Events of a segment that is not sealed are not counted. The files of one that is are not looked at: it has
 * not changed since it was vacuumed, and pg_class has its size.
 */
CREATE VIEW eventstore.gauges_of_segments AS
	WITH pages_of_indexes AS MATERIALIZED (
		SELECT i.indrelid, pg_catalog.sum(k.relpages) AS pages
		FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) i.indexrelid
		GROUP BY i.indrelid),
	known AS MATERIALIZED (
		SELECT c.oid, c.relname::pg_catalog.text AS name, (c.relpages::pg_catalog.int8 OPERATOR(pg_catalog.+) COALESCE(ci.pages, 0::pg_catalog.int8)
				OPERATOR(pg_catalog.+) COALESCE(t.relpages::pg_catalog.int8, 0::pg_catalog.int8) OPERATOR(pg_catalog.+) COALESCE(ti.pages, 0::pg_catalog.int8))
				OPERATOR(pg_catalog.*) pg_catalog.current_setting('block_size')::pg_catalog.int8 AS bytes
		FROM pg_catalog.pg_class c
		LEFT JOIN pages_of_indexes ci ON ci.indrelid OPERATOR(pg_catalog.=) c.oid
		LEFT JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) c.reltoastrelid
		LEFT JOIN pages_of_indexes ti ON ti.indrelid OPERATOR(pg_catalog.=) c.reltoastrelid
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.regnamespace)
	SELECT g.name, pg_catalog.jsonb_build_object('state', t.state) AS labels, g.value
	FROM (
		SELECT s.state, pg_catalog.count(*) AS segments, pg_catalog.sum(s.events) AS events, pg_catalog.sum(s.bytes) AS bytes
		FROM (
			SELECT v.state,
				COALESCE(d.events, CASE WHEN v.state OPERATOR(pg_catalog.=) 'full' THEN d.last_position OPERATOR(pg_catalog.-) d.first_position OPERATOR(pg_catalog.+) 1
					WHEN v.state OPERATOR(pg_catalog.=) 'active' THEN p.last_value OPERATOR(pg_catalog.-) d.first_position OPERATOR(pg_catalog.+) 1
					ELSE 0 END) AS events,
				CASE WHEN v.state OPERATOR(pg_catalog.=) 'sealed' THEN k.bytes ELSE eventstore.segment_bytes(k.oid) END AS bytes
			FROM @extschema@.es_segments v
			LEFT JOIN eventstore.segments d ON d.segment OPERATOR(pg_catalog.=) v.segment
			LEFT JOIN known k ON k.name OPERATOR(pg_catalog.=) ('events_' OPERATOR(pg_catalog.||) v.segment::pg_catalog.text)
			CROSS JOIN eventstore.position_seq p) s
		GROUP BY s.state) t
	CROSS JOIN LATERAL (VALUES
		('log_segments', t.segments::pg_catalog.float8),
		('segment_events', t.events::pg_catalog.float8),
		('segment_bytes', t.bytes::pg_catalog.float8)) g(name, value);
COMMENT ON VIEW eventstore.gauges_of_segments IS 'numbers of segments, by state; behind es_metrics';

CREATE VIEW eventstore.gauges_of_evidence AS
	SELECT g.name, '{}'::pg_catalog.jsonb AS labels, g.value
	FROM (SELECT COALESCE(pg_catalog.max(s.position), 0::pg_catalog.int8) AS position, pg_catalog.max(s.sealed_at) AS sealed_at FROM eventstore.seals s) s
	CROSS JOIN eventstore.log_ends() e
	CROSS JOIN LATERAL (VALUES
		('sealed_position', s.position::pg_catalog.float8),
		('unsealed_events', GREATEST(e.last OPERATOR(pg_catalog.-) s.position, 0::pg_catalog.int8)::pg_catalog.float8),
		('seal_age_seconds', pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.sealed_at))) g(name, value);
COMMENT ON VIEW eventstore.gauges_of_evidence IS 'how far the log is sealed; behind es_metrics';

CREATE VIEW eventstore.gauges_of_retention AS
	SELECT 'retention_behind_events'::pg_catalog.text AS name, pg_catalog.jsonb_build_object('category', r.category) AS labels,
		GREATEST(e.last OPERATOR(pg_catalog.-) r.arrived, 0::pg_catalog.int8)::pg_catalog.float8 AS value
	FROM eventstore.retention r
	CROSS JOIN eventstore.log_ends() e
	WHERE r.max_age IS NOT NULL OR r.max_count IS NOT NULL
	UNION ALL
	SELECT g.name, '{}'::pg_catalog.jsonb, g.value
	FROM (SELECT pg_catalog.count(*) AS streams, pg_catalog.min(k.since) AS since FROM eventstore.retention_skips k
		WHERE k.attempts OPERATOR(pg_catalog.>) 0) k
	CROSS JOIN (SELECT pg_catalog.count(*) AS streams FROM (SELECT FROM eventstore.streams s WHERE s.has_hidden LIMIT 10000) s) h
	CROSS JOIN LATERAL (VALUES
		('retention_skipped_streams', k.streams::pg_catalog.float8),
		('retention_skipped_seconds',
			COALESCE(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) k.since), 0)),
		('scavengeable_streams', h.streams::pg_catalog.float8)) g(name, value);
COMMENT ON VIEW eventstore.gauges_of_retention IS 'how far what ages out is hidden and removed; behind es_metrics';

CREATE FUNCTION @extschema@.es_metrics() RETURNS TABLE(name text, labels jsonb, value double precision, kind text, help text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 300 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_metrics() IS
	'how the store is doing: counters, histograms and gauges, in names, units and kinds as Prometheus wants them';
