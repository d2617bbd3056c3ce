# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Delivery at 1,000 events a second: es_poll with wait, preloaded or not, LISTEN/NOTIFY, polling each 50 ms.
#
# Times are taken by one program for writer and reader (bench/peers/latency.c),
# before the reader acknowledges: from the commit, as the writer learns of it, and
# from the sending of the append. All four figures of a side are of the same run.

fresh_database
build_latency
sql -c "CREATE TABLE bench.latency (id bigserial PRIMARY KEY, n bigint)" >/dev/null
declare -A latency_names=([poll]="es_poll" [notify]="LISTEN/NOTIFY, SELECT" [every50]="SELECT each 50 ms")

# latency_run MODE: leaves the figures in "times", in that order
latency_run() {
	local out
	sql -c "DO \$\$ BEGIN PERFORM es_unsubscribe('latency'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$" \
		-c "SELECT es_subscribe('latency', NULL)" -c "TRUNCATE bench.latency RESTART IDENTITY" >/dev/null
	out=$(PGOPTIONS="-c synchronous_commit=$sync" "$work/latency" "dbname=$database" "$1" 1000 "$seconds") || return 1
	take_latencies "$1" "$out"
	[ "$1" != poll ] || acked[eventstore]=$((acked[eventstore] + 1000 * seconds))
}

# preload_library on|off: restarts the server with or without the library preloaded
preload_library() {
	local library=''
	[ "$1" = off ] || library=eventstore
	as_server sed -i "s/^shared_preload_libraries = .*/shared_preload_libraries = '$library'/" "$work/data/postgresql.conf"
	stop_server
	start_server
	expect "shared_preload_libraries" "$library" "$(sql -c "SHOW shared_preload_libraries")"
}

for sync in off on; do
	latency_cases "synchronous_commit $sync" latency_run poll notify every50
done
if [ "$preload" = on ]; then
	preload_library off
	for sync in off on; do
		latency_cases "synchronous_commit $sync, not preloaded" latency_run poll notify
	done
	preload_library on
fi
check_store
