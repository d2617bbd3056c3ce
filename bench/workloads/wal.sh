# shellcheck shell=bash disable=SC2154,SC2034
# WAL and stored bytes an event: one event a transaction to 10,000 streams, against bare tables and peers.
#
# Full-page images are told apart by pg_waldump; they depend on how soon after a
# checkpoint one measures, the rest does not.

fresh_database
bare_table bare2 two
bare_table bare_segment segment
prime_streams bare2 bare_segment
hand_setup
clients=1 sync=off
n=$((events / 10))

script eventstore <<'SQL'
\set s random(1, :streams)
SELECT es_append('account-' || :s, 'Deposited', :data, :metadata);
SQL
script hand <<'SQL'
\set s random(1, :streams)
SELECT hand.append('account-' || :s, 'Deposited', :data, :metadata);
SQL
for name in bare2 bare_segment; do
	script $name <<SQL
\\set s random(1, :streams)
\\set v :v + 1
\\set version :run * 1000000000 + :v * 64 + :client_id
INSERT INTO bench.$name (stream_id, version, stream, type, data, metadata)
VALUES (:s, :version, 'account-' || :s, 'Deposited', :data, :metadata);
SQL
done

# wal_of SIDE TARGET SCRIPT SCHEMA-OR-TABLE-SIZE
wal_of() {
	local from to stats total images
	sql -c CHECKPOINT
	calm
	from=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
	pgbench_run "$2" 1 "$3" -t "$n" || { fail "$1 could not be measured"; return; }
	calm
	to=$(sql -c 'SELECT pg_current_wal_flush_lsn()')
	stats=$(as_server "$bin/pg_waldump" -p "$work/data/pg_wal" --stats -s "$from" -e "$to" 2>/dev/null | grep '^Total' || true)
	total=$(sql -c "SELECT '$to'::pg_lsn - '$from'::pg_lsn")
	images=$(fpi_bytes "$stats")
	case_name="WAL, full-page images left out" unit="bytes/event"
	record "$1" "$(awk "BEGIN { printf \"%.1f\", ($total - $images) / $n }")"
	case_name="WAL, full-page images after a checkpoint" unit="bytes/event"
	record "$1" "$(awk "BEGIN { printf \"%.1f\", $images / $n }")"
	case_name="WAL, all" unit="bytes/event"
	record "$1" "$(awk "BEGIN { printf \"%.1f\", $total / $n }")"
}

# fpi_bytes: the third of the four sizes of pg_waldump's line
# "Total  N  RECORD [x%]  FPI [y%]  COMBINED [100%]"
fpi_bytes() { awk '{ gsub(/\[[^]]*\]/, ""); print $4 + 0 }' <<<"${1:-Total 0 0 0 0}"; }

case_name="WAL and size" unit="bytes/event"
echo "  $n events a side and round"
for ((round = 1; round <= rounds; round++)); do
	wal_of "es_append" eventstore eventstore
	wal_of "bare INSERT, 2 unique indexes" bare2 bare2
	wal_of "bare INSERT, a segment's indexes" bare_segment bare_segment
	wal_of "plpgsql by hand" hand hand
done

# stored SIDE TARGET BYTES
stored() {
	case_name="stored, indexes included" unit="bytes/event" round=1
	record "$1" "$(sql -c "SELECT round(($3)::numeric / ${acked[$2]}, 1)")"
}
stored "es_append" eventstore "bench.bytes('eventstore')"
stored "bare INSERT, 2 unique indexes" bare2 "pg_total_relation_size('bench.bare2')"
stored "bare INSERT, a segment's indexes" bare_segment "pg_total_relation_size('bench.bare_segment')"
stored "plpgsql by hand" hand "bench.bytes('hand')"
for case_name in "WAL, all" "WAL, full-page images left out" "WAL, full-page images after a checkpoint" "stored, indexes included"; do
	echo "  $case_name"
	report_case
done

check_store
check_bare bare2
check_bare bare_segment
