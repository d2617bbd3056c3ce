/* ---- overview: what there is to see of reducers and snapshots ---- */

CREATE FUNCTION eventstore.reducer_state_type(name text) RETURNS regtype
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_reducer_state_type';
COMMENT ON FUNCTION eventstore.reducer_state_type(text) IS 'the type of that qualified name, NULL if it is gone; behind es_reducers';

CREATE FUNCTION eventstore.snapshot_usable(reducer text, fingerprint bytea, sealed text) RETURNS boolean
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_snapshot_usable';
COMMENT ON FUNCTION eventstore.snapshot_usable(text, bytea, text) IS 'whether a reducer, as it is now, can go on from a snapshot with that fingerprint and that encrypted state; behind es_snapshots';

/* Of built-in reducers those about which something was said: when they leave snapshots. */
CREATE VIEW @extschema@.es_reducers WITH (security_barrier) AS
	SELECT r.reducer, h.event_type, COALESCE(h.handler, h.ops::pg_catalog.text) AS handler, r.initial,
		eventstore.reducer_state_type(r.state_type) AS state_type, r.on_unknown,
		p.every AS snapshot_every, h.ops
	FROM eventstore.reducers r
		LEFT JOIN eventstore.reducer_handlers h ON h.reducer OPERATOR(pg_catalog.=) r.reducer
		LEFT JOIN eventstore.snapshot_policies p ON p.reducer OPERATOR(pg_catalog.=) r.reducer
	WHERE eventstore.may_anything()
	UNION ALL
	SELECT p.reducer, '*', NULL, '{}', 'pg_catalog.jsonb'::pg_catalog.regtype, 'ignore', p.every, NULL
	FROM eventstore.snapshot_policies p
	WHERE p.every IS NOT NULL AND p.reducer OPERATOR(pg_catalog.=) ANY ('{merge,merge_patch,count,last}')
		AND eventstore.may_anything();
COMMENT ON VIEW @extschema@.es_reducers IS
	'reducers with one row for each handler, a function or operations; event_type is NULL for a reducer without any, state_type for one whose type is gone';

CREATE VIEW eventstore.readable_snapshots WITH (security_barrier) AS
	SELECT t.name AS stream, s.reducer, s.version,
		COALESCE(pg_catalog.pg_column_size(s.state), pg_catalog.pg_column_size(s.state_text), pg_catalog.pg_column_size(s.sealed), 0)::pg_catalog.int8 AS bytes,
		eventstore.snapshot_usable(s.reducer, s.fingerprint, s.sealed) AS usable
	FROM eventstore.snapshots s
		JOIN eventstore.streams t ON t.stream_id OPERATOR(pg_catalog.=) s.stream_id
	WHERE eventstore.may_read(t.name);
COMMENT ON VIEW eventstore.readable_snapshots IS 'the snapshots of streams that the current user may read; behind es_snapshots';

CREATE VIEW @extschema@.es_snapshots AS
	SELECT s.stream, s.reducer, s.version, s.bytes, s.usable
	FROM eventstore.sight() CROSS JOIN eventstore.readable_snapshots s;
COMMENT ON VIEW @extschema@.es_snapshots IS
	'snapshots: of which stream, reducer and version, how many bytes the state takes as it is stored, whether replays go on from it';
