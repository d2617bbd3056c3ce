# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# WAL and stored bytes an event: one event a transaction to 10,000 streams, against bare tables and peers.
#
# Full-page images are told apart by pg_waldump; they depend on how soon after a
# checkpoint one measures, the rest does not. The last round's records by kind
# are in bench/results/wal-*.txt.

fresh_database
bare_table bare2 two
bare_table bare_segment segment
prime_streams bare2 bare_segment
round=0
hand_setup
clients=8
npm_peers_setup
clients=1 sync=off
n=$((events / 10))

append_script eventstore "$any_stream"
peer_scripts "$any_stream"
for name in bare2 bare_segment; do
	insert_script $name $name "$any_stream"
done

# wal_of SIDE TARGET [DATABASE [SEARCH_PATH]]: one round of a side
wal_of() {
	local from to stats total images
	sql -c CHECKPOINT
	calm
	from=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
	database=${3:-$database} search_path=${4:-} pgbench_run "$2" 1 "$2" -t "$n" || { fail "$1 could not be measured"; return; }
	to=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
	calm
	as_server "$bin/pg_waldump" -p "$work/data/pg_wal" --stats=record -s "$from" -e "$to" 2>/dev/null \
		>"$bench/results/wal-$2.txt" || true
	stats=$(grep '^Total' "$bench/results/wal-$2.txt" || true)
	[ -n "$stats" ] || fail "pg_waldump read nothing of $1"
	total=$(sql -c "SELECT '$to'::pg_lsn - '$from'::pg_lsn")
	images=$(fpi_bytes "$stats")
	unit="bytes/event"
	case_name="WAL, all"
	record "$1" "$(awk "BEGIN { printf \"%.1f\", $total / $n }")"
	case_name="WAL, full-page images left out"
	record "$1" "$(awk "BEGIN { printf \"%.1f\", ($total - $images) / $n }")"
	case_name="WAL, full-page images after a checkpoint"
	record "$1" "$(awk "BEGIN { printf \"%.1f\", $images / $n }")"
}

# fpi_bytes: the third of the four sizes of pg_waldump's line
# "Total  N  RECORD [x%]  FPI [y%]  COMBINED [100%]"
fpi_bytes() { awk '{ gsub(/\[[^]]*\]/, ""); print $4 + 0 }' <<<"${1:-Total 0 0 0 0}"; }

echo "  $n events a side and round"
for ((round = 1; round <= rounds; round++)); do
	wal_of "es_append" eventstore
	wal_of "bare INSERT, 2 unique indexes" bare2
	wal_of "bare INSERT, a segment's indexes" bare_segment
	wal_of "plpgsql by hand" hand
	[ -z "$have_messagedb" ] || wal_of "message-db" messagedb bench_messagedb message_store,public
	[ -z "$have_emmett" ] || wal_of "emmett" emmett bench_emmett
done

# stored SIDE TARGET BYTES
stored() { record "$1" "$(awk "BEGIN { printf \"%.1f\", $3 / ${acked[$2]} }")"; }
case_name="stored, with indexes and streams" round=1
stored "es_append" eventstore "$(bytes_of eventstore)"
stored "bare INSERT, 2 unique indexes" bare2 "$(sql -c "SELECT pg_total_relation_size('bench.bare2')")"
stored "bare INSERT, a segment's indexes" bare_segment "$(sql -c "SELECT pg_total_relation_size('bench.bare_segment')")"
stored "plpgsql by hand" hand "$(bytes_of hand)"
[ -z "$have_messagedb" ] || stored "message-db" messagedb "$(database=bench_messagedb; bytes_of message_store)"
[ -z "$have_emmett" ] || stored "emmett" emmett "$(database=bench_emmett; bytes_of public)"
for case_name in "WAL, all" "WAL, full-page images left out" "WAL, full-page images after a checkpoint" "stored, with indexes and streams"; do
	echo "  $case_name"
	report_case
done

check_store
check_bare bare2
check_bare bare_segment
check_hand
npm_peers_end
