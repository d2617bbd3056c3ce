# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Delivery at 1,000 events a second: es_poll with wait, preloaded or not, LISTEN/NOTIFY, polling each 50 ms.
#
# With synchronous_commit off es_poll flushes the WAL before it delivers, and LISTEN/NOTIFY delivers what a crash
# can take back; as es_poll does in a session with eventstore.read_durable off.
#
# Times are taken by one program for writer and reader (bench/peers/latency.c),
# before the reader acknowledges: from the commit, as the writer learns of it, and
# from when the append was due to be sent. All figures of a side are of the same run.

fresh_database
build_latency
sql -c "CREATE TABLE bench.latency (id bigserial PRIMARY KEY, n bigint)" >/dev/null
declare -A latency_names=([poll]="es_poll" [apart]="es_poll, es_ack apart" [async]="es_poll, es_ack not flushed" [piped]="es_poll, one message a delivery" [loose]="es_poll, not durable" [notify]="LISTEN/NOTIFY, SELECT" [every50]="SELECT each 50 ms")

# latency_run MODE: leaves the figures in "times", in that order
latency_run() {
	local out mode=$1 options="-c synchronous_commit=$sync"
	if [ "$1" = loose ]; then
		mode=poll
		options+=' -c eventstore.read_durable=off'
	fi
	sql -c "DO \$\$ BEGIN PERFORM es_unsubscribe('latency'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$" \
		-c "SELECT es_subscribe('latency', NULL)" -c "TRUNCATE bench.latency RESTART IDENTITY" >/dev/null
	out=$(PGOPTIONS=$options "$work/latency" "dbname=$database" "$mode" 1000 "$seconds") || return 1
	take_latencies "$1" "$out"
	[[ $mode != poll && $mode != apart && $mode != async && $mode != piped ]] || acked[eventstore]=$((acked[eventstore] + 1000 * seconds))
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

sync=off
latency_cases "synchronous_commit off" latency_run poll piped apart loose notify every50
sync=on
latency_cases "synchronous_commit on" latency_run poll piped apart async notify every50
if [ "$preload" = on ]; then
	preload_library off
	for sync in off on; do
		latency_cases "synchronous_commit $sync, not preloaded" latency_run poll notify
	done
	preload_library on
fi
check_store
