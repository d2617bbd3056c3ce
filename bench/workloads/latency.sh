# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Delivery at 1,000 events a second: es_poll with wait, preloaded or not, LISTEN/NOTIFY, polling each 50 ms.
#
# Times are taken by one program for writer and reader (bench/peers/latency.c),
# before the reader acknowledges: from the commit, as the writer learns of it, and
# from the sending of the append. All four figures of a side are of the same run.

fresh_database
gcc -O2 -Wall -o "$work/latency" "$bench/peers/latency.c" -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq
sql -c "CREATE TABLE bench.latency (id bigserial PRIMARY KEY, n bigint)" >/dev/null
latency_figures=("from commit, median" "from commit, 99th percentile" "from sending, median" "from sending, 99th percentile")

# latency_run MODE: leaves the figures in "times", in that order
latency_run() {
	local out delivered distinct disorder rate
	sql -c "DO \$\$ BEGIN PERFORM es_unsubscribe('latency'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$" \
		-c "SELECT es_subscribe('latency', NULL)" -c "TRUNCATE bench.latency RESTART IDENTITY" >/dev/null
	out=$(PGOPTIONS="-c synchronous_commit=$sync" "$work/latency" "dbname=$database" "$1" 1000 "$seconds") || return 1
	read -r "times[2]" "times[3]" "times[0]" "times[1]" delivered distinct disorder rate <<<"$out"
	expect "deliveries, events, out of order by $1" "$((1000 * seconds)) $((1000 * seconds)) 0" "$delivered $distinct $disorder"
	[ "$rate" -ge 990 ] || note "$case_name: $1, round $round: only $rate events/s were sent"
	[ "$1" != poll ] || acked[eventstore]=$((acked[eventstore] + 1000 * seconds))
}

# latency_cases SUFFIX MODE...: a case for each figure
latency_cases() {
	local suffix=$1 i mode times
	local -A names=([poll]="es_poll" [notify]="LISTEN/NOTIFY, SELECT" [every50]="SELECT each 50 ms")
	shift
	unit=ms
	case_name=$suffix
	echo "  $suffix"
	sql -c CHECKPOINT
	for ((round = 1; round <= rounds; round++)); do
		for mode in "$@"; do
			calm
			times=()
			if ! latency_run "$mode"; then
				fail "$suffix: ${names[$mode]} could not be measured"
				continue
			fi
			for i in "${!latency_figures[@]}"; do
				case_name="${latency_figures[i]}, $suffix"
				record "${names[$mode]}" "${times[i]}"
			done
			case_name=$suffix
		done
	done
	for i in "${!latency_figures[@]}"; do
		case_name="${latency_figures[i]}, $suffix"
		echo "  $case_name"
		report_case
	done
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
	latency_cases "synchronous_commit $sync" poll notify every50
done
if [ "$preload" = on ]; then
	preload_library off
	for sync in off on; do
		latency_cases "synchronous_commit $sync, not preloaded" poll notify
	done
	preload_library on
fi
check_store
