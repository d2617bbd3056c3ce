# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# 10, 100 and 1,000 events a call to one stream, from the client and made in the server, against INSERT … SELECT.
#
# Both sides of a case get the same parameters. A script fetches its batch in
# its first transaction and keeps it in a variable of pgbench. JSON is text in
# the statement: es_append_json takes it as that, jsonb_array_elements as jsonb.

fresh_database
bare_table bare2 two
prime_streams bare2
sql -c "CREATE TABLE bench.batches AS
	SELECT n, b AS json, types, data, metadatas, elements
	FROM unnest(ARRAY[10, 100, 1000]) n,
		LATERAL (SELECT bench.batch(1, n) AS b) batch,
		LATERAL (SELECT array_agg(e ->> 'type') AS types, array_agg(e -> 'data') AS data,
			array_agg(e -> 'metadata') AS metadatas,
			array_agg(ROW(e ->> 'type', e -> 'data', e -> 'metadata', NULL)::es_new_event) AS elements
			FROM jsonb_array_elements(b) e) arrays"

# batch_script NAME VARIABLES: VARIABLES are what the first transaction fetches
batch_script() {
	script "$1" <<-SQL
	\\if :loaded = 0
	SELECT $2 FROM bench.batches WHERE n = :events \\gset
	\\set loaded 1
	\\endif
	$any_stream
	\\set v :v + 1
	\\set version :run * 1000000000 + (:v * 64 + :client_id) * 1000
	$(cat)
	SQL
}
insert="INSERT INTO bench.bare2 (stream_id, version, stream, type, data, metadata)"

batch_script eventstore_json 'json' <<'SQL'
SELECT es_append_json('account-' || :s, :json);
SQL
batch_script bare_json 'json' <<SQL
$insert
SELECT :s, :version + i, 'account-' || :s, e ->> 'type', e -> 'data', e -> 'metadata'
FROM jsonb_array_elements(:json) WITH ORDINALITY AS x(e, i);
SQL
batch_script eventstore_array 'elements' <<'SQL'
SELECT es_append_events('account-' || :s, :elements);
SQL
batch_script bare_array 'types, data AS datas, metadatas' <<SQL
$insert
SELECT :s, :version + i, 'account-' || :s, t, d, m
FROM unnest(:types::text[], :datas::jsonb[], :metadatas::jsonb[]) WITH ORDINALITY AS x(t, d, m, i);
SQL
batch_script eventstore_made '1 AS one' <<'SQL'
SELECT es_append_events('account-' || :s,
	ARRAY(SELECT ROW('Deposited', :data::jsonb, :metadata::jsonb, NULL)::es_new_event FROM generate_series(1, :events)));
SQL
batch_script bare_made '1 AS one' <<SQL
$insert
SELECT :s, :version + i, 'account-' || :s, 'Deposited', :data::jsonb, :metadata::jsonb FROM generate_series(1, :events::bigint) i;
SQL

batch_case() {
	begin_case "$size events, $(plural "$clients" client), $2" events/s
	side "$3" pgbench_rate eventstore "$size" "eventstore_$1"
	side "INSERT … SELECT $4" pgbench_rate bare2 "$size" "bare_$1"
	measure_case
}
sync=off
for clients in 1 8; do
	for size in 10 100 1000; do
		batch_case json "JSON from the client" es_append_json "from jsonb_array_elements"
		batch_case array "arrays from the client" es_append_events "from unnest"
		batch_case made "made in the server" es_append_events "from generate_series"
	done
done

check_store
check_bare bare2
