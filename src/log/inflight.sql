/* ---- inflight: who holds the settled position back ---- */

CREATE FUNCTION eventstore.position_holders(OUT pid int, OUT transaction xid, OUT since timestamptz, OUT first_position bigint)
		RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'es_position_holders';
COMMENT ON FUNCTION eventstore.position_holders() IS
	'the transactions that may still fill positions: the session, or the id of a prepared one; behind es_in_flight';

/* pg_stat_get_activity decides what the caller may see of a session; it takes NULL for all of them. */
CREATE VIEW @extschema@.es_in_flight AS
	SELECT h.pid,
		p.gid,
		a.application_name,
		CASE WHEN h.pid IS NULL THEN 'prepared' ELSE a.state END AS state,
		COALESCE(h.since, p.prepared) AS since,
		h.first_position,
		a.query
	FROM eventstore.position_holders() h
	LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(COALESCE(h.pid, 0)) a ON true
	LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction OPERATOR(pg_catalog.=) h.transaction
	ORDER BY COALESCE(h.since, p.prepared), h.first_position;
COMMENT ON VIEW @extschema@.es_in_flight IS
	'the transactions, prepared ones included, that hold the settled position back since they have appended, the longest first';
