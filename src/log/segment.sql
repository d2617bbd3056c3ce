/* ---- segment: the log's partitions ---- */

CREATE TABLE eventstore.segments (
	segment bigint NOT NULL,
	first_position bigint NOT NULL,
	last_position bigint NOT NULL,
	sealed boolean NOT NULL DEFAULT false,
	emptied boolean NOT NULL DEFAULT false,
	events bigint,
	CONSTRAINT segments_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE eventstore.segments IS 'one row for each segment that was ever made; segment n is the table eventstore.events_n';
COMMENT ON COLUMN eventstore.segments.emptied IS 'no event was left of it, so its table is dropped';
COMMENT ON COLUMN eventstore.segments.events IS 'how many events a sealed segment has, counted as it was sealed; NULL if they were not counted. Whoever takes events out of a segment sets it to NULL';
SELECT pg_catalog.pg_extension_config_dump('eventstore.segments', '');

/* Of this server's workers, so no row of it is dumped. One row at most. */
CREATE TABLE eventstore.maker_failure (
	segment bigint NOT NULL,
	first_position bigint NOT NULL,
	last_position bigint NOT NULL,
	attempts int NOT NULL,
	failed_at timestamptz NOT NULL,
	error text NOT NULL
);
COMMENT ON TABLE eventstore.maker_failure IS 'the last segment that a background worker could not make; of no interest once that is in eventstore.segments';
COMMENT ON COLUMN eventstore.maker_failure.attempts IS 'how often it could not';
SELECT pg_catalog.pg_extension_config_dump('eventstore.maker_failure', 'WHERE false');

CREATE FUNCTION @extschema@.es_set_segment_size(positions bigint) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_set_segment_size(bigint) IS
	'sets how many positions a segment holds (100 to 2^40, default 2^24); only before the first append, for who has admin on *';
