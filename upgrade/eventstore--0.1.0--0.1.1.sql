\echo Use "ALTER EXTENSION eventstore UPDATE" to load this file. \quit

SELECT eventstore.require_library('0.1.1');

/* ---- subscription ---- */

ALTER TABLE eventstore.subscriptions ADD COLUMN application text;
COMMENT ON COLUMN eventstore.subscriptions.application IS 'the application_name of the session that has made it; NULL if it had none, and before 0.1.1';

/* ---- listing ---- */

CREATE OR REPLACE VIEW @extschema@.es_subscriptions WITH (security_barrier) AS
	WITH ends AS MATERIALIZED (SELECT e.last FROM eventstore.log_ends() e)
	SELECT s.name AS subscription,
		p.partition,
		p.position,
		CASE WHEN p.member OPERATOR(pg_catalog.=) '' THEN NULL ELSE p.member END AS member,
		eventstore.partition_lease_until(p.subscription_id, p.partition, p.lease_until, p.kept_until) AS lease_until,
		GREATEST(e.last OPERATOR(pg_catalog.-) p.position, 0::pg_catalog.int8) AS lag,
		p.parked::pg_catalog.int8 AS parked,
		s.categories,
		s.types,
		s.max_attempts,
		eventstore.partition_lag_time(s.subscription_id, p.partition, s.partitions, p.position, e.last,
			p.pending OPERATOR(pg_catalog.+) p.parked OPERATOR(pg_catalog.+) p.discarded, s.categories, s.types, s.query) AS lag_time,
		s.query,
		eventstore.role_name(s.system_id, s.creator_oid, s.creator) AS creator,
		s.created_at,
		s.application
	FROM eventstore.subscriptions s
	JOIN eventstore.subscription_partitions p ON p.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
	CROSS JOIN ends e
	WHERE eventstore.may_see_all(s.categories);
COMMENT ON VIEW @extschema@.es_subscriptions IS
	'subscriptions, a row for each partition: how far it is acknowledged, who has it until when, how far it is behind, how many events are parked, what it is of, who has made it, when, by which application; for who has read or admin on that';

/* ---- service ---- */

/* Settings that lists are in are made of their items anew: ALTER SYSTEM takes them one by one. */
CREATE OR REPLACE FUNCTION eventstore.look_at_library(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'notice', 'the library is not preloaded',
		'There are no workers: projections, retention, seals and the mark that standbys read by wait for who calls es_run_projection, es_scavenge, es_seal and es_settle, and who waits for events polls.',
		format('ALTER SYSTEM SET shared_preload_libraries = %s; -- then restart the server',
			(SELECT string_agg(quote_literal(i.item), ', ') FROM (
				SELECT btrim(l.item, ' "') FROM string_to_table(current_setting('shared_preload_libraries'), ',') l(item) WHERE btrim(l.item, ' "') <> ''
				UNION ALL SELECT 'eventstore') i(item)))
	WHERE NOT v.preloaded
	UNION ALL
	SELECT 'warning', 'the library and the extension are of different versions',
		format('The library is %s, the extension %s.', l.version, x.extversion)
			|| CASE WHEN a.default_version IS DISTINCT FROM l.version THEN format(' The files installed are of version %s.', a.default_version) ELSE '' END,
		CASE WHEN a.default_version IS DISTINCT FROM l.version
				THEN CASE WHEN v.preloaded THEN 'shell: pg_ctl restart -D "$PGDATA"' ELSE '\connect' END
			WHEN string_to_array(l.version, '.')::int[] < string_to_array(x.extversion, '.')::int[]
				THEN format('-- install the files of version %s of eventstore on this server', x.extversion)
			ELSE 'ALTER EXTENSION eventstore UPDATE' END
	FROM pg_extension x CROSS JOIN eventstore.library_version() l(version)
		LEFT JOIN pg_available_extensions a ON a.name = x.extname
	WHERE x.extname = 'eventstore' AND x.extversion <> l.version
	UNION ALL
	SELECT 'warning', 'the library on disk is another one than is loaded',
		CASE WHEN v.preloaded THEN 'It was replaced after the server was started, and runs from the next start on.'
			ELSE 'It was replaced after this session has loaded it. New sessions have the new one.' END,
		CASE WHEN v.preloaded THEN 'shell: pg_ctl restart -D "$PGDATA"' ELSE '\connect' END
	WHERE eventstore.library_is_replaced()
$$;
