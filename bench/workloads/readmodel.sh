# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# A read model through its view: one state by key, and the ten of a status by an index on an expression, 100,000 keys; a table by hand.
#
# The table by hand has the same columns but those of generations, the same states, a
# primary key over key, and the same index.

fresh_database
keys=$((events < 100000 ? events : 100000))
statuses=$((keys / 10))
sql -c "SELECT es_create_projection('orders', 'merge', 'inline', 'order')" \
	-c "SELECT count(*) FROM (
		SELECT jsonb_agg(jsonb_build_object('stream', 'order-' || n, 'type', 'Placed', 'data',
			jsonb_build_object('status', 's' || n % $statuses, 'total', n, 'customer', md5(n::text), 'note', repeat('x', 100)))) AS batch
		FROM generate_series(1, $keys) n GROUP BY n / 1000 OFFSET 0) b, es_append_many(batch)" \
	-c "SELECT es_projection_view('orders', 'orders')" \
	-c "SELECT es_index_projection('orders', '((state ->> ''status''))')" \
	-c "CREATE TABLE bench.orders AS SELECT key, version, position, state FROM orders" \
	-c "ALTER TABLE bench.orders ADD PRIMARY KEY (key)" \
	-c "CREATE INDEX ON bench.orders ((state ->> 'status'))" >/dev/null
acked[eventstore]=$((acked[eventstore] + keys))
sql -c "VACUUM (FREEZE, ANALYZE)"
expect_same "the view against the table" "$(sql -c "SELECT count(*), md5(string_agg(o::text, '' ORDER BY key)) FROM orders o")" \
	"$(sql -c "SELECT count(*), md5(string_agg(o::text, '' ORDER BY key)) FROM bench.orders o")"

for side in "view orders" "hand bench.orders"; do
	read -r name relation <<<"$side"
	script "${name}_key" <<-SQL
	\\set n random(1, $keys)
	SELECT state FROM $relation WHERE key = 'order-' || :n;
	SQL
	script "${name}_status" <<-SQL
	\\set n random(0, $((statuses - 1)))
	SELECT key, state FROM $relation WHERE state ->> 'status' = 's' || :n;
	SQL
done

for clients in 1 8; do
	begin_case "one state by key, $(plural "$clients" client)" queries/s
	side "the view" pgbench_rate none 1 view_key
	side "a table by hand" pgbench_rate none 1 hand_key
	measure_case
	begin_case "ten by an index on an expression, $(plural "$clients" client)" queries/s
	side "the view" pgbench_rate none 1 view_status
	side "a table by hand" pgbench_rate none 1 hand_status
	measure_case
done

check_store
