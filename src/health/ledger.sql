/* ---- ledger: the log's segments, indexes and guards ---- */

CREATE FUNCTION eventstore.segment_index(segment bigint, number int, OUT name text, OUT statement text) RETURNS record
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_ledger_segment_index';
COMMENT ON FUNCTION eventstore.segment_index(bigint, int) IS
	'the name of one of the indexes that a segment has, counted from 0, and the statement that makes it; NULLs past the last; behind es_doctor';

CREATE FUNCTION eventstore.look_at_segments(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH parts AS MATERIALIZED (
			SELECT c.oid, c.relname, c.relkind FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'eventstore.events'::regclass),
		lost AS MATERIALIZED (
			SELECT s.segment, s.first_position, s.last_position, t.oid IS NOT NULL AS is_there
			FROM eventstore.segments s
				LEFT JOIN pg_class t ON t.relnamespace = 'eventstore'::regnamespace AND t.relname = format('events_%s', s.segment)
			WHERE NOT s.emptied
				AND NOT EXISTS (SELECT FROM parts p WHERE p.relname = format('events_%s', s.segment))
				AND NOT EXISTS (SELECT FROM eventstore.detached_segments d WHERE d.segment = s.segment)),
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
		format('shell: pg_restore -d "$PGDATABASE" -n eventstore -t events_%s DUMP && psql -d "$PGDATABASE" -c "SELECT %s.es_attach_segment(''eventstore.events_%s'')"',
			l.segment, v.home, l.segment)
	FROM lost l WHERE NOT l.is_there
	UNION ALL
	SELECT 'critical', 'a segment is not in eventstore.segments',
		format('Table eventstore.%I is attached to the log (%s), and has no row there: readers pass it.', p.relname, b.bounds),
		format('INSERT INTO eventstore.segments (segment, first_position, last_position) VALUES (%s, %s, %s)', substr(p.relname, 8), b.numbers[1], b.numbers[2]::int8 - 1)
	FROM parts p JOIN pg_class c ON c.oid = p.oid
		CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) g(bounds)
		CROSS JOIN LATERAL (SELECT g.bounds, regexp_match(g.bounds, 'FROM \(''(\d+)''\) TO \(''(\d+)''\)')) b(bounds, numbers)
	WHERE p.relname ~ '^events_\d+$' AND b.numbers IS NOT NULL
		AND NOT EXISTS (SELECT FROM eventstore.segments s WHERE p.relname = format('events_%s', s.segment))
	UNION ALL
	SELECT 'critical', 'a segment could not be made',
		format('Segment %s: it was tried %s times, the last at %s, with error %L. Without it appends fail at position %s; it is tried again as events are appended.',
			f.segment, f.attempts, f.failed_at::timestamptz(0), f.error, f.first_position)
		|| COALESCE(format(' Event triggers that fire for its tables: %s.', o.names), ''),
		COALESCE(o.statements, format('SELECT * FROM %s.es_segments WHERE state = ''failed''', v.home))
	FROM eventstore.maker_failure f CROSS JOIN others o
	WHERE NOT EXISTS (SELECT FROM eventstore.segments s WHERE s.segment = f.segment)
	UNION ALL
	SELECT 'critical', 'a table has the name of a coming segment',
		format('eventstore.%I is no segment, and in the way of the one that is to be called so.', c.relname),
		format('ALTER TABLE eventstore.%I RENAME TO %I', c.relname, c.relname || '_renamed')
	FROM pg_class c
	WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relname ~ '^events_\d{1,18}$' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
		AND NOT EXISTS (SELECT FROM parts p WHERE p.oid = c.oid)
		AND substr(c.relname, 8)::int8 > (SELECT COALESCE(max(s.segment), -1) FROM eventstore.segments s)
	UNION ALL
	SELECT 'warning', 'the log has a default partition',
		format('Table %s takes the events that no segment is there for, and keeps segments from being made for these.', t.partdefid::regclass),
		format('ALTER TABLE eventstore.events DETACH PARTITION %s', t.partdefid::regclass)
	FROM pg_partitioned_table t WHERE t.partrelid = 'eventstore.events'::regclass AND t.partdefid <> 0
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
	('x', 'y', 'z')) o(relation, name, statement);
COMMENT ON VIEW eventstore.own_indexes IS 'the indexes of the store''s tables, and the statements that make them; behind es_doctor';

