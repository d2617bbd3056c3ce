# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Other event stores in the same run, on PostgreSQL and outside of it: single appends and batches of 100.
#
# Each client has streams of its own, but those of redis-benchmark. What runs on
# PostgreSQL, but "emmett, its client", is driven by pgbench with prepared
# statements, so the numbers are those of the server. message-db takes one lock
# a category; its second side spreads the streams over 16. Redis and NATS are
# asked to be as durable as the case's synchronous_commit says.

fresh_database
bare_table bare2 two
prime_streams bare2
round=0
hand_setup
clients=8
npm_peers_setup
servers_setup

append_script eventstore "$own_stream"
insert_script bare2 bare2 "$own_stream"
peer_scripts "$own_stream"

for sync in off on; do
	for clients in $client_counts; do
		begin_case "1 event, $(plural "$clients" client), synchronous_commit $sync" events/s
		side "es_append" pgbench_rate eventstore 1 eventstore
		side "bare INSERT, 2 unique indexes" pgbench_rate bare2 1 bare2
		side "plpgsql by hand" pgbench_rate hand 1 hand
		if [ -n "$have_messagedb" ]; then
			side "message-db, 1 category" messagedb_rate messagedb
			side "message-db, 16 categories" messagedb_rate messagedb16
		fi
		if [ -n "$have_emmett" ]; then
			side "emmett, its function" emmett_function_rate 1 emmett
			side "emmett, its client" emmett_rate 1
		fi
		start_servers "$sync" redis nats
		if [ -n "$have_redis" ]; then
			side "Redis Streams, appendfsync $(redis_how "$sync")" redis_rate
		fi
		if nats_can "$sync"; then
			side "NATS JetStream, $(nats_how "$sync")" nats_rate any NATS
			if [ -n "$have_nats_client" ]; then
				side "NATS JetStream, $(nats_how "$sync"), its client" nats_rate client "NATS, its client"
			fi
		fi
		measure_case
		stop_servers
	done
done

# The expected version is read first on both sides, as in the workload "exact".
exact_script eventstore_exact "$own_stream"
clients=8
for sync in off on; do
	nats_can "$sync" || continue
	begin_case "1 event, version read and expected, $(plural "$clients" client), synchronous_commit $sync" events/s
	side "es_stream_version, es_append" pgbench_rate eventstore 1 eventstore_exact
	start_servers "$sync" nats
	side "NATS JetStream, $(nats_how "$sync")" nats_rate exact "NATS, expected version"
	measure_case
	stop_servers
done
report_cores

script eventstore100 <<SQL
\\if :loaded = 0
SELECT bench.batch(1, 100) AS json \\gset
\\set loaded 1
\\endif
$own_stream
SELECT es_append_batch('account-' || :s, :json);
SQL
sed 's/es_append_batch/hand.append_batch/' "$work/eventstore100.sql" | script hand100
sync=off
for clients in 1 8; do
	begin_case "100 events a call, $(plural "$clients" client), synchronous_commit $sync" events/s
	side "es_append_batch" pgbench_rate eventstore 100 eventstore100
	side "plpgsql by hand" pgbench_rate hand 100 hand100
	if [ -n "$have_emmett" ]; then
		side "emmett, its client" emmett_rate 100
	fi
	measure_case
done

check_store
check_bare bare2
check_hand
npm_peers_end
