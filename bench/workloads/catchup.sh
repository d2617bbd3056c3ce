# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Events a second through one subscription that catches up, against SELECT … LIMIT and a checkpoint row.
#
# In the server, a transaction a page: polled, counted, acknowledged. From the
# first page's begin to the last one's commit, so connecting and finding out that
# nothing is left do not count. Members have joined before; one that has nothing
# to do waits, as consumers do.

fresh_database
# ten events at a time, so a page has events of many streams, and of all partitions
sql -c "SELECT count(es_append_batch('catchup-' || b % 1000, bench.batch(1, 10))) FROM generate_series(1, $events / 10) b" >/dev/null
acked[eventstore]=$((acked[eventstore] + events / 10 * 10))
sql -c "CREATE TABLE bench.checkpoint (position bigint)" -c "INSERT INTO bench.checkpoint VALUES (0)" -c "ANALYZE" >/dev/null
# What both procedures give: events, a sum that tells which, and when they began and ended, in µs.
sql >/dev/null <<'SQL'
CREATE FUNCTION bench.microseconds() RETURNS bigint LANGUAGE sql VOLATILE AS
	$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;
CREATE PROCEDURE bench.consume(subscription text, member text, page int,
	INOUT consumed bigint = 0, INOUT digest numeric = 0, INOUT began bigint = 0, INOUT ended bigint = 0) LANGUAGE plpgsql AS $$
DECLARE n bigint; d numeric; waits boolean := true;
BEGIN
	began := bench.microseconds();
	LOOP
		-- after a wait for nothing a poll that does not wait: it moves checkpoints on past what others got
		WITH e AS MATERIALIZED (SELECT * FROM es_poll(subscription, page, CASE WHEN waits THEN interval '100ms' ELSE '0' END, member)),
			p AS (SELECT partition, max(position) AS last, count(data) AS n, sum(hashint8(position)) AS d FROM e GROUP BY partition),
			a AS MATERIALIZED (SELECT es_ack(subscription, partition, last, member), p.n, p.d FROM p)
		SELECT sum(a.n), sum(a.d) INTO n, d FROM a;
		COMMIT;
		waits := n IS NOT NULL OR NOT waits;
		IF n IS NOT NULL THEN
			consumed := consumed + n;
			digest := digest + d;
			ended := bench.microseconds();
		ELSIF NOT EXISTS (SELECT FROM es_subscriptions s WHERE s.subscription = consume.subscription AND lag > 0) THEN
			EXIT;
		END IF;
	END LOOP;
END $$;
CREATE PROCEDURE bench.consume_bare(page int,
	INOUT consumed bigint = 0, INOUT digest numeric = 0, INOUT began bigint = 0, INOUT ended bigint = 0) LANGUAGE plpgsql AS $$
DECLARE n bigint; d numeric; last bigint := 0; next bigint;
BEGIN
	began := bench.microseconds();
	LOOP
		SELECT count(data), sum(hashint8(position)), max(position) INTO n, d, next
			FROM (SELECT * FROM es_events WHERE position > last ORDER BY position LIMIT page) e;
		EXIT WHEN n = 0;
		UPDATE bench.checkpoint SET position = next;
		COMMIT;
		last := next;
		consumed := consumed + n;
		digest := digest + d;
		ended := bench.microseconds();
	END LOOP;
END $$;
SQL
# once and only once: as many, and the same ones
all_events="${acked[eventstore]} $(sql -c "SELECT sum(hashint8(position)) FROM es_events")"

# consumed_by WHAT FILE...: what the procedures gave; sets measured
consumed_by() {
	local what=$1 sums time_
	shift
	read -r sums time_ < <(cat "$@" | awk -F'|' '
		NF == 4 { n += $1; digest += $2; if (!first || $3 < first) first = $3; if ($4 > last) last = $4 }
		END { printf "%d,%.0f %.0f\n", n, digest, last - first }')
	expect "events and their digest, $what" "$all_events" "${sums/,/ }"
	[ "$time_" -gt 0 ] || return 1
	measured=$(awk "BEGIN { printf \"%.1f\", ${sums%,*} * 1000000 / $time_ }")
}

# through PARTITIONS MEMBERS PAGE: all events through one subscription
through() {
	local i pids=() files=()
	sql -c "DO \$\$ BEGIN PERFORM es_unsubscribe('catchup'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$" \
		-c "SELECT es_subscribe('catchup', NULL, partitions => $1)" >/dev/null
	for ((i = 0; i < $2; i++)); do
		sql -c "SELECT count(*) FROM es_poll('catchup', 1, member => 'm$i', lease => '1h')" >/dev/null
	done
	[ "$1" = 1 ] || expect "members" "$2" "$(sql -c "SELECT count(*) FROM eventstore.subscription_members JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'catchup'")"
	sql -c "SELECT es_rewind('catchup', 0)" >/dev/null
	for ((i = 0; i < $2; i++)); do
		files+=("$work/catchup.$i")
		sql -c "CALL bench.consume('catchup', 'm$i', $3)" >"$work/catchup.$i" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || return 1
	done
	consumed_by "$2 of $1 partitions" "${files[@]}"
	expect "partitions behind" 0 "$(sql -c "SELECT count(*) FROM es_subscriptions WHERE subscription = 'catchup' AND lag > 0")"
}

# bare PAGE
bare() {
	sql -c "CALL bench.consume_bare($1)" >"$work/catchup.bare" || return 1
	consumed_by "SELECT … LIMIT" "$work/catchup.bare"
}

for page in 100 1000; do
	begin_case "${acked[eventstore]} events, $page a transaction" events/s
	side "es_poll, es_ack" through 1 1 $page
	side "SELECT … LIMIT $page, UPDATE" bare $page
	measure_case
done
begin_case "${acked[eventstore]} events, 10 partitions, 1000 a transaction" events/s
side "10 members" through 10 10 1000
side "2 members" through 10 2 1000
side "1 member" through 10 1 1000
measure_case
check_store
