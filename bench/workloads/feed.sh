# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Decoding by the plugin eventstore, by wal2json and by test_decoding, all events and 1 in 100; commit to delivery through slots; esfeed.
#
# All sides read the same WAL: a slot that was there before the load is copied
# for each measurement, with the side's plugin. pg_recvlogical writes to
# /dev/null; connecting counts. Latencies are taken as in the workload latency,
# all four figures of a side in the same run.

declare -A decode_options=([wal2json]="-o format-version=2 -o add-tables=eventstore.events_0")
declare -A slot_commands=([eventstore]="" [wal2json]="(\"format-version\" '2')" [pgoutput]="(proto_version '1', publication_names 'bench')")
declare -A latency_names=([eventstore]="slot of eventstore" [wal2json]="slot of wal2json" [pgoutput]="slot of pgoutput")
have_wal2json=1
[ -e "$("$PG_CONFIG" --pkglibdir)/wal2json.so" ] || have_wal2json=''

# allow_decoding logical|replica: restarts the server with this wal_level
allow_decoding() {
	as_server sed -i -e "s/^wal_level = .*/wal_level = $1/" \
		-e "s/^output_plugin_libraries = .*/output_plugin_libraries = 'pgoutput, test_decoding, eventstore, wal2json'/" \
		"$work/data/postgresql.conf"
	stop_server
	start_server
	expect "wal_level" "$1" "$(sql -c "SHOW wal_level")"
}

# drop_slot SLOT: once its walsender has gone
drop_slot() { within 10 quietly sql -c "SELECT pg_drop_replication_slot('$1')"; }

# receive PLUGIN FILE OPTION...: all that was loaded, through a new slot
receive() {
	local plugin=$1 file=$2
	shift 2
	PGOPTIONS="-c client_min_messages=error -c logical_decoding_work_mem=64MB" "$bin/pg_recvlogical" -d "$database" -S "bench_$plugin" --start -f "$file" \
		--no-loop -F 0 --endpos="$loaded_lsn" "$@"
}

# decode PLUGIN OPTION...: events of the log a second
decode() {
	local status=0 plugin=$1
	shift
	sql -c "SELECT pg_copy_logical_replication_slot('bench_base', 'bench_$plugin', false, '$plugin')" >/dev/null || return 1
	timed "$events" receive "$plugin" /dev/null "$@" || status=1
	drop_slot "bench_$plugin" || return 1
	return $status
}

# check_decode COUNT PATTERN PLUGIN OPTION...: what is decoded has as many lines like this
check_decode() {
	local count=$1 pattern=$2 plugin=$3
	shift 3
	sql -c "SELECT pg_copy_logical_replication_slot('bench_base', 'bench_$plugin', false, '$plugin')" >/dev/null
	receive "$plugin" - "$@" >"$work/feed.out"
	expect "events from $plugin $*" "$count" "$(grep -c "$pattern" "$work/feed.out" || true)"
	rm -f "$work/feed.out"
	drop_slot "bench_$plugin"
}

# load_events: a hundred a transaction, one of them Rare; and a last one, that ends the measurement
load_events() {
	sql >/dev/null <<-SQL
	CREATE TABLE bench.calls AS SELECT c, (SELECT jsonb_agg(jsonb_build_object(
			'stream', 'account-' || (c * 37 + i) % $streams, 'type', CASE WHEN i % 100 = 1 THEN 'Rare' ELSE 'Deposited' END,
			'data', bench.data(c * 100 + i), 'metadata', bench.metadata(c * 100 + i)) ORDER BY i)
		FROM generate_series(1, 100) i) AS events FROM generate_series(0, 99) c;
	CREATE PROCEDURE bench.load(n int) LANGUAGE plpgsql AS \$\$ BEGIN
		FOR k IN 1..n LOOP
			PERFORM count(*) FROM bench.calls, es_append_many(events) WHERE c = k % 100;
			COMMIT;
		END LOOP;
	END \$\$;
	SELECT pg_create_logical_replication_slot('bench_base', 'eventstore');
	SET synchronous_commit = off;
	CALL bench.load($events / 100);
	SQL
	calm
	loaded_lsn=$(sql -c "SELECT pg_current_wal_insert_lsn()")
	sql -c "SELECT es_append('account-end', 'Rare')" >/dev/null
	acked[eventstore]=$((acked[eventstore] + events / 100 * 100 + 1))
}

