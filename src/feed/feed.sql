/* ---- feed: replication slots of the output plugin eventstore ---- */

CREATE FUNCTION @extschema@.es_create_feed(
	feed text,
	categories text[] DEFAULT NULL,
	types text[] DEFAULT NULL,
	format text DEFAULT 'json',
	query jsonb DEFAULT NULL,
	OUT slot_name text,
	OUT lsn pg_lsn,
	OUT head_position bigint
) RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_create_feed';
COMMENT ON FUNCTION @extschema@.es_create_feed(text, text[], text[], text, jsonb) IS
	'create a feed: events up to head_position come from es_read_all, all later ones from the replication slot';

CREATE FUNCTION @extschema@.es_drop_feed(feed text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_drop_feed';
COMMENT ON FUNCTION @extschema@.es_drop_feed(text) IS 'drop a feed, its replication slot and its definition';

CREATE FUNCTION @extschema@.es_alter_feed(feed text, categories text[], types text[], format text, query jsonb DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_alter_feed';
COMMENT ON FUNCTION @extschema@.es_alter_feed(text, text[], text[], text, jsonb) IS
	'change what a feed lets through, from the commit on; NULL leaves as it is';

CREATE FUNCTION @extschema@.es_share_feed(feed text, other text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_share_feed(text, text) IS 'give another feed the definition of a feed, before its slot is copied; for esfeed';

CREATE FUNCTION @extschema@.es_feed_head(OUT head_position bigint, OUT lsn pg_lsn) RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_feed_head';
COMMENT ON FUNCTION @extschema@.es_feed_head() IS
	'a seam for a feed that exists: events up to head_position come from es_read_all, all later ones from its slot';

CREATE FUNCTION eventstore.events_after(lsn pg_lsn) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_events_after';
COMMENT ON FUNCTION eventstore.events_after(pg_lsn) IS 'about how many events were committed after a place in the WAL; behind es_feeds';

/*
 * A slot of ours whose name is not like a feed's has no feed name; a feed whose slot is gone
 * has its definition only. Lags are measured from the end of the WAL, on a standby from what
 * it has replayed. A feed is shown to who may read or administrate some of it: who asks it for that
 * has to know what it is.
 */
CREATE VIEW @extschema@.es_feeds WITH (security_barrier) AS
	SELECT
		coalesce(d.name, CASE WHEN pg_catalog.starts_with(s.slot_name, 'es_')
			THEN pg_catalog.substr(s.slot_name, 4) END) AS feed,
		s.slot_name,
		s.active,
		s.confirmed_flush_lsn AS confirmed_lsn,
		pg_catalog.pg_wal_lsn_diff(w.lsn, s.confirmed_flush_lsn)::pg_catalog.int8 AS lag_bytes,
		pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn)::pg_catalog.int8 AS retained_bytes,
		s.wal_status,
		s.safe_wal_size,
		eventstore.events_after(s.confirmed_flush_lsn) AS lag_events,
		d.categories,
		d.types,
		d.format,
		d.query
	FROM (
		SELECT r.slot_name::pg_catalog.text COLLATE "C" AS slot_name, r.active, r.confirmed_flush_lsn, r.restart_lsn, r.wal_status, r.safe_wal_size
		FROM pg_catalog.pg_replication_slots r
		WHERE r.slot_type OPERATOR(pg_catalog.=) 'logical'
			AND r.plugin OPERATOR(pg_catalog.=) 'eventstore'
			AND r.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
	) s
	FULL JOIN eventstore.feed_settings d ON s.slot_name OPERATOR(pg_catalog.=) ('es_' OPERATOR(pg_catalog.||) d.name)
	CROSS JOIN (
		SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
			ELSE pg_catalog.pg_current_wal_lsn() END AS lsn
	) w
	WHERE eventstore.may_see_some(d.categories);
COMMENT ON VIEW @extschema@.es_feeds IS
	'the feeds of this database: what they let through, how far their consumers are, and the WAL kept for them; for who has read or admin on some of what they let through';
