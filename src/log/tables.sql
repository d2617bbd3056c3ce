/* ---- tables: the tables of the log ---- */

/*
 * The log. Partitioned by position into segments, see segment.sql. Columns
 * and the row guard only: indexes on a parent that belongs to an extension
 * make a restore fail. Fixed-width columns come first, widest first, so that
 * a row has no padding; names stay in the row, which makes each row whole for
 * any reader of the WAL, a dump or a subscriber. category_key is CRC-32C of the
 * category's name. run_length is, in the first of events that one call wrote at
 * successive positions for one category, how many they are, and 0 in the others.
 */
CREATE TABLE eventstore.events (
	position bigint NOT NULL,
	stream_id bigint NOT NULL,
	version bigint NOT NULL,
	recorded_at timestamptz NOT NULL,
	event_id uuid NOT NULL,
	category_key int NOT NULL,
	type_version int NOT NULL,
	run_length int NOT NULL,
	id_given boolean NOT NULL,
	stream text COLLATE "C" NOT NULL,
	type text COLLATE "C" NOT NULL,
	data jsonb NOT NULL,
	metadata jsonb NOT NULL
) PARTITION BY RANGE (position);
COMMENT ON TABLE eventstore.events IS 'the log: every event, partitioned by position into segments';

/* lz4 compresses and, what counts for reads, expands several times faster; not every server is built with it */
DO $$
BEGIN
	ALTER TABLE eventstore.events ALTER data SET COMPRESSION lz4, ALTER metadata SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;

CREATE SEQUENCE eventstore.position_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE eventstore.position_seq IS 'positions; an appender keeps its lock on this sequence to the end of its transaction, which is what the settle rule reads';

/*
 * Which timeline of the WAL the positions were given out on; not called yet
 * means not known. A sequence, so that no rollback takes a note back; not
 * dumped, since another server has timelines of its own.
 */
CREATE SEQUENCE eventstore.timeline_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE eventstore.timeline_seq IS 'timeline of the WAL that positions were last given out on';

/* Only ever locked, see stream/lock.c; a view, since it has nothing to store. */
CREATE VIEW eventstore.append_gate AS SELECT 'locked by appends while they write'::pg_catalog.text AS purpose;
COMMENT ON VIEW eventstore.append_gate IS 'locked in ROW EXCLUSIVE mode by calls over few streams while they write, in SHARE ROW EXCLUSIVE mode by calls over many';

/*
 * One row a stream. Written when the stream begins, when its events reach another segment,
 * and when some of them are hidden or removed (lifecycle/). truncated_at is when the
 * stream's last event was recorded as some were hidden: where that was hidden, too, it and
 * truncated_before tell how the stream goes on once the event is gone.
 */
CREATE TABLE eventstore.streams (
	stream_id bigint NOT NULL,
	first_segment bigint NOT NULL,
	last_segment bigint NOT NULL,
	truncated_before bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL,
	truncated_at timestamptz NOT NULL DEFAULT '-infinity',
	category_key int NOT NULL,
	deleted boolean NOT NULL DEFAULT false,
	has_hidden boolean NOT NULL DEFAULT false,
	name text COLLATE "C" NOT NULL,
	CONSTRAINT streams_by_id PRIMARY KEY (stream_id),
	CONSTRAINT streams_by_name UNIQUE (name)
) WITH (fillfactor = 90);
CREATE INDEX streams_by_category ON eventstore.streams (category_key, stream_id);
CREATE INDEX streams_with_hidden ON eventstore.streams (stream_id) WHERE has_hidden;
COMMENT ON TABLE eventstore.streams IS 'one row for each stream';
COMMENT ON COLUMN eventstore.streams.truncated_before IS 'versions below are hidden; of a deleted stream all but that of its deletion';
COMMENT ON COLUMN eventstore.streams.truncated_at IS 'when the last event was recorded that the stream had as it was truncated last; -infinity before that';
COMMENT ON COLUMN eventstore.streams.has_hidden IS 'hidden events are still there, to be removed';

CREATE SEQUENCE eventstore.stream_id_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE eventstore.stream_id_seq IS 'stream ids, in order of creation';

/* What was chosen for this store before its first append; one row. */
CREATE TABLE eventstore.config (
	segment_size bigint NOT NULL CHECK (segment_size > 0)
);
COMMENT ON TABLE eventstore.config IS 'settings that hold for the life of the store; empty while all are at their defaults';

SELECT pg_catalog.pg_extension_config_dump('eventstore.position_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.streams', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.stream_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.config', '');
