# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# An event of 300 bytes with one protected field of 100 bytes: what that adds to appends and to reads, for one subject and for a thousand.

fresh_database
prime_streams
clients=1 sync=off
sql -c "SELECT es_protect('protected', '{\$.data.email}', '\$.data.id')" >/dev/null
sql -c "CREATE TABLE bench.batches AS
	SELECT subjects, jsonb_agg(jsonb_build_object('type', 'T', 'data', jsonb_build_object('id', n % subjects, 'email', repeat('x', 100), 'rest', repeat('y', 150)))) AS events
	FROM unnest(ARRAY[1, 1000]) subjects, generate_series(1, 1000) n GROUP BY subjects"

# What two statements cost, in turn, in one session, each in a transaction of its own; the median of the differences, in µs an event, and how
# often each ran.
sql <<-'SQL'
	CREATE PROCEDURE bench.secret_cost(secret text, plain text, subjects int, seconds float8, INOUT cost float8, INOUT made bigint) LANGUAGE plpgsql AS $$
	DECLARE
		batch jsonb := (SELECT b.events FROM bench.batches b WHERE b.subjects = secret_cost.subjects);
		finish timestamptz := clock_timestamp() + make_interval(secs => seconds);
		start timestamptz;
		middle timestamptz;
		costs float8[] := '{}';
	BEGIN
		WHILE clock_timestamp() < finish LOOP
			start := clock_timestamp();
			EXECUTE secret USING batch;
			COMMIT;
			middle := clock_timestamp();
			EXECUTE plain USING batch;
			COMMIT;
			costs := costs || extract(epoch FROM (middle - start) - (clock_timestamp() - middle))::float8 * 1000;
		END LOOP;
		cost := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY c) FROM unnest(costs) c);
		made := cardinality(costs);
	END $$;
SQL

# secret_cost STATEMENT SUBJECTS: µs that a protected field adds to each of 1,000 events; the statement names category "protected"
secret_cost() {
	local out
	out=$(PGOPTIONS="-c synchronous_commit=$sync" sql -F ' ' -c "CALL bench.secret_cost(\$s\$$1\$s\$, \$s\$${1//protected/plain}\$s\$, $2, $seconds, NULL, NULL)") || return 1
	measured=$(awk "BEGIN { printf \"%.3f\", ${out% *} }")
	[[ "$1" != *append* ]] || acked[eventstore]=$((acked[eventstore] + 2000 * ${out#* }))
}

append_of() { echo "SELECT es_append_batch('protected-$1', \$1)"; }
read_of() { echo "SELECT count(*) FROM es_read('protected-$1', max_count => 1000) WHERE \$1 IS NOT NULL"; }
view_of() { echo "SELECT count(data) FROM es_events WHERE stream = 'protected-$1' AND version <= 1000 AND \$1 IS NOT NULL"; }

# append_time CATEGORY: µs an append
append_time() {
	pgbench_run eventstore 1 "append_$1" -T "$seconds" || return 1
	measured=$(awk "BEGIN { printf \"%.3f\", 1000000 / $tps }")
}
for category in protected plain; do
	script "append_$category" <<-SQL
	\\set n random(0, 999)
	SELECT es_append('$category-' || :client_id + 10, 'T', ('{"id": ' || :n || ', "email": "$(printf 'x%.0s' {1..100})", "rest": "$(printf 'y%.0s' {1..150})"}')::jsonb);
	SQL
done

begin_case "what a protected field adds to each of 1,000 events" µs
side "es_append_batch, one subject" secret_cost "$(append_of 1)" 1
side "es_append_batch, 1,000 subjects" secret_cost "$(append_of 2)" 1000
side "es_read, one subject" secret_cost "$(read_of 1)" 1
side "es_read, 1,000 subjects" secret_cost "$(read_of 2)" 1
side "es_events, one subject" secret_cost "$(view_of 1)" 1
measure_case
begin_case "es_append of one" µs
side "with a protected field" append_time protected
side "without" append_time plain
measure_case
expect "protected fields are encrypted" 0 "$(sql -c "SELECT count(*) FROM eventstore.events WHERE stream LIKE 'protected-%' AND data->>'email' NOT LIKE '\$secret:%'")"
check_store
