# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# An event of 300 bytes held against a schema of ten properties: in appends, and by ajv in Node.js.

fresh_database
prime_streams
clients=1 sync=off
order='{"orderId": "O-123456", "customerId": "customer-4711", "currency": "EUR", "total": 129.90, "discount": 10, "express": true,
	"placedAt": "2026-11-29T11:00:00Z", "note": null, "lines": [{"sku": "A-17", "quantity": 2}, {"sku": "B-4", "quantity": 1}],
	"address": {"city": "Berlin", "zip": "10115"}}'
order_schema='{"type": "object", "additionalProperties": false,
	"required": ["orderId", "customerId", "currency", "total", "lines", "placedAt"],
	"properties": {
		"orderId": {"type": "string", "pattern": "^O-[0-9]{6}$"},
		"customerId": {"type": "string", "minLength": 3, "maxLength": 40},
		"currency": {"enum": ["EUR", "USD", "GBP", "CHF"]},
		"total": {"type": "number", "minimum": 0},
		"discount": {"type": "integer", "minimum": 0, "maximum": 100},
		"express": {"type": "boolean"},
		"placedAt": {"type": "string", "format": "date-time", "maxLength": 40},
		"note": {"type": ["string", "null"], "maxLength": 200},
		"lines": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["sku", "quantity"],
			"properties": {"sku": {"type": "string", "maxLength": 20}, "quantity": {"type": "integer", "minimum": 1}}}},
		"address": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}, "zip": {"type": "string"}}}}}'

sql -c "CREATE TABLE bench.batches AS
		SELECT type, jsonb_agg(jsonb_build_object('type', type, 'data', '$order'::jsonb)) AS events
		FROM unnest('{Checked,Unchecked}'::text[]) type, generate_series(1, 1000) GROUP BY type" \
	-c "SELECT es_register_schema('Checked', '$order_schema')" >/dev/null

# order_script TYPE: an append of the event, as this type
order_script() {
	script "append_$1" <<-SQL
	SELECT es_append('$1-' || :client_id, '$1', '${order//$'\n'/}');
	SQL
}

# append_time SCRIPT: µs an append
append_time() {
	pgbench_run eventstore 1 "$1" -T "$seconds" || return 1
	measured=$(awk "BEGIN { printf \"%.3f\", 1000000 / $tps }")
}

# Batches with and without the schema in turn, in one session; the median of the
# differences, in µs an event, and how many events that made.
sql <<-'SQL'
	CREATE FUNCTION bench.schema_cost(seconds float8, OUT cost float8, OUT made bigint) LANGUAGE plpgsql AS $$
	DECLARE
		checked jsonb := (SELECT events FROM bench.batches WHERE type = 'Checked');
		unchecked jsonb := (SELECT events FROM bench.batches WHERE type = 'Unchecked');
		finish timestamptz := clock_timestamp() + make_interval(secs => seconds);
		start timestamptz;
		middle timestamptz;
		costs float8[] := '{}';
	BEGIN
		WHILE clock_timestamp() < finish LOOP
			start := clock_timestamp();
			PERFORM es_append_batch('cost-1', checked);
			middle := clock_timestamp();
			PERFORM es_append_batch('cost-2', unchecked);
			costs := costs || extract(epoch FROM (middle - start) - (clock_timestamp() - middle))::float8 * 1000;
		END LOOP;
		cost := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY c) FROM unnest(costs) c);
		made := 2000 * cardinality(costs);
	END $$;
SQL

# schema_cost: µs that the schema adds to an event of a batch
schema_cost() {
	local out
	out=$(PGOPTIONS="-c synchronous_commit=$sync" sql -F ' ' -c "SELECT round(cost::numeric, 3), made FROM bench.schema_cost($seconds)") || return 1
	measured=${out% *}
	acked[eventstore]=$((acked[eventstore] + ${out#* }))
}

# ajv_time MODE: µs an event
ajv_time() {
	measured=$(BENCH_SCHEMA=$order_schema BENCH_ORDER=$order node "$bench/peers/schema.mjs" "$1" "$seconds" 2>"$work/schema.log") ||
		{ grep -m 2 -i error "$work/schema.log" >&2; return 1; }
}

order_script Checked
order_script Unchecked
have_node=''
if reason=$(install_peers); then
	have_node=1
	note "Node.js $(node --version), ajv $(package_version ajv)"
else
	note "ajv left out: $reason"
fi

begin_case "one event against ten properties" µs
side "what the schema adds to es_append_batch" schema_cost
if [ -n "$have_node" ]; then
	side "ajv, of an object" ajv_time object
	side "ajv, of JSON text" ajv_time text
fi
measure_case
begin_case "es_append of it" µs
side "type with the schema" append_time append_Checked
side "type without one" append_time append_Unchecked
measure_case
expect "the event is valid" 0 "$(sql -c "SELECT count(*) FROM es_check_schema('$order_schema', '$order')")"
check_store
