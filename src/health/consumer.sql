/* ---- consumer: projections, subscriptions, users' functions ---- */

CREATE FUNCTION eventstore.look_at_projections(v eventstore.visit) RETURNS SETOF eventstore.finding
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
COMMENT ON FUNCTION eventstore.look_at_projections(eventstore.visit) IS 'whether projections run; behind es_doctor';

/* A partition that nothing has come to for so long counts as one whose consumer is gone. */
CREATE FUNCTION eventstore.look_at_subscriptions(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e),
		late AS MATERIALIZED (
			SELECT s.name, p.partition, p.position, p.member, l.lease_until, e.last, l.lease_until > clock_timestamp() AS leased,
				eventstore.partition_lag_time(s.subscription_id, p.partition, s.partitions, p.position, e.last,
					p.pending + p.parked + p.discarded, s.categories, s.types, s.query) AS age
			FROM eventstore.subscriptions s JOIN eventstore.subscription_partitions p ON p.subscription_id = s.subscription_id CROSS JOIN ends e
				CROSS JOIN LATERAL eventstore.partition_lease_until(p.subscription_id, p.partition, p.lease_until, p.kept_until) l(lease_until)
			WHERE p.position < e.last AND (p.retry_at IS NULL OR p.retry_at <= clock_timestamp()))
	SELECT 'warning', 'a subscription stands still',
		format('Nobody polls subscription %L: %s of its partitions have no member and events to take, the oldest %s old, from position %s on. Have its consumer started.',
			l.name, count(*), justify_interval(max(l.age))::interval(0), min(l.position)),
		format('SELECT %s.es_unsubscribe(%L); -- if nobody is to poll it any more', v.home, l.name)
	FROM late l WHERE l.age >= v.patience AND l.leased IS NOT TRUE
	GROUP BY l.name
	UNION ALL
	SELECT 'notice', 'a member acknowledges nothing',
		format('Member %L holds partition %s of subscription %L until %s, and its oldest event is %s old. It may be gone; to rewind fences it off, and has the events delivered again.',
			l.member, l.partition, l.name, l.lease_until::timestamptz(0), justify_interval(l.age)::interval(0)),
		format('SELECT %s.es_rewind(%L, %s)', v.home, l.name, (SELECT min(o.position) FROM late o WHERE o.name = l.name))
	FROM late l WHERE l.age >= v.patience AND l.leased
	UNION ALL
	SELECT 'warning', 'events of a subscription are parked',
		format('%s events of subscription %L were not taken in %s attempts, and wait for somebody to deal with them; es_parked(%L) lists them.',
			sum(p.parked), s.name, COALESCE(s.max_attempts::text, 'any number of'), s.name),
		format('SELECT %s.es_replay_parked(%L)', v.home, s.name)
	FROM eventstore.subscriptions s JOIN eventstore.subscription_partitions p ON p.subscription_id = s.subscription_id
	WHERE p.parked > 0
	GROUP BY s.name, s.max_attempts
$$;
COMMENT ON FUNCTION eventstore.look_at_subscriptions(eventstore.visit) IS 'whether subscriptions are polled; behind es_doctor';

CREATE FUNCTION eventstore.function_named(signature text) RETURNS oid
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_consumer_function_named';
COMMENT ON FUNCTION eventstore.function_named(text) IS 'the function that a row of the store names, NULL if it is gone; behind es_doctor';

CREATE FUNCTION eventstore.look_at_functions(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH named AS MATERIALIZED (
		SELECT format('reducer %L, for events of type %L', h.reducer, h.event_type) AS user_of_it, h.handler AS signature, NULL::name AS runner
		FROM eventstore.reducer_handlers h WHERE h.handler IS NOT NULL
		UNION ALL
		SELECT format('the upcaster of type %L from version %s', u.type, u.from_version), u.handler, NULL
		FROM eventstore.upcasters u WHERE u.handler IS NOT NULL
		UNION ALL
		SELECT format('projection %L', p.name), f.name || CASE WHEN f.takes_event THEN format('(%s.es_event)', v.home) ELSE '()' END, p.creator::name
		FROM eventstore.projections p CROSS JOIN LATERAL (VALUES (p.handler, true), (p.reset, false)) f(name, takes_event)
		WHERE f.name IS NOT NULL),
		found AS MATERIALIZED (SELECT n.*, eventstore.function_named(n.signature) AS oid FROM named n)
	SELECT 'critical', 'a function that handles events is gone',
		format('There is no function %s, which %s calls. Make it again, with its own body and language.', f.signature, string_agg(f.user_of_it, ', ' ORDER BY f.user_of_it)),
		format('CREATE FUNCTION %s RETURNS RESULT LANGUAGE sql AS ''BODY''', f.signature)
	FROM found f WHERE f.oid IS NULL
	GROUP BY f.signature
	UNION ALL
	SELECT 'critical', 'a function may not be called by who needs it',
		format('%s calls function %s as role %I, who has no EXECUTE on it.', upper(left(f.user_of_it, 1)) || substr(f.user_of_it, 2), f.signature, f.runner),
		format('GRANT EXECUTE ON FUNCTION %s TO %I', f.signature, f.runner)
	FROM found f JOIN pg_roles r ON r.rolname = f.runner
	WHERE f.oid IS NOT NULL AND NOT has_function_privilege(r.oid, f.oid, 'EXECUTE')
$$;
COMMENT ON FUNCTION eventstore.look_at_functions(eventstore.visit) IS 'whether the functions are there that the store calls; behind es_doctor';
