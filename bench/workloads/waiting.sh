# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Append rate beside subscriptions: idle ones, 10 and 1,000 sessions that wait, consumers that get everything.
#
# Waiting sessions are in es_poll_wait, or in es_poll with wait, on subscriptions
# to a category that is never appended to. What a thousand connections cost by
# themselves is told by as many sessions in pg_sleep.

fresh_database
prime_streams
append_script append "$any_stream"
script wait <<'SQL'
\set n :client_id + 1
CALL es_poll_wait('waiting ' || :n, '1h');
SQL
script poll <<'SQL'
\set n :client_id + 1
SELECT count(*) FROM es_poll('waiting ' || :n, 100, '1h');
SQL
script sleep <<'SQL'
SELECT pg_sleep(3600);
SQL
script consume <<'SQL'
\set n :client_id + 1
SELECT es_ack('all ' || :n, partition, max(position)) FROM es_poll('all ' || :n, 1000, '1s') GROUP BY partition;
SQL
# the same, and leaves in its own transaction what it got
script tally <<'SQL'
\set n :client_id + 1
WITH e AS MATERIALIZED (SELECT * FROM es_poll('all ' || :n, 1000, '1s')),
	a AS MATERIALIZED (SELECT es_ack('all ' || :n, partition, max(position)) FROM e GROUP BY partition)
INSERT INTO bench.tally SELECT :n, count(*), sum(hashint8(position)), (SELECT count(*) FROM a) FROM e HAVING count(*) > 0;
SQL
sql -c "CREATE TABLE bench.tally (consumer int, events bigint, digest numeric, acks int)" >/dev/null

subscribe() { sql -c "SELECT count(es_subscribe('waiting ' || n, NULL, '{never}')) FROM generate_series(1, 1000) n" >/dev/null; }
unsubscribe() { sql -c "SELECT count(es_unsubscribe(subscription)) FROM (SELECT DISTINCT subscription FROM es_subscriptions) s" >/dev/null; }
subscribe

# append_beside SCRIPT CLIENTS: once consumers have caught up they have everything
append_beside() {
	local status=0
	if [ "$2" = 0 ]; then
		pgbench_rate eventstore 1 append
		return
	fi
	{ background "$1" "$2" && background_waits "$2" && pgbench_rate eventstore 1 append; } || status=1
	case $1 in
		consume | tally)
			comes_true "SELECT count(*) = 0 FROM es_subscriptions WHERE subscription LIKE 'all %' AND substr(subscription, 5)::int <= $2 AND lag > 0" ||
				fail "$2 consumers do not catch up" ;;
	esac
	end_background
	return $status
}
# append_without: as if there were no subscription
append_without() {
	unsubscribe
	pgbench_rate eventstore 1 append || return 1
	subscribe
}

clients=8
for sync in off on; do
	begin_case "8 clients append, synchronous_commit $sync" events/s
	side "no subscription" append_without
	side "1,000 idle subscriptions" append_beside none 0
	side "10 sessions in es_poll_wait" append_beside wait 10
	side "10 sessions in es_poll" append_beside poll 10
	side "1,000 sessions in es_poll_wait" append_beside wait 1000
	side "1,000 sessions in es_poll" append_beside poll 1000
	side "1,000 sessions in pg_sleep" append_beside sleep 1000
	measure_case
done

# consumers SCRIPT CLIENTS: of subscriptions that begin now
consumers() {
	sql -c "SELECT count(es_rewind('all ' || n, NULL)) FROM generate_series(1, 10) n" >/dev/null
	append_beside "$@"
}
sql -c "SELECT count(es_subscribe('all ' || n, NULL)) FROM generate_series(1, 10) n" >/dev/null
for sync in off on; do
	begin_case "8 clients append, consumers of every event, synchronous_commit $sync" events/s
	side "none" consumers none 0
	side "1" consumers consume 1
	side "10" consumers consume 10
	measure_case
done

# Once more, not measured, and every consumer keeps what it got: all, and once.
sync=off
last=$(sql -c "SELECT es_settled_position()")
consumers tally 10 || fail "consumers that keep what they got"
expect "consumers, and those that did not get every event once" "10 0" "$(sql -c "
	WITH e AS (SELECT count(*) AS events, sum(hashint8(position)) AS digest FROM es_events WHERE position > $last),
		t AS (SELECT consumer, sum(events) AS events, sum(digest) AS digest FROM bench.tally GROUP BY consumer)
	SELECT count(*) || ' ' || count(*) FILTER (WHERE (t.events, t.digest) IS DISTINCT FROM (e.events, e.digest)) FROM t, e")"
check_store
