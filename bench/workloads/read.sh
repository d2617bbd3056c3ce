# shellcheck shell=bash disable=SC2154,SC2034
# es_read of 10, 100 and 10,000 events and es_read_all in pages of 1,000, against the index-ordered SELECT on the same segment.
#
# All sides send the same columns to the client. The plain SELECT is given the
# stream's id; the SELECT by name finds it in streams.

fresh_database
# A third of the events is in streams of 10, 100 and 10,000 each; all arrive in
# mixed order, ten at a time.
sql -c "CREATE TABLE bench.kinds AS
		SELECT n, greatest(1, $events / 3 / n) AS streams FROM unnest(ARRAY[10, 100, 10000]) n" \
	-c "SELECT count(es_append_batch(stream, batch)) FROM (
		SELECT 'read' || n || '-' || s AS stream, batch
		FROM bench.kinds, generate_series(1, streams) s, generate_series(1, n / 10) part,
			(SELECT bench.batch(1, 10) AS batch) b
		ORDER BY hashint8(s * 1000000 + part)) x" >/dev/null
acked[eventstore]=$((acked[eventstore] + $(sql -c 'SELECT sum(n * streams) FROM bench.kinds')))
sql -c 'VACUUM (FREEZE, ANALYZE) eventstore.events' -c 'VACUUM (FREEZE, ANALYZE) eventstore.streams'
sql -c "CREATE TABLE bench.ids AS SELECT split_part(name, '-', 1) AS kind, split_part(name, '-', 2)::int AS s, stream_id
	FROM eventstore.streams WHERE name LIKE 'read%'" -c 'CREATE UNIQUE INDEX ON bench.ids (kind, s)' -c 'VACUUM ANALYZE bench.ids'
segment=$(sql -c "SELECT min(inhrelid)::regclass FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass")
columns="position, stream, version, type, type_version, data, metadata, event_id, recorded_at"

# The id is fetched by all sides alike, so that it costs them the same.
read_script() {
	script "$1" <<-SQL
	\\set s random(1, $2)
	SELECT stream_id AS id FROM bench.ids WHERE kind = 'read$3' AND s = :s \\gset
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
		expect "a stream of $size, es_read against SELECT" \
			"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY version)) FROM (SELECT $columns FROM es_read('read$size-1')) e")" \
			"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY version)) FROM (SELECT $columns FROM $segment WHERE stream = 'read$size-1') e")"
		begin_case "streams of $size, $(plural "$clients" client)" events/s
		side "es_read" pgbench_rate none "$size" eventstore
		side "SELECT by stream id" pgbench_rate none "$size" plain
		side "SELECT by name" pgbench_rate none "$size" by_name
		measure_case
	done
done

# One pass over the log; positions have no holes here.
last=$(sql -c 'SELECT max(position) FROM eventstore.events')
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
expect "a page of es_read_all against SELECT" \
	"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY position)) FROM (SELECT $columns FROM es_read_all(5000, 1000)) e")" \
	"$(sql -c "SELECT md5(string_agg(e::text, '' ORDER BY position)) FROM (SELECT $columns FROM $segment WHERE position BETWEEN 5001 AND 6000) e")"
clients=1
begin_case "the log in pages of 1,000, 1 client" events/s
side "es_read_all" one_pass eventstore_all
side "SELECT by position" one_pass plain_all
measure_case

check_store
