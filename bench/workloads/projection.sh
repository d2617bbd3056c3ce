# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_run_projection through all events of a category, by ops and by an SQL handler, against a table kept by hand.
#
# Ten events a key and one. A projection is made and run in one transaction, so
# that no worker takes part, and dropped after it is measured. By hand means a
# transaction of INSERT … SELECT … GROUP BY … ON CONFLICT DO UPDATE and of a
# checkpoint row for each 1,000 events.

sync=off
make_accounts 1000 1 "ten $((events / 10)) 10 4" "one $events 1 4"
sql >/dev/null <<'SQL'
CREATE TABLE bench.states (stream text PRIMARY KEY, version bigint NOT NULL, state jsonb NOT NULL);
CREATE TABLE bench.checkpoint (position bigint);
CREATE FUNCTION bench.handle(event es_event) RETURNS void LANGUAGE sql AS $$
	INSERT INTO bench.states AS s VALUES (event.stream, 1, event.data)
	ON CONFLICT (stream) DO UPDATE SET version = s.version + 1, state = s.state || excluded.state $$;
CREATE PROCEDURE bench.project(category text, page int) LANGUAGE plpgsql AS $$
DECLARE last bigint := 0; next bigint;
BEGIN
	LOOP
		WITH e AS MATERIALIZED (SELECT * FROM es_read_category(category, last, page)),
			i AS (INSERT INTO bench.states AS s
				SELECT stream, count(*), bench.concat(data ORDER BY version) FROM e GROUP BY stream
				ON CONFLICT (stream) DO UPDATE SET version = s.version + excluded.version, state = s.state || excluded.state)
		SELECT max(position) INTO next FROM e;
		EXIT WHEN next IS NULL;
		UPDATE bench.checkpoint SET position = next;
		COMMIT;
		last := next;
	END LOOP;
END $$;
SQL

create_projection="SELECT es_create_projection('bench', 'bench_ops', 'async', 'CATEGORY')"
create_handler="SELECT es_create_handler_projection('bench', 'bench.handle(es_event)', 'async', '{CATEGORY}')"
drop_projection="DO \$\$ BEGIN PERFORM es_drop_projection('bench'); EXCEPTION WHEN SQLSTATE 'VE004' THEN NULL; END \$\$"
from_projection="(SELECT key AS stream, version, state FROM es_projection('bench')) s"

# hash_of FROM: of streams, versions and states
hash_of() { sql -c "SELECT count(*), sum(hashtextextended(concat_ws(' ', stream, version, state), 0)) FROM $1"; }

# project FROM [option of psql...]: drops what the last one made, runs these
# statements, then compares the states, which are in FROM
project() {
	local from=$1
	shift
	sql -c "$drop_projection" -c "TRUNCATE bench.states, bench.checkpoint" -c "INSERT INTO bench.checkpoint VALUES (0)"
	timed "$count" sql -c "SET synchronous_commit = $sync" "$@" || return 1
	[ "$(hash_of "$from")" = "$wanted" ] || { fail "$case_name: states are not those of the events"; return 1; }
}

# run_projection FROM STATEMENT: makes the projection, unseen by workers, and runs it
run_projection() {
	project "$1" -c BEGIN -c "${2//CATEGORY/$category}" -c "SELECT es_run_projection('bench')" -c COMMIT
}

for category in ten one; do
	count=$(sql -c "SELECT streams * length FROM bench.kinds WHERE category = '$category'")
	length=$(sql -c "SELECT length FROM bench.kinds WHERE category = '$category'")
	wanted=$(hash_of "(SELECT stream, count(*) AS version, bench.concat(data ORDER BY version) AS state
		FROM bench.accounts WHERE stream LIKE '$category-%' GROUP BY stream) s")
	begin_case "$count events, $length a key" events/s
	side "es_run_projection, ops" run_projection "$from_projection" "$create_projection"
	side "es_run_projection, SQL handler" run_projection "bench.states s" "$create_handler"
	side "by hand, 1,000 a transaction" project "bench.states s" -c "CALL bench.project('$category', 1000)"
	measure_case
done
sql -c "$drop_projection"

check_store