CREATE FUNCTION eventstore.look_at_indexes(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH present AS MATERIALIZED (
			SELECT t.oid AS relation, t.relname AS table_name, c.relname AS name, i.indexrelid, i.indisvalid AND i.indisready AND i.indislive AS usable
			FROM pg_class t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid
			WHERE t.relnamespace = 'eventstore'::regnamespace AND t.relkind IN ('r', 'p')),
		wanted AS MATERIALIZED (
			SELECT p.relname::text AS table_name, (p.relname || substr(x.name, 9))::name AS name, substr(p.relname, 8)::int8 AS segment, n.number, NULL::text AS statement
			FROM generate_series(0, 15) n(number) CROSS JOIN LATERAL eventstore.segment_index(0, n.number) x
				CROSS JOIN (SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
					WHERE i.inhparent = 'eventstore.events'::regclass AND c.relkind = 'r' AND c.relname ~ '^events_\d+$') p
			WHERE x.name IS NOT NULL
			UNION ALL
			SELECT o.relation, o.name::name, NULL, NULL, o.statement FROM eventstore.own_indexes o)
	SELECT 'critical', 'an index of the store is missing',
		format('Index %I of table eventstore.%I: what needs it fails, and what it says of rows is not watched. Without it events may have come twice.', w.name, w.table_name),
		COALESCE(w.statement, (SELECT x.statement FROM eventstore.segment_index(w.segment, w.number) x))
	FROM wanted w
	WHERE to_regclass('eventstore.' || quote_ident(w.table_name)) IS NOT NULL AND NOT EXISTS (SELECT FROM present p WHERE p.name = w.name)
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
		AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = p.indexrelid AND c.relkind = 'I')
		AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.relid = p.relation)
	UNION ALL
	SELECT 'notice', 'segments lack the index of a type',
		format('%s of %s segments have an index of type %L: queries by it walk over the others.', t.indexed, t.segments, t.type),
		format('SELECT %s.es_index_type(%L)', v.home, t.type)
	FROM (
		SELECT t.type, count(*) AS segments, count(p.name) AS indexed
		FROM eventstore.indexed_types t
			CROSS JOIN (SELECT substr(c.relname, 8) AS number FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
				WHERE i.inhparent = 'eventstore.events'::regclass AND c.relkind = 'r' AND c.relname ~ '^events_\d+$') s
			LEFT JOIN present p ON p.usable AND p.name = format('events_%s_type_%s', s.number, to_hex(hashtextextended(t.type, 0)))::name
		GROUP BY t.type) t
	WHERE t.indexed < t.segments AND NOT v.subscriber
		AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.query LIKE 'CREATE INDEX CONCURRENTLY events\_%' AND a.state = 'active')
$$;
COMMENT ON FUNCTION eventstore.look_at_indexes(eventstore.visit) IS 'whether all indexes are there that the store needs; behind es_doctor';

CREATE FUNCTION eventstore.look_at_guards(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH guarded AS MATERIALIZED (
		SELECT c.oid, c.relname FROM pg_class c
		WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'p')
			AND (EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
				OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent IN ('eventstore.events'::regclass, 'eventstore.projection_states'::regclass))))
	SELECT 'critical', 'a guard of the store is missing',
		format('Table eventstore.%I has no trigger %I: stored rows can be changed and taken away there.', c.relname, g.name),
		format('CREATE TRIGGER %I BEFORE %s ON eventstore.%I FOR EACH %s EXECUTE FUNCTION eventstore.%I(); ALTER TABLE eventstore.%I ENABLE ALWAYS TRIGGER %I',
			g.name, g.events, c.relname, g.each, g.name, c.relname, g.name)
	FROM guarded c CROSS JOIN (VALUES ('guard_rows', 'UPDATE OR DELETE', 'ROW'), ('guard_statement', 'INSERT OR TRUNCATE', 'STATEMENT')) g(name, events, each)
	WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = to_regproc('eventstore.' || g.name))
	UNION ALL
	SELECT 'critical', 'a trigger of the store is switched off',
		format('Trigger %I of table eventstore.%I %s.', t.tgname, c.relname,
			CASE t.tgenabled WHEN 'D' THEN 'is disabled' ELSE 'does not fire under every session_replication_role' END),
		format('ALTER TABLE eventstore.%I ENABLE ALWAYS TRIGGER %I', c.relname, t.tgname)
	FROM guarded c JOIN pg_trigger t ON t.tgrelid = c.oid JOIN pg_proc p ON p.oid = t.tgfoid
	WHERE p.pronamespace = 'eventstore'::regnamespace AND t.tgenabled <> 'A'
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
		format('Table eventstore.%I has about %s dead rows and %s live ones%s.', c.relname, s.n_dead_tup, s.n_live_tup,
			COALESCE(format('; it was vacuumed last at %s', GREATEST(s.last_vacuum, s.last_autovacuum)::timestamptz(0)), '; it has not been vacuumed since the statistics began')),
		format('VACUUM eventstore.%I', c.relname)
	FROM own c JOIN pg_stat_all_tables s ON s.relid = c.oid
	WHERE s.n_dead_tup > 10000 AND s.n_dead_tup > s.n_live_tup
	ORDER BY s.n_dead_tup DESC LIMIT 10)
	UNION ALL
	(SELECT 'warning', 'autovacuum is off for a table',
		format('Table eventstore.%I: nobody removes its dead rows, but to prevent wraparound.', c.relname),
		format('ALTER TABLE eventstore.%I RESET (autovacuum_enabled)', c.relname)
	FROM own c
	WHERE EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
	ORDER BY c.relname LIMIT 10)
	UNION ALL
	(SELECT 'warning', 'a table waits long to be frozen',
		format('The oldest transaction in table eventstore.%I is %s transactions old, and autovacuum was due at %s. At 2 billion the server stops writing. What it waits for may be an old transaction, prepared transaction or slot.',
			c.relname, age(c.relfrozenxid), current_setting('autovacuum_freeze_max_age')),
		format('VACUUM (FREEZE) eventstore.%I', c.relname)
	FROM own c
	WHERE age(c.relfrozenxid) > 1.5 * current_setting('autovacuum_freeze_max_age')::int8
	ORDER BY age(c.relfrozenxid) DESC LIMIT 10)
$$;
COMMENT ON FUNCTION eventstore.look_at_tables(eventstore.visit) IS 'whether the store''s tables are vacuumed; behind es_doctor';
