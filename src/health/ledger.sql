/* ---- ledger: the log's segments, indexes and guards ---- */

CREATE FUNCTION eventstore.segment_index(segment bigint, number int, OUT name text, OUT statement text) RETURNS record
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_ledger_segment_index';
COMMENT ON FUNCTION eventstore.segment_index(bigint, int) IS
	'the name of one of the indexes that a segment has, counted from 0, and the statement that makes it; NULLs past the last; behind es_doctor';

CREATE FUNCTION eventstore.look_at_segments(v eventstore.visit) RETURNS SETOF eventstore.finding
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
COMMENT ON FUNCTION eventstore.look_at_segments(eventstore.visit) IS 'whether all segments are there, and the next one can be made; behind es_doctor';

/* What fixed tables have, as their parts define it; test/pgtap/catalog.sql compares it with what there is. */
CREATE VIEW eventstore.own_indexes AS SELECT o.relation, o.name, o.statement FROM (VALUES
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
COMMENT ON VIEW eventstore.own_indexes IS 'the indexes of the store''s tables, and the statements that make them; behind es_doctor';

CREATE FUNCTION eventstore.look_at_indexes(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH tables AS MATERIALIZED (
			SELECT t.oid, t.relname::text AS name, CASE WHEN i.inhparent = to_regclass('eventstore.events') AND t.relkind = 'r' THEN substr(t.relname, 8) END AS segment
			FROM pg_class t LEFT JOIN pg_inherits i ON i.inhrelid = t.oid
			WHERE t.relnamespace = 'eventstore'::regnamespace AND t.relkind IN ('r', 'p')),
		present AS MATERIALIZED (
			SELECT t.oid AS relation, t.name AS table_name, t.segment, c.relname::text AS name, c.relkind, i.indisvalid AND i.indisready AND i.indislive AS usable
			FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid),
		shapes AS MATERIALIZED (
			SELECT n.number, substr(x.name, 9) AS suffix
			FROM generate_series(0, 15) n(number) CROSS JOIN LATERAL eventstore.segment_index(0, n.number) x WHERE x.name IS NOT NULL),
		whole AS MATERIALIZED (
			SELECT p.relation FROM present p JOIN shapes x ON p.name = p.table_name || x.suffix
			WHERE p.segment IS NOT NULL AND p.usable
			GROUP BY p.relation HAVING count(*) = (SELECT count(*) FROM shapes)),
		wanted AS MATERIALIZED (
			SELECT t.name AS table_name, t.name || x.suffix AS name, t.segment, x.number, NULL::text AS statement
			FROM tables t CROSS JOIN shapes x
			WHERE t.segment ~ '^\d{1,18}$' AND t.oid NOT IN (SELECT w.relation FROM whole w)
			UNION ALL
			SELECT o.relation, o.name, NULL, NULL, o.statement FROM eventstore.own_indexes o JOIN tables t ON t.name = o.relation)
	SELECT 'critical', 'an index of the store is missing',
		format('Index %I of table eventstore.%I: what needs it fails, and what it says of rows is not watched. Without it events may have come twice.', w.name, w.table_name),
		COALESCE(w.statement, (SELECT x.statement FROM eventstore.segment_index(w.segment::int8, w.number) x))
	FROM wanted w
	WHERE NOT EXISTS (SELECT FROM present p WHERE p.name = w.name)
	UNION ALL
	SELECT 'critical', 'an index of the store is not valid',
		format('Index %I of table eventstore.%I: it was half built, by a REINDEX or CREATE INDEX CONCURRENTLY that failed, or waits for its table''s.', p.name, p.table_name),
		format('REINDEX INDEX CONCURRENTLY eventstore.%I', p.name)
	FROM present p JOIN wanted w ON w.name = p.name AND w.table_name = p.table_name
	WHERE NOT p.usable AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.relid = p.relation)
	UNION ALL
	SELECT 'notice', 'an index was left half built',
		format('Index %I of table eventstore.%I is kept up, and nobody can use it.', p.name, p.table_name),
		format('DROP INDEX CONCURRENTLY eventstore.%I', p.name)
	FROM present p
	WHERE NOT p.usable AND NOT EXISTS (SELECT FROM wanted w WHERE w.name = p.name)
		AND p.relkind = 'i'
		AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.relid = p.relation)
	UNION ALL
	SELECT 'notice', 'segments lack the index of a type',
		format('%s of %s segments have an index of type %L: queries by it walk over the others.', t.indexed, t.segments, t.type),
		format('SELECT %s.es_index_type(%L)', v.home, t.type)
	FROM (
		SELECT t.type, count(*) AS segments, count(p.name) AS indexed
		FROM eventstore.indexed_types t JOIN tables s ON s.segment IS NOT NULL
			LEFT JOIN present p ON p.usable AND p.name = format('events_%s_type_%s', s.segment, to_hex(hashtextextended(t.type, 0)))
		GROUP BY t.type) t
	WHERE t.indexed < t.segments AND NOT v.subscriber
		AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.query LIKE 'CREATE INDEX CONCURRENTLY events\_%' AND a.state = 'active')
