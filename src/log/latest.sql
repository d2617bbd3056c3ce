/* ---- latest: when the last event of a sealed segment was recorded ---- */

/* This server's own: a subscriber finds it out by itself, should it go on without its publisher. */
CREATE TABLE eventstore.segment_times (
	segment bigint NOT NULL,
	latest_at timestamptz NOT NULL,
	CONSTRAINT segment_times_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE eventstore.segment_times IS 'of sealed segments, when the last event was recorded: appends to streams that have been silent since go by it, and read no row there';
COMMENT ON COLUMN eventstore.segment_times.latest_at IS 'no event of the segment was recorded later; infinity if it could not be read';
SELECT pg_catalog.pg_extension_config_dump('eventstore.segment_times', '');
