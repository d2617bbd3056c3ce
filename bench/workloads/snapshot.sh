# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_replay without snapshots and with one each 100 events, alone and after each append.
#
# Appending sides have a stream of their own each, so that none finds events of
# another. Nothing waits for the disk: a replay of what was appended with
# synchronous_commit off would, were eventstore.read_durable on.

sync=off
lengths=(1000)
[ "$events" -lt 100000 ] || lengths+=(100000)
kinds=()
for length in "${lengths[@]}"; do
	kinds+=("stream$length 3 $length 16")
done
make_accounts 1000000000 10 "${kinds[@]}"
sql -c "ALTER DATABASE $database SET eventstore.read_durable = off"
sql -c "CALL bench.make_ops_reducer('bench_snapshots')" -c "SELECT es_snapshot_every('bench_snapshots', 100)" >/dev/null

# replay_script NAME STREAM REDUCER [append]
replay_script() {
	{
		[ -z "${4:-}" ] || echo "SELECT es_append('$2', 'Changed', :data, :metadata);"
		[ "$3" = none ] || echo "SELECT state FROM es_replay('$2', '$3');"
	} | script "$1"
}

# expect_states STREAM: with and without snapshots
expect_states() {
	expect_same "state of $1 with snapshots and without" \
		"$(sql -c "SELECT md5(r::text) FROM es_replay('$1', 'bench_snapshots') r")" \
		"$(sql -c "SELECT md5(r::text) FROM es_replay('$1', 'bench_ops') r")"
}

# appending SCRIPT: µs a transaction of one append
appending() {
	pgbench_run eventstore 1 "$1" -T "$seconds" || return 1
	measured=$(awk "BEGIN { printf \"%.2f\", 1000000 / $tps }")
}

for length in "${lengths[@]}"; do
	with=stream$length-1 without=stream$length-2 alone=stream$length-3
	replay_script with "$with" bench_snapshots
	replay_script without "$with" bench_ops
	replay_script with_append "$with" bench_snapshots append
	replay_script without_append "$without" bench_ops append
	replay_script append_alone "$alone" none append
	expect_states "$with"
	expect_states "$with"
	begin_case "es_replay, stream of $length" µs
	side "no snapshots" pgbench_latency without 1
	side "a snapshot each 100 events" pgbench_latency with 1
	measure_case
	begin_case "es_append and es_replay, stream of $length" µs
	side "no snapshots" appending without_append
	side "a snapshot each 100 events" appending with_append
	side "es_append alone" appending append_alone
	measure_case
	expect_states "$with"
done

check_store
