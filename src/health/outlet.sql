/* ---- outlet: feeds and slots, standbys, logical copies ---- */

CREATE FUNCTION eventstore.look_at_feeds(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH feeds AS MATERIALIZED (
			SELECT f.*, format('SELECT * FROM %s.es_create_feed(%L, %L, %L, %L, %L)', v.home, f.name, f.categories, f.types, f.format, f.query) AS statement
			FROM eventstore.feed_settings f),
		slots AS MATERIALIZED (
			SELECT s.*, s.plugin = 'eventstore' AND s.database = current_database() AS is_ours,
				pg_wal_lsn_diff(CASE WHEN v.standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn) AS retained,
				to_jsonb(s) ->> 'invalidation_reason' AS invalidated
			FROM pg_replication_slots s),
		allowed AS MATERIALIZED (
			SELECT eventstore.setting_lists('output_plugin_libraries', 'eventstore') AS has,
				CASE WHEN NOT eventstore.setting_is_set('output_plugin_libraries') THEN ''
					WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('output_plugin_libraries', true) END AS names)
	SELECT 'critical', 'feeds are defined and wal_level is not logical',
		format('wal_level is %s: %s feeds cannot be read.', current_setting('wal_level'), count(*)),
		'ALTER SYSTEM SET wal_level = logical; -- then restart the server'
	FROM feeds WHERE current_setting('wal_level') <> 'logical' AND NOT v.standby
	HAVING count(*) > 0
	UNION ALL
	SELECT 'critical', 'feeds are defined and the output plugin is not allowed',
		format('output_plugin_libraries%s does not name eventstore: %s feeds cannot be read.', COALESCE(', ' || quote_literal(a.names) || ',', ''), count(*)),
		CASE WHEN a.names IS NOT NULL
			THEN format('ALTER SYSTEM SET output_plugin_libraries = %s; SELECT pg_reload_conf()',
				(SELECT string_agg(quote_literal(i.item), ', ') FROM (
					SELECT btrim(l.item, ' "') FROM string_to_table(a.names, ',') l(item) WHERE btrim(l.item, ' "') <> ''
					UNION ALL SELECT 'eventstore') i(item)))
			ELSE '-- add eventstore to output_plugin_libraries, which has others that the store''s owner may not see; then SELECT pg_reload_conf()' END
	FROM feeds CROSS JOIN allowed a
	WHERE NOT a.has
	GROUP BY a.names
	UNION ALL
	SELECT 'critical', 'a feed has no slot',
		format('Feed %L is defined, and replication slot %I is not there: it was dropped, or a failover or restore has not brought it. Its consumer goes on after the history that it has.', f.name, 'es_' || f.name),
		f.statement
	FROM feeds f WHERE NOT v.standby AND NOT EXISTS (SELECT FROM slots s WHERE s.slot_name = 'es_' || f.name)
	UNION ALL
	SELECT 'notice', 'a slot lets everything through',
		format('Replication slot %I was made by hand and has no definition.', s.slot_name),
		format('SELECT %s.es_alter_feed(%L, NULL, NULL, NULL)', v.home, substr(s.slot_name, 4))
	FROM slots s
	WHERE s.is_ours AND starts_with(s.slot_name, 'es_') AND NOT s.temporary AND NOT v.standby
		AND NOT EXISTS (SELECT FROM feeds f WHERE s.slot_name = 'es_' || f.name)
	UNION ALL
	SELECT 'critical', 'a slot has lost WAL that it needs',
		format('Replication slot %I%s can deliver nothing any more%s. Its consumer goes on after the history that it has.', s.slot_name,
			COALESCE(', of feed ' || quote_literal(f.name) || ',', ''), COALESCE(' (' || s.invalidated || ')', '')),
		CASE WHEN f.name IS NOT NULL AND NOT v.standby THEN format('SELECT %s.es_drop_feed(%L); %s', v.home, f.name, f.statement)
			ELSE format('SELECT pg_drop_replication_slot(%L)', s.slot_name) END
	FROM slots s LEFT JOIN feeds f ON s.is_ours AND s.slot_name = 'es_' || f.name
	WHERE s.wal_status = 'lost' OR s.invalidated IS NOT NULL
	UNION ALL
	SELECT 'warning', 'a slot is about to lose WAL that it needs',
		format('Replication slot %I keeps %s of WAL, and %s are left of max_slot_wal_keep_size, %s.', s.slot_name, pg_size_pretty(s.retained),
			pg_size_pretty(GREATEST(s.safe_wal_size, 0)), current_setting('max_slot_wal_keep_size')),
		format('ALTER SYSTEM SET max_slot_wal_keep_size = %L; SELECT pg_reload_conf()', 2 * k.setting::int8 || 'MB')
	FROM slots s CROSS JOIN pg_settings k
	WHERE k.name = 'max_slot_wal_keep_size' AND k.setting::int8 >= 0 AND s.wal_status <> 'lost'
		AND (s.wal_status = 'unreserved' OR s.safe_wal_size < 0.2 * k.setting::int8 * 1024 * 1024)
	UNION ALL
	SELECT 'warning', 'a slot that nobody reads keeps WAL',
		format('Replication slot %I%s has no consumer connected and keeps %s of WAL, more than max_wal_size, %s.', s.slot_name,
			CASE WHEN s.is_ours THEN ' of a feed' WHEN s.database IS NOT NULL THEN format(' of plugin %I in database %I', s.plugin, s.database) ELSE ' of a standby' END,
			pg_size_pretty(s.retained), current_setting('max_wal_size')),
		CASE WHEN s.is_ours AND starts_with(s.slot_name, 'es_') THEN format('SELECT %s.es_drop_feed(%L)', v.home, substr(s.slot_name, 4))
			ELSE format('SELECT pg_drop_replication_slot(%L)', s.slot_name) END || '; -- if nobody is to read it any more'
	FROM slots s
	WHERE NOT s.active AND s.wal_status <> 'lost' AND s.retained > pg_size_bytes(current_setting('max_wal_size'))
$$;
COMMENT ON FUNCTION eventstore.look_at_feeds(eventstore.visit) IS 'whether feeds can be read, and what slots hold back; behind es_doctor';

CREATE FUNCTION eventstore.timeline_begun(timeline bigint) RETURNS timestamptz
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_outlet_timeline_begun';
COMMENT ON FUNCTION eventstore.timeline_begun(bigint) IS 'when a promotion began a timeline, by the file that it has left; NULL: there is none; behind es_doctor';

CREATE FUNCTION eventstore.look_at_standbys(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH standbys AS MATERIALIZED (
		SELECT r.application_name, r.sync_state, r.state,
			pg_wal_lsn_diff(CASE WHEN v.standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, r.replay_lsn) AS behind
		FROM pg_stat_replication r
		WHERE r.state IN ('streaming', 'catchup')
			AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
			AND NOT EXISTS (SELECT FROM pg_subscription u WHERE u.subname = r.application_name)),
	ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e WHERE NOT v.loading),
	cut AS MATERIALIZED (
		SELECT q.last_value AS timeline, s.first_position - 1 AS given_up, h.begun
		FROM eventstore.timeline_seq q
			CROSS JOIN LATERAL (SELECT eventstore.timeline_begun(q.last_value) AS begun WHERE q.is_called AND q.last_value BETWEEN 2 AND 2147483647) h
			CROSS JOIN LATERAL (SELECT s.* FROM eventstore.segments s CROSS JOIN ends e WHERE s.first_position <= e.last ORDER BY s.segment DESC LIMIT 1) s)
	SELECT 'notice', 'no standby is synchronous',
		format('Standbys %s are asynchronous: what one of them lacks when it is promoted is lost; by now that are %s of WAL at most.', string_agg(quote_literal(s.application_name), ', '),
			pg_size_pretty(max(s.behind))),
		format('ALTER SYSTEM SET synchronous_standby_names = %L; SELECT pg_reload_conf()',
			format('ANY 1 (%s)', string_agg(DISTINCT '"' || replace(s.application_name, '"', '""') || '"', ', ')))
	FROM standbys s WHERE NOT v.standby
	HAVING count(*) > 0 AND bool_and(s.sync_state = 'async')
	UNION ALL
	SELECT 'warning', 'a standby is far behind',
		format('Standby %L has %s of WAL to replay, more than max_wal_size, %s. If its replay is paused, the statement, run there, lets it go on.', s.application_name, pg_size_pretty(s.behind), current_setting('max_wal_size')),
		'SELECT pg_wal_replay_resume()'
	FROM standbys s WHERE s.behind > pg_size_bytes(current_setting('max_wal_size'))
	UNION ALL
	SELECT 'warning', 'replay is paused',
		format('This standby has replayed up to %s and received up to %s.', pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn()),
		'SELECT pg_wal_replay_resume()'
	WHERE CASE WHEN v.standby THEN pg_is_wal_replay_paused() END
	UNION ALL
	SELECT 'warning', 'this standby receives no WAL',
		format('It has a primary to stream from and is not connected; it has replayed up to %s.', pg_last_wal_replay_lsn()),
		'shell: psql -d "$PRIMARY_CONNINFO" -c "SELECT pg_is_in_recovery()"'
	WHERE v.standby AND eventstore.setting_is_set('primary_conninfo') AND NOT EXISTS (SELECT FROM pg_stat_get_wal_receiver() w WHERE w.pid IS NOT NULL)
	UNION ALL
	SELECT 'notice', 'nobody writes the mark that standbys read by',
		format('Standbys are told up to position %s of %s; behind a hole they wait for the mark. It is the worker''s to write, each eventstore.settle_interval.', m.position, e.settled),
		format('SELECT %s.es_settle()', v.home)
	FROM eventstore.settled_mark m CROSS JOIN ends e
	WHERE NOT v.standby AND NOT v.subscriber AND EXISTS (SELECT FROM standbys) AND m.position < e.settled
		AND eventstore.lag_time(m.position, e.settled, NULL, NULL) >= v.patience
	UNION ALL
	SELECT 'notice', 'a promotion has cut the log off',
		format('The server was promoted at %s, to timeline %s, as an asynchronous standby perhaps: what the former primary had after position %s is lost, and positions up to %s are never given out. Whoever outside has an event after it has one that is no more.',
			c.begun::timestamptz(0), c.timeline, k.position, c.given_up),
		format('SELECT * FROM %s.es_read_all(0, 10, to_position => %s, backwards => true)', v.home, k.position)
	FROM cut c CROSS JOIN LATERAL (SELECT eventstore.last_event_upto(c.given_up) AS position) k
	WHERE NOT v.standby AND NOT v.subscriber AND c.begun > clock_timestamp() - interval '7 days' AND k.position BETWEEN 1 AND c.given_up - 1
$$;
COMMENT ON FUNCTION eventstore.look_at_standbys(eventstore.visit) IS 'whether standbys follow, what a promotion has cost; behind es_doctor';

CREATE FUNCTION eventstore.last_event_upto("position" bigint) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_outlet_last_event_upto';
COMMENT ON FUNCTION eventstore.last_event_upto(bigint) IS 'the position of the last event in the segment of a position, or in those before it; behind es_doctor';

/* A subscriber makes segments ahead of those that the publisher has told of, and may keep tables of projections that are gone. */
CREATE FUNCTION eventstore.look_at_copies(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH own AS MATERIALIZED (
			SELECT c.oid, c.relname, CASE WHEN c.relname ~ '^events_\d{1,18}$' THEN substr(c.relname, 8)::int8 END AS segment,
				CASE WHEN c.relname ~ '^projection_states_\d{1,18}$' THEN substr(c.relname, 19)::int8 END AS projection
			FROM pg_class c WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r'
				AND (c.relispartition OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))),
		published AS MATERIALIZED (
			SELECT p.pubname, p.oid, p.pubviaroot, o.oid AS relation, o.relname
			FROM pg_publication p CROSS JOIN own o
			WHERE NOT p.puballtables AND NOT EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid AND n.pnnspid = 'eventstore'::regnamespace)
				AND EXISTS (SELECT FROM pg_publication_rel r JOIN own x ON x.oid = r.prrelid WHERE r.prpubid = p.oid)
				AND NOT EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND (r.prrelid = o.oid
					OR r.prrelid IN (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = o.oid)))),
		subscriptions AS MATERIALIZED (
			SELECT s.oid, s.subname, s.subenabled FROM pg_subscription s
			WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
				AND EXISTS (SELECT FROM pg_subscription_rel r JOIN own o ON o.oid = r.srrelid WHERE r.srsubid = s.oid))
	SELECT 'warning', 'a publication lacks tables of the store',
		format('Publication %I has some of its tables and not %s: a subscriber gets half a store. CREATE PUBLICATION ... FOR TABLES IN SCHEMA eventstore has them all, also those to come.',
			p.pubname, string_agg(quote_ident(p.relname), ', ' ORDER BY p.relname)),
		format('ALTER PUBLICATION %I ADD TABLE %s', p.pubname, string_agg(format('eventstore.%I', p.relname), ', ' ORDER BY p.relname))
	FROM published p GROUP BY p.pubname
	UNION ALL
	SELECT 'warning', 'the subscription of the store is disabled',
		format('This store follows another one by subscription %I, and gets nothing.', s.subname),
		format('ALTER SUBSCRIPTION %I ENABLE', s.subname)
	FROM subscriptions s WHERE NOT s.subenabled
	UNION ALL
	SELECT 'warning', 'the subscription of the store does not run',
		format('Subscription %I has no process at work. Either all background workers are in use, or it fails again and again: the server''s log says why.', s.subname),
		format('ALTER SYSTEM SET max_worker_processes = %s; -- on standbys first; then restart the server', 2 * current_setting('max_worker_processes')::int)
	FROM subscriptions s
	WHERE s.subenabled AND clock_timestamp() - pg_postmaster_start_time() >= v.patience AND NOT v.standby
		AND NOT EXISTS (SELECT FROM pg_stat_subscription a WHERE a.subid = s.oid AND a.relid IS NULL AND a.pid IS NOT NULL)
	UNION ALL
	SELECT 'warning', 'the subscription of the store lacks tables',
		format('Subscription %I does not bring %s.', s.subname, string_agg(quote_ident(o.relname), ', ' ORDER BY o.relname)),
		format('ALTER SUBSCRIPTION %I REFRESH PUBLICATION', s.subname)
	FROM subscriptions s CROSS JOIN own o
	WHERE o.relname NOT IN ('feeds', 'feed_definitions', 'detached_segments') AND (o.segment IS NULL OR EXISTS (SELECT FROM eventstore.segments g WHERE g.segment = o.segment))
		AND (o.projection IS NULL OR EXISTS (SELECT FROM eventstore.projections j WHERE j.projection_id = o.projection))
		AND NOT EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srsubid = s.oid
			AND (r.srrelid = o.oid OR r.srrelid IN (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = o.oid)))
	GROUP BY s.subname
	UNION ALL
	SELECT 'notice', 'the store is still being copied',
		format('Subscription %I has not copied %s of its tables yet: nothing is settled here before.', s.subname, count(*)),
		format('SELECT srrelid::regclass, srsubstate FROM pg_subscription_rel WHERE srsubid = %s AND srsubstate <> ''r''', s.oid)
	FROM subscriptions s JOIN pg_subscription_rel r ON r.srsubid = s.oid
	WHERE r.srsubstate <> 'r'
	GROUP BY s.oid, s.subname
$$;
COMMENT ON FUNCTION eventstore.look_at_copies(eventstore.visit) IS 'whether logical copies of the store are whole; behind es_doctor';