# slot_latency PLUGIN: leaves the figures in "times"
slot_latency() {
	local out
	sql -c "SELECT pg_create_logical_replication_slot('bench_latency', '$1')" >/dev/null || return 1
	out=$(PGOPTIONS="-c synchronous_commit=on" "$work/latency" "dbname=$database" slot 1000 "$seconds" \
		"START_REPLICATION SLOT bench_latency LOGICAL 0/0 ${slot_commands[$1]}") || return 1
	drop_slot bench_latency
	acked[eventstore]=$((acked[eventstore] + 1000 * seconds))
	take_latencies "$1" "$out"
}

# esfeed_backfill --to SINK: all events from the beginning
esfeed_backfill() {
	"$top/esfeed/esfeed" -q -d "dbname=$database" --feed backfill --create --from beginning --until-caught-up "$@"
}

# drop_backfill: also what was not finished; a slot would keep the server from wal_level replica
drop_backfill() { "$top/esfeed/esfeed" -q -d "dbname=$database" --feed backfill --drop; }

# backfill SINK: events a second by esfeed
backfill() {
	local status=0
	rm -f "$work/backfill" "$work/backfill.esfeed"
	timed "${acked[eventstore]}" esfeed_backfill --to "$1" || status=1
	drop_backfill || return 1
	return $status
}

# esfeed_produce TOPIC, kcat_produce TOPIC: for to_kafka
esfeed_produce() { backfill "kafka:$kafka_brokers/$1"; }
kcat_produce() {
	timed "${acked[eventstore]}" kcat -P -b "$kafka_brokers" -t "$1" -K $'\t' -l "$work/kafka.lines" \
		-X acks=all -X enable.idempotence=true -X linger.ms=5
}

# write_lines: what esfeed delivers, each line behind its stream, for kcat
write_lines() {
	local status=0
	esfeed_backfill --to - | perl -pe 's/^\{"position":\d+,"stream":"([^"]*)"/$1\t$&/' >"$work/kafka.lines" || status=1
	drop_backfill || return 1
	return $status
}

# kafka_case: beside what esfeed does without Kafka, and Kafka without esfeed
kafka_case() {
	local n=${acked[eventstore]}
	kafka_setup
	[ -n "$have_kafka" ] || return 0
	if ! write_lines; then
		fail "esfeed to standard output"
		kafka_stop
		return
	fi
	begin_case "backfill of $n events to $kafka_name" events/s
	side "esfeed to Kafka" to_kafka esfeed "$n" esfeed_produce
	side "esfeed to /dev/null" backfill -
	side "kcat -P of the same lines" to_kafka "kcat -P" "$n" kcat_produce
	measure_case
	kafka_stop
	report_kafka_cores
	rm -f "$work/kafka.lines"
}

# backfill_cases: to a file, and to Kafka
backfill_cases() {
	if ! [ -x "$top/esfeed/esfeed" ]; then
		note "esfeed left out: it is not built"
		return
	fi
	begin_case "backfill of ${acked[eventstore]} events" events/s
	side "esfeed to a file" backfill "file:$work/backfill"
	measure_case
	rm -f "$work/backfill" "$work/backfill.esfeed"
	kafka_case
}

# decode_cases: all events, then 1 in 100; the others have no such filter
decode_cases() {
	local plugins=(test_decoding) plugin
	if [ -n "$have_wal2json" ]; then
		plugins=(wal2json test_decoding)
		# shellcheck disable=SC2086
		check_decode "$events" '"action":"I"' wal2json ${decode_options[wal2json]}
	else
		note "wal2json left out: it is not installed (tools/setup bench)"
	fi
	check_decode "$events" '"position"' eventstore
	check_decode "$((events / 100))" '"position"' eventstore -o types=Rare
	begin_case "decoding of $events events, 100 a transaction" events/s
	side "eventstore" decode eventstore
	# shellcheck disable=SC2086
	for plugin in "${plugins[@]}"; do side "$plugin" decode "$plugin" ${decode_options[$plugin]:-}; done
	measure_case
	begin_case "the same, 1 in 100 wanted" events/s
	side "eventstore, types=Rare" decode eventstore -o types=Rare
	# shellcheck disable=SC2086
	for plugin in "${plugins[@]}"; do side "$plugin, all events" decode "$plugin" ${decode_options[$plugin]:-}; done
	measure_case
}

fresh_database
allow_decoding logical
build_latency
load_events
decode_cases
drop_slot bench_base
sql -c "CREATE PUBLICATION bench FOR TABLE eventstore.events WITH (publish = 'insert', publish_via_partition_root)" >/dev/null
latency_cases "1,000 events/s, synchronous_commit on" slot_latency eventstore pgoutput ${have_wal2json:+wal2json}
sql -c "DROP PUBLICATION bench"
backfill_cases
check_store
allow_decoding replica
