/* ---- service: the server's settings, the library, the worker ---- */

CREATE FUNCTION eventstore.library_is_replaced() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_library_is_replaced';
COMMENT ON FUNCTION eventstore.library_is_replaced() IS 'whether the file of the library is another one than was loaded; behind es_doctor';

CREATE FUNCTION eventstore.setting_is_set(name text) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_setting_is_set';
COMMENT ON FUNCTION eventstore.setting_is_set(text) IS 'whether a setting of the server is neither missing nor empty, whoever may read it; behind es_doctor';

CREATE FUNCTION eventstore.setting_lists(name text, item text) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_setting_lists';
COMMENT ON FUNCTION eventstore.setting_lists(text, text) IS 'whether a setting of the server that is a list has an item, whoever may read it; NULL: there is no such setting; behind es_doctor';

CREATE FUNCTION eventstore.worker_state(OUT looked_after boolean, OUT wanted boolean, OUT since timestamptz, OUT held_by int, OUT workers int) RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_worker_state';
COMMENT ON FUNCTION eventstore.worker_state() IS
	'whether this database has its worker, or since when it lacks one, who holds it off, how many there are; behind es_doctor';

CREATE FUNCTION eventstore.is_left_out() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_is_left_out';
COMMENT ON FUNCTION eventstore.is_left_out() IS 'whether more databases have a store than can be looked after, and this one is not among those; behind es_doctor';

