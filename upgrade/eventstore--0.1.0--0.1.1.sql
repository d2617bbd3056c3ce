\echo Use "ALTER EXTENSION eventstore UPDATE" to load this file. \quit

SELECT eventstore.require_library('0.1.1');

/* ---- segment ---- */

COMMENT ON FUNCTION @extschema@.es_set_segment_size(bigint) IS
	'sets how many positions a segment holds (100 to 2^40, default 2^24); only before the first append, for who has admin on *';

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

/* ---- outlet ---- */

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
