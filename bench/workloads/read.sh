# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_read of 10, 100 and 10,000 events and es_read_all in pages of 1,000, against the index-ordered SELECT on the same segment.
#
# All sides of a case send the same columns to the client. The plain SELECT is given the
# stream's id; the SELECT by name finds it in streams.

fresh_database
# A third of the events is in streams of 10, 100 and 10,000 each. Ten at a time
# arrive together: first the beginning of each stream, which gives ids in order,
# then the rest, mixed.
sql -c "CREATE TABLE bench.kinds AS
		SELECT n, greatest(1, $events / 3 / n) AS streams FROM unnest(ARRAY[10, 100, 10000]) n" \
	-c "SELECT count(es_append_batch(stream, batch)) FROM (
		SELECT 'read' || n || '-' || s AS stream, batch
		FROM bench.kinds, generate_series(1, streams) s, generate_series(1, n / 10) part,
			(SELECT bench.batch(1, 10) AS batch) b
		ORDER BY part > 1, CASE WHEN part = 1 THEN n ELSE hashint8(s * 1000000::bigint + part) END, s OFFSET 0) x" >/dev/null
acked[eventstore]=$((acked[eventstore] + $(sql -c 'SELECT sum(n * streams) FROM bench.kinds')))
sql -c 'VACUUM (FREEZE, ANALYZE) eventstore.events' -c 'VACUUM (FREEZE, ANALYZE) eventstore.streams'
expect "streams whose id does not follow from their name" 0 "$(sql -c "SELECT count(*) FROM (
	SELECT stream_id - split_part(name, '-', 2)::bigint AS base FROM eventstore.streams JOIN bench.kinds
		ON split_part(name, '-', 1) = 'read' || n GROUP BY n, base OFFSET 3) x")"
segment=$(sql -c "SELECT min(inhrelid)::regclass FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass")
columns="position, stream, version, type, type_version, data, metadata, event_id, recorded_at"

read_script() {
	local base
	base=$(sql -c "SELECT stream_id - 1 FROM eventstore.streams WHERE name = 'read$3-1'")
	script "$1" <<-SQL
	\\set s random(1, $2)
	\\set id :s + $base
	$(cat)
	SQL
}

for clients in 1 8; do
	for size in 10 100 10000; do
		count=$(sql -c "SELECT streams FROM bench.kinds WHERE n = $size")
		read_script eventstore "$count" $size <<-SQL
		SELECT $columns FROM es_read('read$size-' || :s);
		SQL
		read_script plain "$count" $size <<-SQL
		SELECT $columns FROM $segment WHERE stream_id = :id ORDER BY version;
		SQL
		read_script by_name "$count" $size <<-SQL
		SELECT $columns FROM $segment WHERE stream_id = (SELECT stream_id FROM eventstore.streams WHERE name = 'read$size-' || :s) ORDER BY version;
		SQL
		expect_same "a stream of $size, es_read against SELECT" \
			"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY version)) FROM (SELECT $columns FROM es_read('read$size-1')) e")" \
			"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY version)) FROM (SELECT $columns FROM $segment WHERE stream = 'read$size-1') e")"
		begin_case "streams of $size, $(plural "$clients" client)" events/s
		side "es_read" pgbench_rate none "$size" eventstore
		side "SELECT by stream id" pgbench_rate none "$size" plain
		side "SELECT by name" pgbench_rate none "$size" by_name
		measure_case
	done
done

# Few columns: what is not asked for is neither looked at nor copied.
narrow="version, type"
count=$(sql -c "SELECT streams FROM bench.kinds WHERE n = 10000")
read_script narrow "$count" 10000 <<SQL
SELECT $narrow FROM es_read('read10000-' || :s);
SQL
read_script narrow_plain "$count" 10000 <<SQL
SELECT $narrow FROM $segment WHERE stream_id = :id ORDER BY version;
SQL
expect_same "version and type of a stream of 10000, es_read against SELECT" \
	"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY version)) FROM (SELECT $narrow FROM es_read('read10000-1')) e")" \
	"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY version)) FROM (SELECT $narrow FROM $segment WHERE stream = 'read10000-1') e")"
for clients in 1 8; do
	begin_case "only version and type, streams of 10000, $(plural "$clients" client)" events/s
	side "es_read" pgbench_rate none 10000 narrow
	side "SELECT by stream id" pgbench_rate none 10000 narrow_plain
	measure_case
done

# One pass over the log. Positions have no holes here, so pages begin at multiples.
last=$(sql -c 'SELECT max(position) FROM eventstore.events')
expect "the last position" "${acked[eventstore]}" "$last"
script eventstore_all <<SQL
\\set after (:v * 1000) % $last
\\set v :v + 1
SELECT $columns FROM es_read_all(:after, 1000);
SQL
script plain_all <<SQL
\\set after (:v * 1000) % $last
\\set v :v + 1
SELECT $columns FROM $segment WHERE position > :after ORDER BY position LIMIT 1000;
SQL
one_pass() {
	pgbench_run none 0 "$1" -t $((last / 1000)) || return 1
	measured=$(awk "BEGIN { printf \"%.1f\", $tps * 1000 }")
}
expect_same "a page of es_read_all against SELECT" \
	"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY position)) FROM (SELECT $columns FROM es_read_all(5000, 1000)) e")" \
	"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY position)) FROM (SELECT $columns FROM $segment WHERE position BETWEEN 5001 AND 6000) e")"
clients=1
begin_case "the log in pages of 1,000, 1 client" events/s
side "es_read_all" one_pass eventstore_all
side "SELECT by position" one_pass plain_all
measure_case

script narrow_all <<SQL
\\set after (:v * 1000) % $last
\\set v :v + 1
SELECT position, type FROM es_read_all(:after, 1000);
SQL
script narrow_plain_all <<SQL
\\set after (:v * 1000) % $last
\\set v :v + 1
SELECT position, type FROM $segment WHERE position > :after ORDER BY position LIMIT 1000;
SQL
begin_case "only position and type, the log in pages of 1,000, 1 client" events/s
side "es_read_all" one_pass narrow_all
side "SELECT by position" one_pass narrow_plain_all
measure_case

check_store
