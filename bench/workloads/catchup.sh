# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Events a second through one subscription that catches up, against SELECT … LIMIT and a checkpoint row.
#
# In the server, a transaction a page: polled, counted, acknowledged.

fresh_database
sql -c "SELECT count(es_append_batch('catchup-' || b % 100, bench.batch(b * 1000, 1000))) FROM generate_series(1, $events / 1000) b" >/dev/null
acked[eventstore]=$((acked[eventstore] + events / 1000 * 1000))
sql -c "CREATE TABLE bench.checkpoint (position bigint)" -c "INSERT INTO bench.checkpoint VALUES (0)" -c "ANALYZE" >/dev/null
sql >/dev/null <<'SQL'
CREATE PROCEDURE bench.consume(subscription text, member text, page int, INOUT consumed bigint) LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	LOOP
		WITH d AS MATERIALIZED (SELECT * FROM es_poll(subscription, page, member => member)),
			p AS (SELECT partition, max(position) AS last, count(data) AS n FROM d GROUP BY partition),
			a AS MATERIALIZED (SELECT es_ack(subscription, partition, last, member), p.n FROM p)
		SELECT sum(a.n) INTO n FROM a;
		COMMIT;
		EXIT WHEN n IS NULL AND NOT EXISTS (SELECT FROM es_subscriptions s WHERE s.subscription = consume.subscription AND lag > 0);
		consumed := consumed + coalesce(n, 0);
	END LOOP;
END $$;
CREATE PROCEDURE bench.consume_bare(page int, INOUT consumed bigint) LANGUAGE plpgsql AS $$
DECLARE n bigint; last bigint := 0; next bigint;
BEGIN
	LOOP
		SELECT count(data), max(position) INTO n, next FROM (SELECT * FROM es_events WHERE position > last ORDER BY position LIMIT page) e;
		EXIT WHEN n = 0;
		UPDATE bench.checkpoint SET position = next;
		COMMIT;
		last := next;
		consumed := consumed + n;
	END LOOP;
END $$;
SQL

# through PARTITIONS MEMBERS PAGE: all events through one subscription
through() {
	local i total=0 start end
	sql -c "DO \$\$ BEGIN PERFORM es_unsubscribe('catchup'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$" \
		-c "SELECT es_subscribe('catchup', partitions => $1)" >/dev/null
	for ((i = 0; $2 > 1 && i < $2; i++)); do
		sql -c "SELECT count(*) FROM es_poll('catchup', 1, member => 'm$i', lease => '1h') WHERE false" >/dev/null
	done
	sql -c "DO \$\$ BEGIN PERFORM es_rewind('catchup', 0); END \$\$"
	start=${EPOCHREALTIME/./}
	for ((i = 0; i < $2; i++)); do
		sql -c "CALL bench.consume('catchup', 'm$i', $3, 0)" >"$work/catchup.$i" &
	done
	wait
	end=${EPOCHREALTIME/./}
	for ((i = 0; i < $2; i++)); do
		total=$((total + $(cat "$work/catchup.$i")))
	done
	expect "consumed by $2 on $1 partitions" "${acked[eventstore]}" "$total"
	measured=$(awk "BEGIN { printf \"%.1f\", $total * 1000000 / ($end - $start) }")
}

# bare PAGE
bare() { timed "${acked[eventstore]}" sql -c "CALL bench.consume_bare($1, 0)"; }

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
