/* ---- stream: streams as users see them ---- */

CREATE FUNCTION @extschema@.es_stream_version(stream text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_stream_version(text) IS
	'how many events the stream has had so far, 0 if it never had one; committed ones and this transaction''s';

CREATE VIEW eventstore.readable_streams WITH (security_barrier) AS
	SELECT s.name AS stream,
		pg_catalog.split_part(s.name, '-', 1) AS category,
		eventstore.segment_version(s.last_segment, s.stream_id, s.truncated_before OPERATOR(pg_catalog.-) 1) AS version,
		s.truncated_before AS first_version,
		s.created_at,
		s.deleted
	FROM eventstore.streams s
	WHERE eventstore.may_read(s.name);
COMMENT ON VIEW eventstore.readable_streams IS 'the streams that the current user may read; behind es_streams';

CREATE VIEW @extschema@.es_streams AS
	SELECT s.stream, s.category, s.version, s.first_version, s.created_at, s.deleted
	FROM eventstore.sight() CROSS JOIN eventstore.readable_streams s;
COMMENT ON VIEW @extschema@.es_streams IS
	'streams: category, version (events so far), first version that is not hidden, time of the first event, whether deleted';
