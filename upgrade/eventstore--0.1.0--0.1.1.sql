\echo Use "ALTER EXTENSION eventstore UPDATE" to load this file. \quit

SELECT eventstore.require_library('0.1.1');

/* ---- segment ---- */

COMMENT ON FUNCTION @extschema@.es_set_segment_size(bigint) IS
	'sets how many positions a segment holds (100 to 2^40, default 2^24); only before the first append, for who has admin on *';

/* ---- latest ---- */

/* This server's own: a subscriber finds it out by itself, should it go on without its publisher. */
CREATE TABLE eventstore.segment_times (
	segment bigint NOT NULL,
	latest_at timestamptz NOT NULL,
	CONSTRAINT segment_times_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE eventstore.segment_times IS 'of sealed segments, when the last event was recorded: appends to streams that have been silent since go by it, and read no row there';
COMMENT ON COLUMN eventstore.segment_times.latest_at IS 'no event of the segment was recorded later; infinity if it could not be read';
SELECT pg_catalog.pg_extension_config_dump('eventstore.segment_times', '');

CREATE TRIGGER guard_own BEFORE INSERT OR UPDATE OR DELETE ON eventstore.segment_times
	FOR EACH ROW EXECUTE FUNCTION eventstore.guard_own();
ALTER TABLE eventstore.segment_times ENABLE ALWAYS TRIGGER guard_own;

/* DO: of this table what server/guard.sql and server/library.sql do of all. */
DO $$
BEGIN
	EXECUTE 'REVOKE ALL ON eventstore.segment_times FROM PUBLIC';
	EXECUTE 'CREATE TRIGGER guard_rows BEFORE UPDATE OR DELETE ON eventstore.segment_times
		FOR EACH ROW EXECUTE FUNCTION eventstore.guard_rows()';
	EXECUTE 'CREATE TRIGGER guard_statement BEFORE INSERT OR TRUNCATE ON eventstore.segment_times
		FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard_statement()';
	EXECUTE 'ALTER TABLE eventstore.segment_times ENABLE ALWAYS TRIGGER guard_rows';
	EXECUTE 'ALTER TABLE eventstore.segment_times ENABLE ALWAYS TRIGGER guard_statement';
	EXECUTE pg_catalog.format('ALTER TABLE eventstore.segment_times OWNER TO %I',
		(SELECT r.rolname FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) x.extowner
			WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore'));
END
$$;

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

/* ---- scavenge ---- */

CREATE OR REPLACE FUNCTION @extschema@.es_scavenge(max_events bigint DEFAULT NULL) RETURNS TABLE(category text, events bigint, bytes bigint)
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';

/* ---- service ---- */

CREATE FUNCTION eventstore.setting_is_set(name text) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_setting_is_set';
COMMENT ON FUNCTION eventstore.setting_is_set(text) IS 'whether a setting of the server is neither missing nor empty, whoever may read it; behind es_doctor';

CREATE FUNCTION eventstore.is_left_out() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_is_left_out';
COMMENT ON FUNCTION eventstore.is_left_out() IS 'whether more databases have a store than can be looked after, and this one is not among those; behind es_doctor';

CREATE FUNCTION eventstore.setting_lists(name text, item text) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_service_setting_lists';
COMMENT ON FUNCTION eventstore.setting_lists(text, text) IS 'whether a setting of the server that is a list has an item, whoever may read it; NULL: there is no such setting; behind es_doctor';

CREATE OR REPLACE FUNCTION eventstore.look_at_library(v eventstore.visit) RETURNS SETOF eventstore.finding
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

CREATE OR REPLACE FUNCTION eventstore.look_at_worker(v eventstore.visit) RETURNS SETOF eventstore.finding
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

/* ---- mirror ---- */

COMMENT ON FUNCTION eventstore.after_subscription() IS
	'event trigger: fetches the publisher''s rows of eventstore.segments, leaves tables of states to the rows of their projections; lets what was a logical subscriber go on by itself';

CREATE EVENT TRIGGER eventstore_after_refresh ON ddl_command_end
	WHEN TAG IN ('ALTER SUBSCRIPTION')
	EXECUTE FUNCTION eventstore.after_subscription();
COMMENT ON EVENT TRIGGER eventstore_after_refresh IS 'tables of states are subscribed to with the rows of their projections';
ALTER EVENT TRIGGER eventstore_after_refresh ENABLE ALWAYS;

/* DO: not for all event triggers, as in server/library.sql: an administrator may have given others away. */
DO $$
BEGIN
	EXECUTE pg_catalog.format('ALTER EVENT TRIGGER eventstore_after_refresh OWNER TO %I',
		(SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) 10::pg_catalog.oid));
END
$$;

/* ---- ledger ---- */

CREATE OR REPLACE FUNCTION eventstore.look_at_segments(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH parts AS MATERIALIZED (
			SELECT c.oid, c.relname, CASE WHEN c.relname ~ '^events_\d{1,18}$' THEN substr(c.relname, 8)::int8 END AS number
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = to_regclass('eventstore.events')),
		uneven AS MATERIALIZED (
			SELECT s.segment, s.first_position, s.last_position, p.oid, p.relname, p.number
			FROM eventstore.segments s FULL JOIN parts p ON p.number = s.segment
			WHERE s.segment IS NULL OR (p.oid IS NULL AND NOT s.emptied)),
		lost AS MATERIALIZED (
			SELECT u.segment, u.first_position, u.last_position, to_regclass(format('eventstore.events_%s', u.segment)) IS NOT NULL AS is_there
			FROM uneven u
			WHERE u.segment IS NOT NULL AND NOT EXISTS (SELECT FROM eventstore.detached_segments d WHERE d.segment = u.segment)),
		others AS MATERIALIZED (
			SELECT string_agg(quote_ident(t.evtname), ', ' ORDER BY t.evtname) AS names,
				string_agg(format('ALTER EVENT TRIGGER %I DISABLE', t.evtname), '; ' ORDER BY t.evtname) AS statements
			FROM pg_event_trigger t
			WHERE t.evtenabled <> 'D' AND t.evtevent IN ('ddl_command_start', 'ddl_command_end', 'table_rewrite')
				AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e'))
	SELECT 'critical', 'a segment was detached by hand',
		format('Table eventstore.events_%s, with the events from position %s to %s, is not part of the log any more: who needs one of them fails.', l.segment, l.first_position, l.last_position),
		format('SELECT %s.es_attach_segment(%L)', v.home, 'eventstore.events_' || l.segment)
	FROM lost l WHERE l.is_there
	UNION ALL
	SELECT 'critical', 'a segment is gone',
		format('There is no table eventstore.events_%s, which had the events from position %s to %s: who needs one of them fails. Put the name of a dump that has it in the place of DUMP.',
			l.segment, l.first_position, l.last_position),
		format('shell: pg_restore -d "$PGDATABASE" -n eventstore -t events_%s DUMP && psql -d "$PGDATABASE" -c ''%s''',
			l.segment, replace(format('SELECT %s.es_attach_segment(''eventstore.events_%s'')', v.home, l.segment), '''', '''"''"'''))
	FROM lost l WHERE NOT l.is_there
	UNION ALL
	SELECT 'critical', 'a segment is not in eventstore.segments',
		format('Table eventstore.%I is attached to the log (%s), and has no row there: readers pass it.', p.relname, b.bounds),
		format('INSERT INTO eventstore.segments (segment, first_position, last_position) VALUES (%s, %s, %s)', p.number, b.numbers[1], b.numbers[2]::int8 - 1)
	FROM uneven p JOIN pg_class c ON c.oid = p.oid
		CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) g(bounds)
		CROSS JOIN LATERAL (SELECT g.bounds, regexp_match(g.bounds, 'FROM \(''(\d+)''\) TO \(''(\d+)''\)')) b(bounds, numbers)
	WHERE p.number IS NOT NULL AND b.numbers IS NOT NULL AND NOT v.subscriber
	UNION ALL
	SELECT 'critical', 'a segment could not be made',
		format('Segment %s: it was tried %s times, the last at %s, with error %L. Without it appends fail at position %s; it is tried again as events are appended.',
			f.segment, f.attempts, f.failed_at::timestamptz(0), f.error, f.first_position)
		|| COALESCE(' Event triggers that fire for its tables: ' || o.names || '.', ''),
		COALESCE(o.statements, format('SELECT * FROM %s.es_segments WHERE state = ''failed''', v.home))
	FROM eventstore.maker_failure f CROSS JOIN others o
	WHERE NOT EXISTS (SELECT FROM eventstore.segments s WHERE s.segment = f.segment)
	UNION ALL
	SELECT 'critical', 'a table has the name of a coming segment',
		format('eventstore.%I is no segment, and in the way of the one that is to be called so.', c.relname),
		format('ALTER TABLE eventstore.%I RENAME TO %I', c.relname, c.relname || '_renamed')
	FROM (SELECT COALESCE(max(s.segment), -1) AS newest FROM eventstore.segments s) m
		CROSS JOIN generate_series(1, 3) n(ahead)
		JOIN pg_class c ON c.oid = to_regclass(format('eventstore.events_%s', m.newest + n.ahead))
	WHERE NOT EXISTS (SELECT FROM parts p WHERE p.oid = c.oid)
	UNION ALL
	SELECT 'warning', 'the log has a default partition',
		format('Table %s takes the events that no segment is there for, and keeps segments from being made for these.', t.partdefid::regclass),
		format('ALTER TABLE eventstore.events DETACH PARTITION %s', t.partdefid::regclass)
	FROM pg_partitioned_table t WHERE t.partrelid = to_regclass('eventstore.events') AND t.partdefid <> 0
	UNION ALL
	SELECT 'critical', 'a column must be given, and appends give none',
		format('Column %I of table eventstore.%I is NOT NULL and has no default.', a.attname, own.relation),
		format('ALTER TABLE eventstore.%I ALTER COLUMN %I DROP NOT NULL', own.relation, a.attname)
	FROM (VALUES ('events', 13), ('streams', 10)) own(relation, columns)
		JOIN pg_attribute a ON a.attrelid = to_regclass('eventstore.' || own.relation) AND a.attnum > own.columns
	WHERE a.attnotnull AND NOT a.attisdropped AND NOT a.atthasdef AND a.attidentity = ''
$$;

CREATE OR REPLACE VIEW eventstore.own_indexes AS SELECT o.relation, o.name, o.statement FROM (VALUES
	('detached_segments', 'detached_segments_pkey', 'ALTER TABLE eventstore.detached_segments ADD CONSTRAINT detached_segments_pkey PRIMARY KEY (segment)'),
	('feed_definitions', 'feed_definitions_by_key', 'ALTER TABLE eventstore.feed_definitions ADD CONSTRAINT feed_definitions_by_key PRIMARY KEY (definition, revision, part)'),
	('feeds', 'feeds_by_name', 'ALTER TABLE eventstore.feeds ADD CONSTRAINT feeds_by_name PRIMARY KEY (name)'),
	('grants', 'grants_by_id', 'ALTER TABLE eventstore.grants ADD CONSTRAINT grants_by_id PRIMARY KEY (grant_id)'),
	('indexed_types', 'indexed_types_pkey', 'ALTER TABLE eventstore.indexed_types ADD CONSTRAINT indexed_types_pkey PRIMARY KEY (type)'),
	('projection_progress', 'projection_progress_by_key', 'ALTER TABLE eventstore.projection_progress ADD CONSTRAINT projection_progress_by_key PRIMARY KEY (projection_id, generation)'),
	('projection_skips', 'projection_skips_by_key', 'ALTER TABLE eventstore.projection_skips ADD CONSTRAINT projection_skips_by_key PRIMARY KEY (projection_id, "position")'),
	('projections', 'projections_by_id', 'ALTER TABLE eventstore.projections ADD CONSTRAINT projections_by_id PRIMARY KEY (projection_id)'),
	('projections', 'projections_by_name', 'ALTER TABLE eventstore.projections ADD CONSTRAINT projections_by_name UNIQUE (name)'),
	('protections', 'protections_by_category', 'ALTER TABLE eventstore.protections ADD CONSTRAINT protections_by_category PRIMARY KEY (category, after_position)'),
	('reducer_handlers', 'reducer_handlers_by_type', 'ALTER TABLE eventstore.reducer_handlers ADD CONSTRAINT reducer_handlers_by_type PRIMARY KEY (reducer, event_type)'),
	('reducers', 'reducers_by_name', 'ALTER TABLE eventstore.reducers ADD CONSTRAINT reducers_by_name PRIMARY KEY (reducer)'),
	('retention', 'retention_by_category', 'ALTER TABLE eventstore.retention ADD CONSTRAINT retention_by_category PRIMARY KEY (category)'),
	('retention_skips', 'retention_skips_by_stream', 'ALTER TABLE eventstore.retention_skips ADD CONSTRAINT retention_skips_by_stream PRIMARY KEY (stream)'),
	('scavenged', 'scavenged_pkey', 'ALTER TABLE eventstore.scavenged ADD CONSTRAINT scavenged_pkey PRIMARY KEY ("position")'),
	('schemas', 'schemas_by_type', 'ALTER TABLE eventstore.schemas ADD CONSTRAINT schemas_by_type PRIMARY KEY (type, version)'),
	('seal_tiles', 'seal_tiles_pkey', 'ALTER TABLE eventstore.seal_tiles ADD CONSTRAINT seal_tiles_pkey PRIMARY KEY (level, tile)'),
	('seals', 'seals_pkey', 'ALTER TABLE eventstore.seals ADD CONSTRAINT seals_pkey PRIMARY KEY ("position")'),
	('segment_times', 'segment_times_pkey', 'ALTER TABLE eventstore.segment_times ADD CONSTRAINT segment_times_pkey PRIMARY KEY (segment)'),
	('segments', 'segments_pkey', 'ALTER TABLE eventstore.segments ADD CONSTRAINT segments_pkey PRIMARY KEY (segment)'),
	('snapshot_policies', 'snapshot_policies_by_reducer', 'ALTER TABLE eventstore.snapshot_policies ADD CONSTRAINT snapshot_policies_by_reducer PRIMARY KEY (reducer)'),
	('snapshots', 'snapshots_by_reducer', 'CREATE INDEX snapshots_by_reducer ON eventstore.snapshots USING btree (reducer, stream_id)'),
	('snapshots', 'snapshots_by_stream', 'CREATE INDEX snapshots_by_stream ON eventstore.snapshots USING btree (stream_id)'),
	('streams', 'streams_by_category', 'CREATE INDEX streams_by_category ON eventstore.streams USING btree (category_key, stream_id)'),
	('streams', 'streams_by_id', 'ALTER TABLE eventstore.streams ADD CONSTRAINT streams_by_id PRIMARY KEY (stream_id)'),
	('streams', 'streams_by_name', 'ALTER TABLE eventstore.streams ADD CONSTRAINT streams_by_name UNIQUE (name)'),
	('streams', 'streams_with_hidden', 'CREATE INDEX streams_with_hidden ON eventstore.streams USING btree (stream_id) WHERE has_hidden'),
	('subjects', 'subjects_by_key', 'ALTER TABLE eventstore.subjects ADD CONSTRAINT subjects_by_key PRIMARY KEY (key_id)'),
	('subjects', 'subjects_by_subject', 'CREATE INDEX subjects_by_subject ON eventstore.subjects USING hash (subject)'),
	('subscription_failures', 'subscription_failures_by_key', 'ALTER TABLE eventstore.subscription_failures ADD CONSTRAINT subscription_failures_by_key PRIMARY KEY (subscription_id, partition, "position")'),
	('subscription_members', 'subscription_members_by_key', 'ALTER TABLE eventstore.subscription_members ADD CONSTRAINT subscription_members_by_key PRIMARY KEY (subscription_id, member)'),
	('subscription_partitions', 'subscription_partitions_by_key', 'ALTER TABLE eventstore.subscription_partitions ADD CONSTRAINT subscription_partitions_by_key PRIMARY KEY (subscription_id, partition)'),
	('subscriptions', 'subscriptions_by_id', 'ALTER TABLE eventstore.subscriptions ADD CONSTRAINT subscriptions_by_id PRIMARY KEY (subscription_id)'),
	('subscriptions', 'subscriptions_by_name', 'ALTER TABLE eventstore.subscriptions ADD CONSTRAINT subscriptions_by_name UNIQUE (name)'),
	('upcasters', 'upcasters_by_type', 'ALTER TABLE eventstore.upcasters ADD CONSTRAINT upcasters_by_type PRIMARY KEY (type, from_version)')) o(relation, name, statement);

CREATE OR REPLACE FUNCTION eventstore.look_at_tables(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH own AS MATERIALIZED (
		SELECT c.oid, c.relname, c.reloptions, c.relfrozenxid FROM pg_class c
		WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r')
	(SELECT 'notice', 'dead rows pile up in a table',
		format('Table eventstore.%I has about %s dead rows and %s live ones; %s.', c.relname, s.dead, s.live,
			COALESCE('it was vacuumed last at ' || GREATEST(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid))::timestamptz(0),
				'it has not been vacuumed since the statistics began')),
		format('VACUUM eventstore.%I', c.relname)
	FROM own c CROSS JOIN LATERAL (SELECT pg_stat_get_dead_tuples(c.oid), pg_stat_get_live_tuples(c.oid)) s(dead, live)
	WHERE s.dead > 10000 AND s.dead > s.live
	ORDER BY s.dead DESC LIMIT 10)
	UNION ALL
	(SELECT 'warning', 'autovacuum is off for a table',
		format('Table eventstore.%I: nobody removes its dead rows, but to prevent wraparound.', c.relname),
		format('ALTER TABLE eventstore.%I RESET (autovacuum_enabled)', c.relname)
	FROM own c
	WHERE c.reloptions IS NOT NULL AND EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
	ORDER BY c.relname LIMIT 10)
	UNION ALL
	SELECT 'warning', 'tables wait long to be frozen',
		format('The oldest transaction in tables %s is %s transactions old, and autovacuum was due at %s. At 2 billion the server stops writing. What this waits for may be an old transaction, prepared transaction or slot.',
			string_agg(quote_ident(c.relname), ', ' ORDER BY c.relname), max(age(c.relfrozenxid)), current_setting('autovacuum_freeze_max_age')),
		'VACUUM (FREEZE) ' || string_agg(format('eventstore.%I', c.relname), ', ' ORDER BY c.relname)
	FROM own c
	WHERE age(c.relfrozenxid) > 1.5 * current_setting('autovacuum_freeze_max_age')::int8
	HAVING count(*) > 0
$$;

/* ---- outlet ---- */

CREATE OR REPLACE FUNCTION eventstore.look_at_feeds(v eventstore.visit) RETURNS SETOF eventstore.finding
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

CREATE FUNCTION eventstore.timeline_begun(timeline bigint) RETURNS timestamptz
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_outlet_timeline_begun';
COMMENT ON FUNCTION eventstore.timeline_begun(bigint) IS 'when a promotion began a timeline, by the file that it has left; NULL: there is none; behind es_doctor';

CREATE OR REPLACE FUNCTION eventstore.look_at_standbys(v eventstore.visit) RETURNS SETOF eventstore.finding
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

CREATE OR REPLACE FUNCTION eventstore.look_at_copies(v eventstore.visit) RETURNS SETOF eventstore.finding
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

/* ---- fault: what an append would refuse ---- */

CREATE FUNCTION eventstore.append_fault(stream text, type text, data jsonb, metadata jsonb) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_fault_of_append';
COMMENT ON FUNCTION eventstore.append_fault(text, text, jsonb, jsonb) IS
	'what of a new event''s data and metadata would be refused, by their size and by what is defined of the event''s type and category; NULL: nothing';
REVOKE ALL ON FUNCTION eventstore.append_fault(text, text, jsonb, jsonb) FROM PUBLIC;

/* DO: not for all functions, as in server/library.sql: an administrator may have granted and revoked. */
DO $$
BEGIN
	EXECUTE pg_catalog.format('ALTER FUNCTION eventstore.append_fault(text, text, jsonb, jsonb) OWNER TO %I',
		(SELECT r.rolname FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) x.extowner
			WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore'));
END
$$;

/* ---- consumer ---- */

CREATE OR REPLACE FUNCTION eventstore.look_at_projections(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e)
	SELECT 'critical', 'a projection has failed',
		format('%s %L stands at position %s since %s, after %s attempts%s.', CASE WHEN g.live THEN 'Projection' ELSE 'The rebuild of projection' END,
			p.name, g.position, g.failed_since::timestamptz(0), g.attempts, COALESCE('; the event at position ' || g.error_position || ' fails', ''))
		|| CASE WHEN v.reads THEN format(' Error: %L.', g.error) ELSE ' Its error is shown by es_projections to who may read.' END
		|| ' Put right what fails; es_skip_event steps over the event.',
		format('SELECT %s.es_run_projection(%L)', v.home, p.name)
	FROM eventstore.projections p JOIN eventstore.projection_progress g ON g.projection_id = p.projection_id
	WHERE g.error IS NOT NULL
	UNION ALL
	SELECT 'warning', 'a projection is behind',
		format('Projection %L is at position %s of %s; the oldest event that it lacks is %s old.', p.name, g.position, e.last, justify_interval(l.age)::interval(0))
			|| CASE WHEN v.preloaded THEN '' ELSE ' No worker runs it.' END,
		format('SELECT %s.es_run_projection(%L)', v.home, p.name)
	FROM eventstore.projections p JOIN eventstore.projection_progress g ON g.projection_id = p.projection_id AND g.live AND g.error IS NULL
		CROSS JOIN ends e
		CROSS JOIN LATERAL (SELECT CASE WHEN g.position < e.settled THEN eventstore.lag_time(g.position, e.settled, p.categories, p.types) END) l(age)
	WHERE p.mode = 'async' AND l.age >= v.patience
	UNION ALL
	SELECT 'critical', 'the reducer of a projection is gone',
		format('Projection %L needs reducer %L, which is not there.', p.name, p.reducer),
		format('SELECT %s.es_create_reducer(%L)', v.home, p.reducer)
	FROM eventstore.projections p
	WHERE p.reducer IS NOT NULL AND p.reducer NOT IN ('merge', 'merge_patch', 'count', 'last')
		AND NOT EXISTS (SELECT FROM eventstore.reducers r WHERE r.reducer = p.reducer)
	UNION ALL
	SELECT 'critical', 'the creator of a projection is gone',
		format('Projection %L runs as role %I, which is not there.', p.name, p.creator),
		format('CREATE ROLE %I', p.creator)
	FROM eventstore.projections p
	WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = p.creator)
$$;

/* ---- keeping ---- */

CREATE OR REPLACE FUNCTION eventstore.look_at_secrets(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH needed AS MATERIALIZED (
		SELECT string_agg(DISTINCT quote_literal(p.category), ', ') AS categories FROM eventstore.protections p WHERE p.paths <> '{}'),
		setting AS MATERIALIZED (
		SELECT CASE WHEN v.preloaded THEN '' ELSE 'LOAD ''eventstore''; ' END
			|| 'ALTER SYSTEM SET eventstore.master_key_command = ''COMMAND''; SELECT pg_reload_conf()' AS statement)
	SELECT 'critical', 'fields are protected and there is no master key',
		format('eventstore.master_key_command is empty: protected fields of categories %s can be neither written nor read. Put the command that prints the master key in the place of COMMAND.', n.categories),
		s.statement
	FROM needed n CROSS JOIN setting s
	WHERE n.categories IS NOT NULL AND NOT eventstore.setting_is_set('eventstore.master_key_command')
	UNION ALL
	SELECT 'critical', 'the master key is not to be had',
		format('Protected fields can be neither written nor read by who has not got it yet; that failed %s times since %s. Of eventstore.master_key_command: %s Put the right command in the place of COMMAND; or, if the new key is meant, call es_rotate_master_key with the former command.',
			t.failures, t.since::timestamptz(0), t.error),
		s.statement
	FROM eventstore.troubles() t CROSS JOIN setting s
	WHERE t.task = 'keys'
$$;

/* DO: of these what server/library.sql does of all: what an administrator has granted on others stays. */
DO $$
DECLARE
	routine pg_catalog.regprocedure;
BEGIN
	FOREACH routine IN ARRAY '{eventstore.setting_is_set(text),"eventstore.setting_lists(text,text)",eventstore.is_left_out(),eventstore.timeline_begun(bigint)}'::pg_catalog.regprocedure[]
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', routine);
		EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %I', routine,
			(SELECT r.rolname FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) x.extowner
				WHERE x.extname OPERATOR(pg_catalog.=) 'eventstore'));
	END LOOP;
END
$$;
