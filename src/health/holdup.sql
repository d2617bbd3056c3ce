/* ---- holdup: who holds positions back, and whether they can go on ---- */

CREATE FUNCTION eventstore.event_beyond("position" bigint) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_holdup_event_beyond';
COMMENT ON FUNCTION eventstore.event_beyond(bigint) IS 'the position of the last event of the log if it is beyond one, else 0; behind es_doctor';

/* A session's query and name are shown to whom the server would show them. */
CREATE FUNCTION eventstore.look_at_holdup(v eventstore.visit) RETURNS SETOF eventstore.finding
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH holders AS MATERIALIZED (SELECT h.* FROM eventstore.position_holders() h),
		ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e)
	SELECT 'warning', 'a transaction holds the settled position back',
		format('Process %s, role %I, has had a transaction open since %s, with positions from %s on; the settled position is %s of %s.',
			h.pid, a.usename, h.since::timestamptz(0), COALESCE(h.first_position::text, 'an unknown one'), e.settled, e.last)
		|| CASE WHEN pg_has_role(v.asker, a.usesysid, 'USAGE') OR pg_has_role(v.asker, 'pg_read_all_stats', 'USAGE')
			THEN format(' It is %s, application %L, query %L.', COALESCE(a.state, 'in an unknown state'), a.application_name, left(a.query, 200)) ELSE '' END,
		format('SELECT pg_terminate_backend(%s)', h.pid)
	FROM holders h CROSS JOIN ends e
		LEFT JOIN pg_stat_activity a ON a.pid = h.pid
	WHERE h.pid <> pg_backend_pid() AND clock_timestamp() - h.since >= v.patience
	UNION ALL
	SELECT 'warning', 'a prepared transaction holds the settled position back',
		format('Transaction %L of role %I was prepared at %s and has positions from %s on; the settled position is %s of %s. COMMIT PREPARED if its coordinator has committed it.',
			p.gid, p.owner, p.prepared::timestamptz(0), COALESCE(h.first_position::text, 'an unknown one'), e.settled, e.last),
		format('ROLLBACK PREPARED %L', p.gid)
	FROM holders h JOIN pg_prepared_xacts p ON p.transaction = h.transaction CROSS JOIN ends e
	WHERE clock_timestamp() - p.prepared >= v.patience
	UNION ALL
	SELECT 'notice', 'a prepared transaction was left open',
		format('Transaction %L of role %I was prepared at %s. It keeps its locks, and dead rows from being vacuumed. COMMIT PREPARED if its coordinator has committed it.',
			p.gid, p.owner, p.prepared::timestamptz(0)),
		format('ROLLBACK PREPARED %L', p.gid)
	FROM pg_prepared_xacts p
	WHERE p.database = current_database() AND clock_timestamp() - p.prepared >= v.patience
		AND NOT EXISTS (SELECT FROM holders h WHERE h.transaction = p.transaction)
	UNION ALL
	SELECT 'critical', 'the sequence of positions is behind the log',
		format('The last position given out is %s, and an event has position %s: appends are refused. A restore that has not ended looks the same.', q.last, b.position),
		format('SELECT setval(''eventstore.position_seq'', %s)', b.position)
	FROM (SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END AS last FROM eventstore.position_seq q) q
		CROSS JOIN LATERAL eventstore.event_beyond(q.last) b(position)
	WHERE NOT v.subscriber AND NOT v.standby AND b.position > 0
	UNION ALL
	SELECT 'critical', 'a sequence of ids is behind its table',
		format('Sequence eventstore.%s has given out %s, and table eventstore.%s has %s: the next new row fails.', s.sequence, s.last, s.relation, s.highest),
		format('SELECT setval(%L, %s)', 'eventstore.' || s.sequence, s.highest)
	FROM (
		SELECT 'stream_id_seq', 'streams', (SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END FROM eventstore.stream_id_seq q),
			(SELECT max(t.stream_id) FROM eventstore.streams t)
		UNION ALL
		SELECT 'subscription_id_seq', 'subscriptions', (SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END FROM eventstore.subscription_id_seq q),
			(SELECT max(t.subscription_id) FROM eventstore.subscriptions t)
		UNION ALL
		SELECT 'projection_id_seq', 'projections', (SELECT CASE WHEN q.is_called THEN q.last_value ELSE 0 END FROM eventstore.projection_id_seq q),
			(SELECT max(t.projection_id) FROM eventstore.projections t)) s(sequence, relation, last, highest)
	WHERE NOT v.subscriber AND NOT v.standby AND s.highest > s.last
	UNION ALL
	SELECT 'notice', 'the clock is behind the newest event',
		format('The newest event was recorded at %s, and here it is %s. Events that come meanwhile get the time of the one before in their stream.',
			n.recorded_at, clock_timestamp()::timestamptz(0)),
		'shell: chronyc makestep'
	FROM ends e CROSS JOIN LATERAL (
		SELECT eventstore.segment_time(max(s.segment), true) AS recorded_at FROM eventstore.segments s WHERE s.first_position <= e.last) n
	WHERE n.recorded_at > clock_timestamp()
$$;
COMMENT ON FUNCTION eventstore.look_at_holdup(eventstore.visit) IS 'who holds the settled position back, whether positions can be given out; behind es_doctor';
