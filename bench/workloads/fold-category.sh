# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_replay_category of streams of ten events, on one core and on more, against aggregates over jsonb_concat with GROUP BY.
#
# A thousand streams get their events between each other's. All sides count the
# states, none sends them to the client. What SQL does is measured sorted by
# stream and version, and in order of the index; the scan is the reading alone.

make_accounts 1000 1 "orders $((events / 10)) 10 4"
count=$(sql -c "SELECT streams FROM bench.kinds")

in_order="(SELECT stream_id, data FROM bench.accounts ORDER BY stream_id, version OFFSET 0) e"
by_index="SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET enable_hashagg = off;"
# category_script NAME WORKERS REDUCER
category_script() {
	script "$1" <<-SQL
	SET max_parallel_workers_per_gather = $2;
	SELECT count(state) FROM es_replay_category('orders', '$3');
	SQL
}
category_script ops0 0 bench_ops
category_script ops1 1 bench_ops
category_script ops_default DEFAULT bench_ops
category_script merge0 0 merge
category_script sql0 0 bench_sql
script sorted <<SQL
SET max_parallel_workers_per_gather = 0;
SELECT count(state) FROM (SELECT stream, bench.concat(data ORDER BY version) AS state FROM bench.accounts GROUP BY stream) s;
SQL
script indexed <<SQL
SET max_parallel_workers_per_gather = 0; $by_index
SELECT count(state) FROM (SELECT stream_id, bench.concat(data) AS state FROM $in_order GROUP BY stream_id) s;
SQL
script scan <<SQL
SET max_parallel_workers_per_gather = 0; $by_index
SELECT count(data) FROM $in_order;
SQL

# states_by SETTINGS FROM: digest of the states, in any order
states_by() { sql -c "$1" -c "SELECT md5(string_agg(state::text, '' ORDER BY stream)) FROM $2"; }
states=$(states_by "" "(SELECT stream, bench.concat(data ORDER BY version) AS state FROM bench.accounts GROUP BY stream) s")
expect_same "states in order of the index" "$states" "$(states_by "$by_index" "(SELECT stream_id, bench.concat(data) AS state
	FROM $in_order GROUP BY stream_id) s JOIN (SELECT stream_id, name AS stream FROM eventstore.streams) n USING (stream_id)")"
for name in ops0 ops1 ops_default merge0 sql0; do
	expect_same "states by $name" "$states" \
		"$(states_by "$(sed -n 1p "$work/$name.sql")" "$(sed -n 's/.*FROM \(es_.*\);/\1/p' "$work/$name.sql")")"
done

begin_case "$count streams of 10, no worker" events/s
side "es_replay_category, ops" pgbench_rate none $((count * 10)) ops0
side "es_replay_category, built-in merge" pgbench_rate none $((count * 10)) merge0
side "es_replay_category, SQL functions" pgbench_rate none $((count * 10)) sql0
side "GROUP BY, ORDER BY in the aggregate" pgbench_rate none $((count * 10)) sorted
side "GROUP BY, in order of the index" pgbench_rate none $((count * 10)) indexed
side "scan in order of the index" pgbench_rate none $((count * 10)) scan
measure_case
begin_case "$count streams of 10, max_parallel_workers_per_gather" events/s
side "1" pgbench_rate none $((count * 10)) ops1
side "default" pgbench_rate none $((count * 10)) ops_default
side "0" pgbench_rate none $((count * 10)) ops0
# what the machine's second core can add to this at most
by_two_sessions() { local clients=2; pgbench_rate "$@"; }
side "0, two sessions at a time" by_two_sessions none $((count * 10)) ops0
side "0, scan by two sessions at a time" by_two_sessions none $((count * 10)) scan
side "0, scan" pgbench_rate none $((count * 10)) scan
measure_case

check_store
check_bare accounts gapfree
