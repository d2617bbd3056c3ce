/* ---- keeping: rights, secrets, evidence, what ages out ---- */

CREATE FUNCTION eventstore.look_at_rights(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH named AS MATERIALIZED (
		SELECT g.role, g.privilege, g.category, r.oid IS NOT NULL AS is_there
		FROM (SELECT eventstore.role_name(g.system_id, g.role_oid, g.role) AS role, g.privilege, g.category, g.role_oid, g.system_id FROM eventstore.grants g) g
			LEFT JOIN pg_roles r ON r.oid = g.role_oid AND g.system_id = (SELECT c.system_identifier FROM pg_control_system() c)
				OR r.rolname = g.role AND g.system_id <> (SELECT c.system_identifier FROM pg_control_system() c))
	SELECT 'notice', 'a right was granted to a role that is gone',
		format('Role %L had %s on %L. The worker strikes such grants as it comes by, and so does each change of grants, as this one that changes nothing.', n.role, n.privilege, n.category),
		format('SELECT %s.es_revoke(%L, ''read'', ''(none)'')', v.home, quote_ident(current_user))
	FROM named n WHERE NOT n.is_there
	UNION ALL
	SELECT 'notice', 'a right was granted on a category that has no events',
		format('Role %I has %s on category %L, and no stream is of that category. It may be misspelt.', n.role, n.privilege, n.category),
		format('SELECT %s.es_revoke(%L, %L, %L)', v.home, quote_ident(n.role), n.privilege, n.category)
	FROM named n
	WHERE n.is_there AND n.category <> '*'
		AND NOT EXISTS (SELECT FROM eventstore.streams s WHERE s.name = n.category)
		AND NOT EXISTS (SELECT FROM eventstore.streams s WHERE s.name >= n.category || '-' AND s.name < n.category || '.')
		AND EXISTS (SELECT FROM eventstore.streams s)
	UNION ALL
	SELECT 'critical', 'a table of the store is open to everybody',
		format('PUBLIC has %s on eventstore.%I, past the rights that es_grant gives.', string_agg(a.privilege_type, ', '), c.relname),
		format('REVOKE ALL ON eventstore.%I FROM PUBLIC', c.relname)
	FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
	WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND a.grantee = 0
	GROUP BY c.relname
	UNION ALL
	SELECT 'critical', 'a function of the store is open to everybody',
		format('PUBLIC has EXECUTE on function %s, which asks for no rights.', p.oid::regprocedure),
		format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
	FROM pg_proc p CROSS JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a
	WHERE p.pronamespace = 'eventstore'::regnamespace AND a.grantee = 0
		AND p.proname NOT IN ('require_read', 'shown_state')
		AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass)
		AND NOT EXISTS (SELECT FROM pg_cast c WHERE c.castfunc = p.oid)
$$;
COMMENT ON FUNCTION eventstore.look_at_rights(eventstore.visit) IS 'grants that are to nobody or on nothing, and what is open beside them; behind es_doctor';

/* The command is not run: that may take seconds. What became of it last is known where the library is preloaded. */
CREATE FUNCTION eventstore.look_at_secrets(v eventstore.visit) RETURNS SETOF eventstore.finding
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
COMMENT ON FUNCTION eventstore.look_at_secrets(eventstore.visit) IS 'whether the keys of protected fields are to be had; behind es_doctor';

CREATE FUNCTION eventstore.look_at_evidence(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e),
		due AS MATERIALIZED (
		SELECT COALESCE(max(s.position), 0) AS position, max(s.sealed_at) AS sealed_at, i.interval
		FROM (SELECT g.setting::int8 * interval '1 ms' AS interval FROM pg_settings g WHERE g.name = 'eventstore.seal_interval') i LEFT JOIN eventstore.seals s ON true
		WHERE i.interval > '0' GROUP BY i.interval)
	SELECT 'warning', 'the log is sealed less often than is set',
		format('eventstore.seal_interval is %s, the last seal is of %s, and %s positions are not sealed, the oldest event among them for %s.', d.interval,
			COALESCE(d.sealed_at::timestamptz(0)::text, 'never'), e.settled - d.position, justify_interval(l.age)::interval(0))
			|| CASE WHEN v.preloaded THEN '' ELSE ' There is no worker that would.' END,
		format('SELECT %s.es_seal()', v.home)
	FROM due d CROSS JOIN ends e CROSS JOIN LATERAL (SELECT eventstore.lag_time(d.position, e.settled, NULL, NULL)) l(age)
	WHERE NOT v.standby AND NOT v.subscriber AND e.settled > d.position AND l.age > 3 * d.interval AND l.age >= v.patience