$$;
COMMENT ON FUNCTION eventstore.look_at_indexes(eventstore.visit) IS 'whether all indexes are there that the store needs; behind es_doctor';

CREATE FUNCTION eventstore.look_at_guards(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH guarded AS MATERIALIZED (
			SELECT c.oid, c.relname FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
				JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
			WHERE x.extname = 'eventstore' AND c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'p')
			UNION ALL
			SELECT c.oid, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent IN (to_regclass('eventstore.events'), to_regclass('eventstore.projection_states')) AND c.relkind = 'r'),
		ours AS MATERIALIZED (
			SELECT t.tgrelid, t.tgname, t.tgenabled, p.proname
			FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.pronamespace = 'eventstore'::regnamespace)
	SELECT 'critical', 'a guard of the store is missing',
		format('Table eventstore.%I has no trigger %I: stored rows can be changed and taken away there.', c.relname, g.name),
		format('CREATE TRIGGER %I BEFORE %s ON eventstore.%I FOR EACH %s EXECUTE FUNCTION eventstore.%I(); ALTER TABLE eventstore.%I ENABLE ALWAYS TRIGGER %I',
			g.name, g.events, c.relname, g.each, g.name, c.relname, g.name)
	FROM guarded c CROSS JOIN (VALUES ('guard_rows', 'UPDATE OR DELETE', 'ROW'), ('guard_statement', 'INSERT OR TRUNCATE', 'STATEMENT')) g(name, events, each)
	WHERE NOT EXISTS (SELECT FROM ours t WHERE t.tgrelid = c.oid AND t.proname = g.name)
	UNION ALL
	SELECT 'critical', 'a trigger of the store is switched off',
		format('Trigger %I of table eventstore.%I %s.', t.tgname, c.relname,
			CASE t.tgenabled WHEN 'D' THEN 'is disabled' ELSE 'does not fire under every session_replication_role' END),
		format('ALTER TABLE eventstore.%I ENABLE ALWAYS TRIGGER %I', c.relname, t.tgname)
	FROM guarded c JOIN ours t ON t.tgrelid = c.oid
	WHERE t.tgenabled <> 'A'
	UNION ALL
	SELECT 'critical', 'an event trigger of the store is switched off',
		format('Event trigger %I: %s.', t.evtname,
			CASE WHEN t.evtname = 'eventstore_guard_ddl' THEN 'a mistaken DROP would take the store away' ELSE 'a logical copy of the store, or its read models, would not go on' END),
		format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', t.evtname)
	FROM pg_event_trigger t JOIN pg_depend d ON d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e'
		JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND x.extname = 'eventstore'
	WHERE t.evtenabled <> 'A'
$$;
COMMENT ON FUNCTION eventstore.look_at_guards(eventstore.visit) IS 'whether the triggers are there that keep the store append-only; behind es_doctor';

CREATE FUNCTION eventstore.look_at_tables(v eventstore.visit) RETURNS SETOF eventstore.finding
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
COMMENT ON FUNCTION eventstore.look_at_tables(eventstore.visit) IS 'whether the store''s tables are vacuumed; behind es_doctor';
