# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Bulk import in one transaction: es_append_batch, COPY and INSERT … SELECT into es_events, against bare tables.
#
# Every measurement begins with an empty store or table. The rows belong to
# 10,000 streams and come in mixed order, save for the batches, which are 1,000
# events of one stream each.

fresh_database
sql -c "CREATE TABLE bench.source AS
		SELECT i, s AS stream_id, row_number() OVER (PARTITION BY s ORDER BY i) AS version,
			'account-' || s AS stream, 'Deposited' AS type, bench.data(i) AS data, bench.metadata(i) AS metadata
		FROM (SELECT i, i * 7919 % $streams + 1 AS s FROM generate_series(1, $events::bigint) i) x
		ORDER BY i" \
	-c "CREATE TABLE bench.batches AS
		SELECT b, 'batch-' || b AS stream, bench.batch(b * 1000 + 1, 1000) AS events
		FROM generate_series(0, $events / 1000 - 1) b" \
	-c "VACUUM (FREEZE, ANALYZE) bench.source, bench.batches"
as_server "$bin/psql" -X -q -d "$database" \
	-c "COPY (SELECT stream, type, data, metadata FROM bench.source ORDER BY i) TO '$work/events.copy'" \
	-c "COPY (SELECT stream_id, version, stream, type, data, metadata FROM bench.source ORDER BY i) TO '$work/rows.copy'"

columns="stream_id, version, stream, type, data, metadata"

# into_store and into_bare KIND STATEMENT: empties the target, then runs the
# statement and checks what it left
into_store() {
	sql -c 'SET client_min_messages = warning' -c 'SET eventstore.allow_drop = on' -c 'DROP EXTENSION eventstore CASCADE' -c 'CREATE EXTENSION eventstore' \
		-c "SELECT es_append('prime-1', 'Primed')" >/dev/null || return 1
	sql -c CHECKPOINT
	timed "$events" sql -c "$1" || return 1
	acked[eventstore]=$((events + 1))
	check_store >/dev/null
}
into_bare() {
	local name=bare_$1
	bare_table "$name" "$1" && sql -c CHECKPOINT || return 1
	timed "$events" sql -c "${2//TABLE/bench.$name}" || return 1
	acked["$name"]=$events
	check_bare "$name" gapfree >/dev/null
	sql -c "DROP TABLE bench.$name"
}

begin_case "$events events in JSON batches of 1,000" events/s
side "es_append_batch" into_store "SELECT count(es_append_batch(stream, events)) FROM bench.batches"
for kind in two segment; do
	side "INSERT … SELECT from jsonb_array_elements, indexes: $kind" into_bare $kind "INSERT INTO TABLE ($columns)
		SELECT b + 1, i, stream, e ->> 'type', e -> 'data', e -> 'metadata'
		FROM bench.batches, jsonb_array_elements(events) WITH ORDINALITY x(e, i)"
done
measure_case

begin_case "$events events by COPY" events/s
side "COPY es_events" into_store "COPY es_events (stream, type, data, metadata) FROM '$work/events.copy'"
for kind in two segment; do
	side "COPY, indexes: $kind" into_bare $kind "COPY TABLE ($columns) FROM '$work/rows.copy'"
done
measure_case

begin_case "$events events by INSERT … SELECT" events/s
side "INSERT … SELECT into es_events" into_store \
	"INSERT INTO es_events (stream, type, data, metadata) SELECT stream, type, data, metadata FROM bench.source ORDER BY i"
for kind in two segment; do
	side "INSERT … SELECT, indexes: $kind" into_bare $kind \
		"INSERT INTO TABLE ($columns) SELECT $columns FROM bench.source ORDER BY i"
done
measure_case
rm -f "$work/events.copy" "$work/rows.copy"
