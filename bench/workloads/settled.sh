# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Time of es_settled_position(), idle and with writers in flight.
#
# The round trip is measured beside SELECT 1; the call alone in a statement of
# 1,000 calls, beside pg_snapshot_xmin(pg_current_snapshot()), which others use.

fresh_database
prime_streams
script settled <<<"SELECT es_settled_position();"
script one <<<"SELECT 1;"
script settled_alone <<<"SELECT count(es_settled_position()) FROM generate_series(1, 1000);"
script xmin_alone <<<"SELECT count(pg_snapshot_xmin(pg_current_snapshot())) FROM generate_series(1, 1000);"
script hold <<'SQL'
BEGIN;
SELECT es_append('held-' || :client_id, 'Held', :data, :metadata);
SELECT pg_sleep(3600);
COMMIT;
SQL
append_script append "$any_stream"
with_data=(-M prepared -D streams="$streams" -D data="$data" -D metadata="$metadata")

settled_cases() {
	clients=1
	begin_case "$1, round trip" µs
	side "es_settled_position()" pgbench_latency settled 1
	side "SELECT 1" pgbench_latency one 1
	measure_case
	begin_case "$1, the call alone" µs
	side "es_settled_position()" pgbench_latency settled_alone 1000
	side "pg_snapshot_xmin()" pgbench_latency xmin_alone 1000
	measure_case
}

settled_cases idle
for writers in 50 500; do
	background hold $writers "${with_data[@]}"
	background_waits $writers || true
	settled_cases "$writers open writers"
	end_background
done
sync=off
background append 4 "${with_data[@]}"
settled_cases "4 clients appending on the same cores"
end_background

# What ran in the background is not counted; what it rolled back left holes.
acked[eventstore]=$(sql -c 'SELECT count(*) FROM eventstore.events')
check_store
