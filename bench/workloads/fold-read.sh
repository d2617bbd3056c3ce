# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_replay of streams of 1,000 events by ops, against reading the same events in the server.
#
# No side sends events or states to the client.

make_accounts 1000000000 10 "fold1000 $(streams_of_length 1000 $((events / 4))) 1000 16"
segment=$(sql -c "SELECT min(inhrelid)::regclass FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass")

account_script ops fold1000 <<'SQL'
SELECT count(state) FROM es_replay('fold1000-' || :s, 'bench_ops');
SQL
account_script merge fold1000 <<'SQL'
SELECT count(state) FROM es_replay('fold1000-' || :s, 'merge');
SQL
account_script read fold1000 <<'SQL'
SELECT count(data) FROM es_read('fold1000-' || :s);
SQL
account_script plain fold1000 <<SQL
SELECT sum(pg_column_size(data)) FROM (SELECT data FROM $segment WHERE stream_id = :id ORDER BY version OFFSET 0) e;
SQL
account_script index_only fold1000 <<SQL
SELECT sum(version) FROM (SELECT version FROM $segment WHERE stream_id = :id ORDER BY version OFFSET 0) e;
SQL

for clients in 1 8; do
	begin_case "streams of 1000, state of 1 KB, $(plural "$clients" client)" µs
	side "es_replay, ops" pgbench_latency ops 1
	side "es_replay, built-in merge" pgbench_latency merge 1
	side "es_read" pgbench_latency read 1
	side "SELECT in order of the index, size of data" pgbench_latency plain 1
	side "SELECT in order of the index, version by an index-only scan" pgbench_latency index_only 1
	measure_case
done

check_store
check_bare accounts gapfree
