# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# From the sending of an append to its delivery at 1,000 events a second: es_poll with wait, LISTEN/NOTIFY, polling each 50 ms.
#
# Times are taken by one program for writer and reader (bench/peers/latency.c),
# before the reader acknowledges. Not preloaded: run this workload once more with
# --preload off.

fresh_database
gcc -O2 -Wall -o "$work/latency" "$bench/peers/latency.c" -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq
sql -c "CREATE TABLE bench.latency (id bigserial PRIMARY KEY, sent bigint)" >/dev/null

# latency_run MODE FIELD: ms, the median (1) or the 99th percentile (2)
latency_run() {
	local out
	sql -c "DO \$\$ BEGIN PERFORM es_unsubscribe('latency'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$" \
		-c "SELECT es_subscribe('latency', NULL)" -c "TRUNCATE bench.latency RESTART IDENTITY" >/dev/null
	out=$(PGOPTIONS="-c synchronous_commit=$sync" "$work/latency" "dbname=$database" "$1" 1000 "$seconds") || return 1
	expect "delivered by $1" $((1000 * seconds)) "$(cut -d' ' -f3 <<<"$out")"
	measured=$(cut -d' ' -f"$2" <<<"$out")
	[ "$1" != poll ] || acked[eventstore]=$((acked[eventstore] + 1000 * seconds))
}

for sync in off on; do
	for figure in "median 1" "99th_percentile 2"; do
		begin_case "${figure% *}, synchronous_commit $sync" ms
		side "es_poll" latency_run poll "${figure#* }"
		side "LISTEN/NOTIFY, SELECT" latency_run notify "${figure#* }"
		side "SELECT each 50 ms" latency_run every50 "${figure#* }"
		measure_case
	done
done
check_store
