/* ---- snapshot: states that replays can go on from ---- */

/*
 * kept: a truncation depends on it. The columns that change are in no index, so
 * a snapshot that takes another's place is a HOT update where the page has room.
 */
CREATE TABLE eventstore.snapshots (
	stream_id bigint NOT NULL,
	version bigint NOT NULL,
	position bigint NOT NULL,
	recorded_at timestamptz NOT NULL,
	kept boolean NOT NULL,
	reducer text COLLATE "C" NOT NULL,
	fingerprint bytea NOT NULL,
	state jsonb,
	state_text text,
	sealed text
) WITH (fillfactor = 70);
COMMENT ON TABLE eventstore.snapshots IS 'states of streams that replays can go on from, while the reducer''s fingerprint is the same';
COMMENT ON COLUMN eventstore.snapshots.version IS 'the last event folded; position and recorded_at are its own';
COMMENT ON COLUMN eventstore.snapshots.kept IS 'stays when a newer one is made: a truncation depends on it';
COMMENT ON COLUMN eventstore.snapshots.fingerprint IS 'of the reducer, its handlers and the upcasters';
COMMENT ON COLUMN eventstore.snapshots.state_text IS 'the state if it is no jsonb, as its type''s output function gives it';
COMMENT ON COLUMN eventstore.snapshots.sealed IS 'the state, encrypted, if it was made of protected data in another way than by copies';
CREATE INDEX snapshots_by_reducer ON eventstore.snapshots (reducer, stream_id);
CREATE INDEX snapshots_by_stream ON eventstore.snapshots (stream_id);

SELECT pg_catalog.pg_extension_config_dump('eventstore.snapshots', '');
