# shellcheck shell=bash disable=SC2154,SC2034
# Other event stores on PostgreSQL in the same run: single appends and batches of 100, each client on streams of its own.
#
# Everything but "emmett, its client" is driven by pgbench with prepared
# statements, so the numbers are those of the server. message-db takes one lock
# a category; its second side spreads the streams over 16.

fresh_database
bare_table bare2 two
prime_streams bare2
round=0
hand_setup
have_messagedb= have_emmett=
if reason=$(install_peers); then
	if messagedb_setup; then
		have_messagedb=1
		note "message-db $(package_version @eventide/message-db)"
	else
		note "message-db left out: its installation failed"
	fi
	clients=8
	if emmett_setup; then
		have_emmett=1
		note "emmett $(package_version @event-driven-io/emmett-postgresql), Node.js $(node --version)"
	else
		note "emmett left out: its set-up failed"
	fi
else
	note "message-db and emmett left out: $reason"
fi

own_stream="\\set s random(0, :streams / :clients - 1) * :clients + :client_id + 1"
script eventstore <<SQL
$own_stream
SELECT es_append('account-' || :s, 'Deposited', :data, :metadata);
SQL
script bare2 <<SQL
$own_stream
\\set v :v + 1
\\set version :run * 1000000000 + :v * 64 + :client_id
INSERT INTO bench.bare2 (stream_id, version, stream, type, data, metadata)
VALUES (:s, :version, 'account-' || :s, 'Deposited', :data, :metadata);
SQL
script hand <<SQL
$own_stream
SELECT hand.append('account-' || :s, 'Deposited', :data, :metadata);
SQL
script messagedb <<SQL
$own_stream
SELECT write_message(gen_random_uuid()::text, 'account-' || :s, 'Deposited', :data, :metadata);
SQL
script messagedb16 <<SQL
$own_stream
\\set k :s % 16
SELECT write_message(gen_random_uuid()::text, 'account' || :k || '-' || :s, 'Deposited', :data, :metadata);
SQL
script emmett <<SQL
$own_stream
SELECT * FROM emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY[:data]::jsonb[], ARRAY[:metadata]::jsonb[],
	ARRAY['1'], ARRAY['Deposited'], ARRAY['E'], 'account-' || :s, 'account', NULL, 'emt:default');
SQL

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
		measure_case
	done
done

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
if [ -n "$have_messagedb" ]; then check_messagedb; peer_database bench_messagedb drop; fi
if [ -n "$have_emmett" ]; then check_emmett; peer_database bench_emmett drop; fi
