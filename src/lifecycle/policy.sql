/* ---- policy: which events age out ---- */

/*
 * arrived and aged say how far the rule was carried out: each round goes on from there,
 * and a new rule begins anew. Both limits NULL: the category has none, and is not among
 * those that '*' is for.
 */
CREATE TABLE eventstore.retention (
	max_age interval,
	max_count bigint,
	arrived bigint NOT NULL,
	aged bigint NOT NULL,
	category text COLLATE "C" NOT NULL,
	CONSTRAINT retention_by_category PRIMARY KEY (category)
);
COMMENT ON TABLE eventstore.retention IS 'one row for each category with a rule on which events age out; ''*'' is for all others';
COMMENT ON COLUMN eventstore.retention.arrived IS 'events up to this position were looked at as they came';
COMMENT ON COLUMN eventstore.retention.aged IS 'events up to this position were too old, and are hidden';

/* Streams that could not be truncated: because somebody was writing to them (attempts 0), or for a reason that stays. */
CREATE TABLE eventstore.retention_skips (
	since timestamptz NOT NULL,
	tried_at timestamptz NOT NULL,
	attempts int NOT NULL,
	stream text COLLATE "C" NOT NULL,
	reason text NOT NULL,
	CONSTRAINT retention_skips_by_stream PRIMARY KEY (stream)
);
COMMENT ON TABLE eventstore.retention_skips IS 'streams that retention comes back to: they could not be truncated when it was their turn';

SELECT pg_catalog.pg_extension_config_dump('eventstore.retention', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.retention_skips', '');

CREATE FUNCTION @extschema@.es_set_retention(category text, max_age interval DEFAULT NULL, max_count bigint DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_set_retention(text, interval, bigint) IS
	'how old the events of a category''s streams may become, and how many a stream may have; the older ones are hidden by and by; ''*'': all other categories; both NULL: no limit';

/* Which streams could not be truncated, and why, may tell of events, and is for who may read them. */
CREATE VIEW @extschema@.es_retention WITH (security_barrier) AS
	SELECT r.category, r.max_age, r.max_count, r.arrived AS "position",
		s.streams AS skipped, s.since AS skipped_since,
		CASE WHEN eventstore.may_read_all(CASE WHEN r.category OPERATOR(pg_catalog.<>) '*' THEN ARRAY[r.category] END) THEN s.stream END AS skipped_stream,
		CASE WHEN eventstore.may_read_all(CASE WHEN r.category OPERATOR(pg_catalog.<>) '*' THEN ARRAY[r.category] END) THEN s.reason END AS error
	FROM eventstore.retention r
		CROSS JOIN LATERAL (
			SELECT pg_catalog.count(*) AS streams, pg_catalog.min(k.since) AS since,
				(pg_catalog.array_agg(k.stream ORDER BY k.stream))[1] AS stream,
				(pg_catalog.array_agg(k.reason ORDER BY k.stream))[1] AS reason
			FROM eventstore.retention_skips k
			WHERE k.attempts OPERATOR(pg_catalog.>) 0
				AND CASE WHEN r.category OPERATOR(pg_catalog.<>) '*'
					THEN pg_catalog.split_part(k.stream, '-', 1) OPERATOR(pg_catalog.=) r.category
					ELSE NOT EXISTS (SELECT FROM eventstore.retention o
						WHERE o.category OPERATOR(pg_catalog.=) pg_catalog.split_part(k.stream, '-', 1)) END) s
	WHERE (r.max_age IS NOT NULL OR r.max_count IS NOT NULL
			OR EXISTS (SELECT FROM eventstore.retention o WHERE o.category OPERATOR(pg_catalog.=) '*'))
		AND CASE WHEN r.category OPERATOR(pg_catalog.=) '*' THEN eventstore.may_anything() ELSE eventstore.may_see_all(ARRAY[r.category]) END;
COMMENT ON VIEW @extschema@.es_retention IS
	'which events age out, by category, how far in the log that was carried out, and how many streams could not be truncated, one of them and why';
