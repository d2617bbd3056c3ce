# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# One event a transaction, any version, streams random over 10,000: es_append against a bare prepared INSERT.
#
# The bare sides get stream id and version from the client: they look nothing
# up. Their versions are unique and rise, as those of the store do.

fresh_database
bare_table bare2 two
bare_table bare_segment segment
prime_streams bare2 bare_segment

append_script eventstore "$any_stream"
for name in bare2 bare_segment; do
	insert_script $name $name "$any_stream"
done

for sync in off on; do
	for clients in $client_counts; do
		begin_case "$(plural "$clients" client), synchronous_commit $sync" events/s
		side "es_append" pgbench_rate eventstore 1 eventstore
		side "bare INSERT, 2 unique indexes" pgbench_rate bare2 1 bare2
		side "bare INSERT, a segment's indexes" pgbench_rate bare_segment 1 bare_segment
		measure_case
	done
done

# The first event of a stream also makes a row in streams.
sql -c 'CREATE TABLE bench.streams (LIKE eventstore.streams INCLUDING ALL);
	CREATE SEQUENCE bench.streams_id;
	ALTER TABLE bench.streams ALTER stream_id SET DEFAULT nextval($$bench.streams_id$$),
		ALTER first_segment SET DEFAULT 0, ALTER last_segment SET DEFAULT 0,
		ALTER created_at SET DEFAULT clock_timestamp(), ALTER category_key SET DEFAULT 1'
script eventstore_new <<'SQL'
\set v :v + 1
SELECT es_append('new-' || :run || '-' || :client_id || '-' || :v, 'Opened', :data, :metadata, 0);
SQL
script bare_new <<'SQL'
\set v :v + 1
WITH s AS (INSERT INTO bench.streams (name) VALUES ('new-' || :run || '-' || :client_id || '-' || :v) RETURNING stream_id, name)
INSERT INTO bench.bare2 (stream_id, version, stream, type, data, metadata)
SELECT stream_id + 1000000, 1, name, 'Opened', :data::jsonb, :metadata::jsonb FROM s;
SQL
clients=8 sync=off
begin_case "8 clients, synchronous_commit off, each event a new stream" events/s
side "es_append, expected version 0" pgbench_rate eventstore 1 eventstore_new
side "bare INSERT of stream and event" pgbench_rate bare2 1 bare_new
measure_case

check_store
check_bare bare2
check_bare bare_segment
