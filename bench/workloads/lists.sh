# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_read_all of 100,000 events in 5,000 categories by lists of 100, 5,000 and 100,000 names that let the same events pass.
#
# The longer lists have the names of the shorter ones and others that no event has.
# Lists are rows of a table: reading and hashing one is counted, its way from the
# client is not. What is counted is the time an event of the log, or a call.

fresh_database
listed=100000
sql -c "SELECT count(*) FROM generate_series(1, $listed / 1000) n, LATERAL es_append_many((SELECT jsonb_agg(jsonb_build_object(
		'stream', 'list' || i % 5000 || '-1', 'type', 'Listed' || i % 7, 'data', bench.data(i))) FROM generate_series((n - 1) * 1000, n * 1000 - 1) i)) a" \
	-c "CREATE TABLE bench.lists AS
		SELECT kind || n AS list, array_agg(CASE WHEN i < present THEN prefix || i ELSE 'none' || i END) AS names
		FROM (VALUES ('types', 'Listed', 7), ('few', 'list', 100), ('all', 'list', 5000), ('none', 'list', 0)) k(kind, prefix, present),
			unnest(ARRAY[100, 5000, 100000]) n, generate_series(0, n - 1) i GROUP BY kind, n" >/dev/null
acked[eventstore]=$((acked[eventstore] + listed))
sql -c 'VACUUM (FREEZE, ANALYZE) eventstore.events' -c 'VACUUM (FREEZE, ANALYZE) eventstore.streams'

# list_script NAME LIST ARGUMENT [COUNT]
list_script() {
	script "$1" <<<"SELECT count(position) FROM es_read_all(0, ${4:-NULL}, $3 => (SELECT names FROM bench.lists WHERE list = '$2'));"
}
script unfiltered <<<"SELECT count(position) FROM es_read_all(0, NULL);"
for names in 100 5000 100000; do
	list_script types$names types$names types
	list_script few$names few$names categories
	list_script none$names none$names categories
	list_script all$names all$names categories
	list_script page$names all$names categories 10
done
for names in 5000 100000; do
	expect_same "100 categories in a list of $names" "$(sql -f "$work/few100.sql")" "$(sql -f "$work/few$names.sql")"
	expect_same "all types in a list of $names" "$(sql -f "$work/types100.sql")" "$(sql -f "$work/types$names.sql")"
done

clients=1
# list_sides SCRIPT DIVISOR LENGTH...: a side for each length of the list
list_sides() {
	local names
	for names in "${@:3}"; do
		side "${names/%000/,000} names" pgbench_latency "$1$names" "$2"
	done
}
begin_case "all events, by type" "µs an event"
list_sides types $listed 5000 100 100000
side "no filter" pgbench_latency unfiltered $listed
measure_case
begin_case "all events, by category" "µs an event"
list_sides all $listed 5000 100000
side "no filter" pgbench_latency unfiltered $listed
measure_case
begin_case "2,000 events, by category" "ms a call"
list_sides few 1000 5000 100 100000
measure_case
begin_case "the first 10 events, by category" "ms a call"
list_sides page 1000 5000 100 100000
measure_case
begin_case "no event, by category" "ms a call"
list_sides none 1000 5000 100 100000
measure_case

check_store