$$;
COMMENT ON FUNCTION eventstore.look_at_evidence(eventstore.visit) IS 'whether the log is sealed as it should be; behind es_doctor';

/* The worker comes by each minute. */
CREATE FUNCTION eventstore.look_at_retention(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e),
		due AS MATERIALIZED (SELECT v.patience + CASE WHEN v.preloaded AND v.patience > '0' THEN interval '2 min' ELSE interval '0' END AS patience),
		needs AS MATERIALIZED (
			SELECT n.position, n.by FROM (
				SELECT g.position, format('%s %L', CASE WHEN g.live THEN 'projection' ELSE 'the rebuild of projection' END, p.name) AS by
				FROM eventstore.projections p JOIN eventstore.projection_progress g ON g.projection_id = p.projection_id
				WHERE p.mode = 'async' OR NOT g.live
				UNION ALL
				SELECT p.position, format('subscription %L', s.name)
				FROM eventstore.subscriptions s JOIN eventstore.subscription_partitions p ON p.subscription_id = s.subscription_id
				UNION ALL
				SELECT f.position - 1, format('what is parked of subscription %L', s.name)
				FROM eventstore.subscriptions s JOIN eventstore.subscription_failures f ON f.subscription_id = s.subscription_id
				WHERE f.parked_at <> 'infinity'
				UNION ALL
				SELECT (l.classid::int8 << 32) | l.objid::int8, format('the session of process %s, by es_hold_events()', l.pid)
				FROM pg_locks l
				WHERE l.locktype = 'advisory' AND l.objsubid = 229 AND l.granted AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) n
			ORDER BY n.position LIMIT 1),
		hidden AS MATERIALIZED (SELECT count(*) AS streams, min(h.truncated_at) AS since FROM (
			SELECT s.truncated_at FROM eventstore.streams s WHERE s.has_hidden LIMIT 1000) h)
	SELECT 'warning', 'streams could not be truncated',
		format('%s streams have events that should have aged out, since %s.', count(*), min(k.since)::timestamptz(0))
			|| CASE WHEN v.reads THEN format(' %L: %s.', (array_agg(k.stream ORDER BY k.since))[1], (array_agg(k.reason ORDER BY k.since))[1])
				ELSE ' es_retention shows them to who may read.' END,
		format('SELECT count(*) FROM %s.es_scavenge()', v.home)
	FROM eventstore.retention_skips k WHERE k.attempts > 0
	HAVING count(*) > 0
	UNION ALL
	SELECT 'warning', 'retention is overdue',
		format('The rules of %s were carried out up to position %s of %s.', string_agg(quote_literal(r.category), ', ' ORDER BY r.category), min(r.arrived), e.settled)
			|| CASE WHEN v.preloaded THEN '' ELSE ' There is no worker that would.' END,
		format('SELECT count(*) FROM %s.es_scavenge()', v.home)
	FROM eventstore.retention r CROSS JOIN ends e CROSS JOIN due d
	WHERE (r.max_age IS NOT NULL OR r.max_count IS NOT NULL) AND NOT v.standby AND NOT v.subscriber
		AND CASE WHEN r.arrived < e.settled THEN eventstore.lag_time(r.arrived, e.settled, NULL, NULL) END > d.patience
	GROUP BY e.settled
	HAVING count(*) > 0
	UNION ALL
	SELECT 'notice', 'hidden events are not removed',
		format('%s streams%s have events that are hidden, the first since %s%s.', h.streams, CASE WHEN h.streams = 1000 THEN ' or more' ELSE '' END, h.since::timestamptz(0),
			COALESCE((SELECT format('; the first to need such is %s, from position %s on', n.by, n.position + 1) FROM needs n WHERE n.position < (SELECT e.settled FROM ends e)), '')),
		format('SELECT count(*) FROM %s.es_scavenge()', v.home)
	FROM hidden h CROSS JOIN due d
	WHERE h.streams > 0 AND NOT v.standby AND NOT v.subscriber
		AND CASE WHEN v.preloaded
			THEN (SELECT eventstore.lag_time(n.position, (SELECT e.settled FROM ends e), NULL, NULL) FROM needs n WHERE n.position < (SELECT e.settled FROM ends e)) > d.patience
			ELSE h.since > '-infinity' AND clock_timestamp() - h.since > d.patience END
$$;
COMMENT ON FUNCTION eventstore.look_at_retention(eventstore.visit) IS 'whether what ages out is hidden, and what is hidden removed; behind es_doctor';
