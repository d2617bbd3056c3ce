# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Append rate beside subscriptions: 0, 10 and 1,000 sessions that wait, 1,000 idle subscriptions, 10 consumers that get everything.
#
# Waiting sessions are in es_poll_wait on subscriptions to another category.

fresh_database
prime_streams
sql -c "SELECT count(es_subscribe('waiting ' || n, NULL, '{never}')) FROM generate_series(1, 1000) n" >/dev/null
script append <<'SQL'
\set s random(1, :streams)
SELECT es_append('account-' || :s, 'Deposited', :data, :metadata);
SQL
script wait <<'SQL'
\set n :client_id + 1
CALL es_poll_wait('waiting ' || :n, '1h');
SQL
script consume <<'SQL'
\set n :client_id + 1
SELECT es_ack('all ' || :n, partition, max(position)) FROM es_poll('all ' || :n, 1000, '1s') GROUP BY partition;
SQL

# in_background SCRIPT CLIENTS: until end_background
in_background() {
	PGAPPNAME=bench_background "$bin/pgbench" -n -f "$work/$1.sql" -c "$2" -j 1 -T 3600 "$database" >/dev/null 2>&1 &
	background_pid=$!
	while [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench_background' AND wait_event_type = 'Extension'")" != "$2" ]; do
		sleep 0.1
	done
}
end_background() {
	kill "$background_pid" 2>/dev/null || true
	wait "$background_pid" 2>/dev/null || true
	sql -c "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'bench_background'" >/dev/null
	while [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench_background'")" != 0 ]; do
		sleep 0.1
	done
}

# append_beside SCRIPT CLIENTS
append_beside() {
	local status=0
	[ "$2" = 0 ] || in_background "$1" "$2"
	pgbench_rate eventstore 1 append || status=1
	[ "$2" = 0 ] || end_background
	return $status
}
# append_without: as if there were no subscription
append_without() {
	sql -c "SELECT count(es_unsubscribe(subscription)) FROM (SELECT DISTINCT subscription FROM es_subscriptions) s" >/dev/null
	pgbench_rate eventstore 1 append || return 1
	sql -c "SELECT count(es_subscribe('waiting ' || n, NULL, '{never}')) FROM generate_series(1, 1000) n" >/dev/null
}

clients=8 sync=off
begin_case "8 clients append, synchronous_commit off" events/s
side "1,000 idle subscriptions" append_beside wait 0
side "no subscription" append_without
side "10 sessions wait" append_beside wait 10
side "1,000 sessions wait" append_beside wait 1000
measure_case

sql -c "SELECT count(es_subscribe('all ' || n, NULL)) FROM generate_series(1, 10) n" >/dev/null
begin_case "8 clients append, consumers that get every event" events/s
side "none" append_beside consume 0
side "1" append_beside consume 1
side "10" append_beside consume 10
measure_case
check_store
