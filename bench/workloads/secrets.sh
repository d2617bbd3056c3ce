# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# An event of 300 bytes with one protected field of 100 bytes: what that adds to appends and to reads, for one subject and for a thousand, in processor time of the server's.

fresh_database
prime_streams
clients=1 sync=off
sql -c "SELECT es_protect('protected', '{\$.data.email}', '\$.data.id')" >/dev/null
sql -c "CREATE TABLE bench.batches AS
	SELECT subjects, jsonb_agg(jsonb_build_object('type', 'T', 'data', jsonb_build_object('id', n % subjects, 'email', repeat('x', 100), 'rest', repeat('y', 150)))) AS events
	FROM unnest(ARRAY[1, 1000]) subjects, generate_series(1, 1000) n GROUP BY subjects"

# Appends in transactions of their own, of subjects in turn, each call going on where the one before ended.  forget: each time the session first forgets what it knows of keys.
sql <<-'SQL'
	CREATE SEQUENCE bench.calls;
	CREATE PROCEDURE bench.append_ones(stream text, n int, subjects int, forget boolean) LANGUAGE plpgsql AS $$
	DECLARE
		done bigint := nextval('bench.calls') / 2 * n;
		data jsonb[] := ARRAY(SELECT jsonb_build_object('id', (done + i) % subjects, 'email', repeat('x', 100), 'rest', repeat('y', 150)) FROM generate_series(1, n) i);
	BEGIN
		COMMIT;
		FOR i IN 1 .. n LOOP
			IF forget THEN
				BEGIN
					RAISE data_exception;
				EXCEPTION
					WHEN data_exception THEN NULL;
				END;
			END IF;
			PERFORM es_append(stream, 'T', data[i]);
			COMMIT;
		END LOOP;
	END $$;
SQL

# secret_cost EVENTS STATEMENT [BEFORE]: µs of processor time of the server's that a protected field adds to each of these events.
# The statement names category "protected"; it runs for that and for "plain", in turn, in one session.  The median of the differences.
secret_cost() {
	local pairs=$((10 * seconds)) i category
	for ((i = 0; i < pairs; i++)); do
		for category in protected plain; do
			[ -z "${3:-}" ] || echo "$3;"
			echo "${2//protected/$category};"
		done
	done >"$work/secret_cost.sql"
	PGOPTIONS="-c synchronous_commit=$sync -c log_statement_stats=on -c client_min_messages=log" sql -f "$work/secret_cost.sql" >"$work/secret_cost.out" 2>&1 ||
		{ grep -m 2 ERROR "$work/secret_cost.out" >&2; return 1; }
	measured=$(sed -n 's/^.*[^0-9.]\([0-9.]*\) s user, \([0-9.]*\) s system, .* elapsed.*/\1 \2/p' "$work/secret_cost.out" |
		awk -v each="${3:+2}" -v events="$1" '
			NR % (each ? 2 : 1) == 0 { time = ($1 + $2) * 1e6 / events; if (++n % 2) secret = time; else printf "%.3f\n", secret - time }' |
		sort -n | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }')
	[[ "$2" != *append* ]] || acked[eventstore]=$((acked[eventstore] + 2 * pairs * $1))
}

forget='DO $$ BEGIN RAISE data_exception; EXCEPTION WHEN data_exception THEN NULL; END $$'
ones_of() { echo "CALL bench.append_ones('protected-one$1', 500, $1, ${2:-false})"; }
append_of() { echo "SELECT es_append_batch('protected-$1', events) FROM bench.batches WHERE subjects = $1"; }
read_of() { echo "SELECT count(data) FROM es_read('protected-$1', max_count => 1000)"; }
view_of() { echo "SELECT count(data) FROM es_events WHERE stream = 'protected-$1' AND version <= 1000"; }

# so that the keys are there
sql -c "SELECT count(es_append('protected-keys', 'T', jsonb_build_object('id', n, 'email', 'x'))) FROM generate_series(0, 99999) n" >/dev/null
acked[eventstore]=$((acked[eventstore] + 100000))
begin_case "what a protected field adds to each event" µs
side "es_append, one subject" secret_cost 500 "$(ones_of 1)"
side "es_append, 1,000 subjects" secret_cost 500 "$(ones_of 1000)"
side "es_append, each subject for the first time in the session" secret_cost 500 "$(ones_of 100000)"
side "es_append, each after a rollback" secret_cost 500 "$(ones_of 1000 true)"
side "es_append_batch, one subject" secret_cost 1000 "$(append_of 1)"
side "es_append_batch, 1,000 subjects" secret_cost 1000 "$(append_of 1000)"
side "es_read, one subject" secret_cost 1000 "$(read_of 1)"
side "es_read, 1,000 subjects" secret_cost 1000 "$(read_of 1000)"
side "es_read, 1,000 subjects not known to the session" secret_cost 1000 "$(read_of 1000)" "$forget"
side "es_events, 1,000 subjects" secret_cost 1000 "$(view_of 1000)"
measure_case
expect "protected fields are encrypted" 0 "$(sql -c "SELECT count(*) FROM eventstore.events WHERE stream LIKE 'protected-%' AND data->>'email' NOT LIKE '\$secret:%'")"
check_store
