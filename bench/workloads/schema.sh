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

# order_scripts TYPE: a batch of 1,000 and a single append of the event, as this type
order_scripts() {
	script "batch_$1" <<-SQL
	SELECT es_append_batch('$1-' || :client_id, events) FROM bench.batches WHERE type = '$1';
	SQL
	script "append_$1" <<-SQL
	SELECT es_append('$1-' || :client_id, '$1', '${order//$'\n'/}');
	SQL
}

# event_time SCRIPT EVENTS: µs an event
event_time() {
	pgbench_run eventstore "$2" "$1" -T "$seconds" || return 1
	measured=$(awk "BEGIN { printf \"%.3f\", 1000000 / $tps / $2 }")
}

# schema_cost: µs that the schema adds to an event of a batch
schema_cost() {
	local checked
	event_time batch_Checked 1000 || return 1
	checked=$measured
	event_time batch_Unchecked 1000 || return 1
	measured=$(awk "BEGIN { printf \"%.3f\", $checked - $measured }")
}

# ajv_time MODE: µs an event
ajv_time() {
	measured=$(BENCH_SCHEMA=$order_schema BENCH_ORDER=$order node "$bench/peers/schema.mjs" "$1" "$seconds" 2>"$work/schema.log") ||
		{ grep -m 2 -i error "$work/schema.log" >&2; return 1; }
}

order_scripts Checked
order_scripts Unchecked
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
side "type with the schema" event_time append_Checked 1
side "type without one" event_time append_Unchecked 1
measure_case
expect "the event is valid" 0 "$(sql -c "SELECT count(*) FROM es_check_schema('$order_schema', '$order')")"
check_store
