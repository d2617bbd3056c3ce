/* ---- archived: what is known of segments that were given back ---- */

/* This server's own: what replication brings of another server's is left out (server/guard.sql). */
CREATE TABLE eventstore.detached_segments (
	segment bigint NOT NULL,
	events bigint NOT NULL,
	digest bigint NOT NULL,
	detached_at timestamptz NOT NULL,
	CONSTRAINT detached_segments_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE eventstore.detached_segments IS 'segments that es_detach_segments has given back, until es_attach_segment takes them in again';
COMMENT ON COLUMN eventstore.detached_segments.digest IS 'of all its events; what is attached must have the same';
SELECT pg_catalog.pg_extension_config_dump('eventstore.detached_segments', '');
