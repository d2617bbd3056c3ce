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

# background NAME CLIENTS: runs a script until end_background
background() {
	PGAPPNAME=bench_background "$bin/pgbench" -n -M prepared -f "$work/$1.sql" -c "$2" -j 1 -T 3600 -D streams="$streams" \
		-D data="$data" -D metadata="$metadata" "$database" >/dev/null 2>&1 &
	background_pid=$!
}
end_background() {
	kill "$background_pid" 2>/dev/null || true
	wait "$background_pid" 2>/dev/null || true
	sql -c "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'bench_background'" >/dev/null
	while [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench_background'")" != 0 ]; do
		sleep 0.1
	done
}
wait_for_holders() {
	local tries
	for ((tries = 0; tries < 600; tries++)); do
		[ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name = 'bench_background'")" != "$1" ] || return 0
		sleep 0.1
	done
	fail "$1 writers did not start"
}

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
	background hold $writers
	wait_for_holders $writers
	settled_cases "$writers open writers"
	end_background
done
sync=off
background append 4
settled_cases "4 clients appending on the same cores"
end_background

# What ran in the background is not counted; what it rolled back left holes.
acked[eventstore]=$(sql -c 'SELECT count(*) FROM eventstore.events')
check_store