CREATE FUNCTION eventstore.troubles(OUT task text, OUT failures bigint, OUT since timestamptz, OUT last timestamptz, OUT error text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'es_service_troubles';
COMMENT ON FUNCTION eventstore.troubles() IS 'background work of this database that fails now; behind es_doctor';

/*
 * Settings that lists are in are made of their items anew: ALTER SYSTEM takes them one by one. Some settings are for superusers,
 * and the owner, as whom looks run, need not be one. This look calls nothing that the library of a former release lacks.
 */
CREATE FUNCTION eventstore.look_at_library(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'notice', 'the library is not preloaded',
		'There are no workers: projections, retention, seals and the mark that standbys read by wait for who calls es_run_projection, es_scavenge, es_seal and es_settle, and who waits for events polls.',
		CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')
			THEN format('ALTER SYSTEM SET shared_preload_libraries = %s; -- then restart the server',
				(SELECT string_agg(quote_literal(i.item), ', ') FROM (
					SELECT btrim(l.item, ' "') FROM string_to_table(current_setting('shared_preload_libraries'), ',') l(item) WHERE btrim(l.item, ' "') <> ''
					UNION ALL SELECT 'eventstore') i(item)))
			ELSE '-- add eventstore to shared_preload_libraries, of which the store''s owner may not see what is there; then restart the server' END
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
COMMENT ON FUNCTION eventstore.look_at_library(eventstore.visit) IS 'whether the library is preloaded, and the one that belongs to the extension; behind es_doctor';

CREATE FUNCTION eventstore.look_at_worker(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH worker AS MATERIALIZED (
		SELECT w.*, CASE WHEN m.own > 0 THEN m.own ELSE GREATEST(m.server / 2, 1) END AS most, m.server
		FROM eventstore.worker_state() w
			CROSS JOIN (SELECT current_setting('eventstore.max_workers')::int AS own, current_setting('max_worker_processes')::int AS server) m
		WHERE v.preloaded AND NOT v.standby)
	SELECT 'warning', 'there are too few workers',
		format('%s databases have a worker, no more may, and this one has none.', w.workers),
		format('ALTER SYSTEM SET eventstore.max_workers = %s; SELECT pg_reload_conf()', w.most + 1)
			|| CASE WHEN w.most + 1 > w.server / 2
				THEN format('; ALTER SYSTEM SET max_worker_processes = %s; -- on standbys first; then restart the server', GREATEST(2 * (w.most + 1), w.server))
				ELSE '' END
	FROM worker w WHERE w.wanted AND NOT w.looked_after AND w.held_by IS NULL AND w.workers >= w.most
	UNION ALL
	SELECT 'warning', 'more databases have a store than can be looked after',
		'All places are taken, and this one came later: nothing is done for it in the background. A place gets free where a store or its database is dropped; the next session that uses this store takes it.',
		'-- drop a database that is not needed, or move this store to another server'
	WHERE v.preloaded AND NOT v.standby AND eventstore.is_left_out()
	UNION ALL
	SELECT 'warning', 'the worker is held off',
		format('Process %s wants the database for itself, for a CREATE or DROP DATABASE say.', w.held_by),
		format('SELECT pg_terminate_backend(%s)', w.held_by)
	FROM worker w WHERE NOT w.looked_after AND w.held_by IS NOT NULL AND clock_timestamp() - w.since >= v.patience
	UNION ALL
	SELECT 'warning', 'no worker looks after the store',
		format('There has been none since %s, and room for %s more. The server''s log says why it does not start; where all background workers are in use, it cannot.',
			w.since::timestamptz(0), w.most - w.workers),
		format('ALTER SYSTEM SET max_worker_processes = %s; -- on standbys first; then restart the server', 2 * w.server)
	FROM worker w WHERE w.wanted AND NOT w.looked_after AND w.held_by IS NULL AND w.workers < w.most AND clock_timestamp() - w.since >= v.patience
	UNION ALL
	SELECT 'warning', 'background work fails',
		format('%s: it has failed %s times since %s.', t.task, t.failures, t.since::timestamptz(0))
			|| CASE WHEN v.reads THEN format(' Last: %L.', t.error) ELSE '' END,
		CASE t.task
			WHEN 'settling' THEN format('SELECT %s.es_settle()', v.home)
			WHEN 'sealing' THEN format('SELECT %s.es_seal()', v.home)
			WHEN 'retention' THEN format('SELECT count(*) FROM %s.es_scavenge()', v.home)
			WHEN 'scavenging' THEN format('SELECT count(*) FROM %s.es_scavenge()', v.home)
			WHEN 'projections' THEN format('SELECT %s.es_run_projection(p.projection) FROM %s.es_projections p WHERE p.mode = ''async''', v.home, v.home)
			WHEN 'indexing' THEN format('SELECT %s.es_index_type(t.type) FROM %s.es_indexed_types t', v.home, v.home)
			WHEN 'freezing' THEN 'VACUUM (FREEZE) eventstore.events'
			ELSE format('SELECT * FROM %s.es_segments WHERE state = ''failed''', v.home) END
	FROM eventstore.troubles() t
	WHERE t.task NOT IN ('segments', 'keys')
$$;
COMMENT ON FUNCTION eventstore.look_at_worker(eventstore.visit) IS 'whether the store has its worker, and that one no trouble; behind es_doctor';

CREATE FUNCTION eventstore.look_at_settings(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'warning', 'fsync is off',
		'A crash of the machine may leave a database that cannot be read, and positions that come back with other events.',
		'ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()'
	WHERE current_setting('fsync') = 'off'
	UNION ALL
	SELECT 'notice', 'full_page_writes is off',
		'A crash of the machine may leave pages half written, unless the file system sees to it that it does not.',
		'ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()'
	WHERE current_setting('full_page_writes') = 'off'
	UNION ALL
	SELECT 'notice', 'commits are not durable',
		format('synchronous_commit is off, by the %s: the events of the last moment before a crash may be lost, though nobody has read them yet.', s.source),
		CASE s.source
			WHEN 'database' THEN format('ALTER DATABASE %I RESET synchronous_commit', current_database())
			WHEN 'user' THEN format('ALTER ROLE %I RESET synchronous_commit', session_user)
			WHEN 'database user' THEN format('ALTER ROLE %I IN DATABASE %I RESET synchronous_commit', session_user, current_database())
			ELSE 'ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()' END
	FROM pg_settings s
	WHERE s.name = 'synchronous_commit' AND s.setting = 'off' AND s.source NOT IN ('session', 'client')
	UNION ALL
	SELECT 'warning', 'autovacuum is off',
		format('autovacuum is %s, track_counts is %s: dead rows pile up, and statistics get old.', current_setting('autovacuum'), current_setting('track_counts')),
		'ALTER SYSTEM SET autovacuum = on; ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf()'
	WHERE current_setting('autovacuum') = 'off' OR EXISTS (SELECT FROM pg_settings s WHERE s.name = 'track_counts' AND s.reset_val = 'off')
	UNION ALL
	SELECT 'notice', 'settings wait for a restart',
		format('The configuration has other values by now of %s.', string_agg(s.name, ', ' ORDER BY s.name)),
		'shell: pg_ctl restart -D "$PGDATA"'
	FROM pg_settings s
	WHERE s.pending_restart AND (s.name LIKE 'eventstore.%' OR s.name IN ('shared_preload_libraries', 'wal_level', 'max_worker_processes', 'max_replication_slots',
		'max_wal_senders', 'max_prepared_transactions', 'max_connections', 'max_locks_per_transaction', 'shared_buffers'))
	HAVING count(*) > 0
	UNION ALL
	SELECT 'notice', 'no replication slot is free',
		format('All %s are in use: a feed cannot be made, nor a standby with a slot.', current_setting('max_replication_slots')),
		format('ALTER SYSTEM SET max_replication_slots = %s; -- then restart the server', 2 * current_setting('max_replication_slots')::int)
	WHERE current_setting('max_replication_slots')::int > 0
		AND (SELECT count(*) FROM pg_replication_slots) >= current_setting('max_replication_slots')::int
	UNION ALL
	SELECT 'notice', 'no walsender is free',
		format('All %s are in use: one more consumer of a feed, or standby, cannot connect.', current_setting('max_wal_senders')),
		format('ALTER SYSTEM SET max_wal_senders = %s; -- on standbys first; then restart the server', 2 * current_setting('max_wal_senders')::int)
	WHERE current_setting('max_wal_senders')::int > 0
		AND (SELECT count(*) FROM pg_stat_replication) >= current_setting('max_wal_senders')::int
$$;
COMMENT ON FUNCTION eventstore.look_at_settings(eventstore.visit) IS 'settings of the server that harm the store; behind es_doctor';
