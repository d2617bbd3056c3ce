# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Moving here: the events of message-db's, emmett's and Marten's tables and of KurrentDB's file brought by the scripts of compat/, beside an INSERT … SELECT.
#
# The tables are in the same database and have what the scripts read of them. Events belong to 10,000
# streams and come in mixed order; positions are kept, and there are no holes.  The bare table has their columns and two
# unique indexes.  Of the file, which psql copies in, positions are not kept.

fresh_database
sql -c "CREATE TABLE bench.source AS
		SELECT i, row_number() OVER (PARTITION BY s ORDER BY i) AS version, 'account-' || s AS stream, bench.data(i) AS data, bench.metadata(i) AS metadata
		FROM (SELECT i, i * 7919 % $streams + 1 AS s FROM generate_series(1, $events::bigint) i) x
		ORDER BY i" \
	-c "CREATE TABLE bench.messages AS
		SELECT i AS global_position, version - 1 AS position, now() AT TIME ZONE 'UTC' AS time, stream AS stream_name, 'Deposited' AS type, data, metadata,
			gen_random_uuid() AS id FROM bench.source ORDER BY i" \
	-c "ALTER TABLE bench.messages ADD PRIMARY KEY (global_position)" \
	-c "CREATE TABLE bench.emt_messages AS
		SELECT i AS global_position, version AS stream_position, now() AS created, stream AS stream_id, 'Deposited' AS message_type, data AS message_data,
			metadata AS message_metadata, gen_random_uuid()::text AS message_id, 'E'::varchar(1) AS message_kind, '1' AS message_schema_version,
			'emt:default' AS partition, false AS is_archived FROM bench.source ORDER BY i" \
	-c "CREATE SEQUENCE bench.emt_global_message_position START $((events + 1))" -c "SELECT nextval('bench.emt_global_message_position')" \
	-c "ALTER TABLE bench.emt_messages ADD PRIMARY KEY (stream_id, stream_position, partition, is_archived)" \
	-c "CREATE TABLE bench.mt_events AS
		SELECT i AS seq_id, version, now() AS timestamp, stream AS stream_id, 'deposited'::varchar AS type, data, metadata AS headers, gen_random_uuid() AS id,
			'Bank.Deposited, Bank'::varchar AS mt_dotnet_type, '*DEFAULT*'::varchar AS tenant_id, false AS is_archived FROM bench.source ORDER BY i" \
	-c "ALTER TABLE bench.mt_events ADD PRIMARY KEY (seq_id)" \
	-c "CREATE UNIQUE INDEX ON bench.mt_events (stream_id, version)" \
	-c "CREATE TABLE bench.bare (position bigint PRIMARY KEY, stream text, version bigint, type text, data jsonb, metadata jsonb, event_id uuid,
		recorded_at timestamptz, UNIQUE (stream, version))" \
	-c "VACUUM (FREEZE, ANALYZE) bench.source, bench.messages, bench.emt_messages, bench.mt_events" >/dev/null

copy="WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
sql -c "\\copy (SELECT jsonb_build_object('streamId', stream, 'id', gen_random_uuid(), 'revision', (version - 1)::text, 'type', 'Deposited', 'isJson', true, 'created', now(), 'data', data, 'metadata', metadata, 'position', jsonb_build_object('commit', (i * 500)::text)) FROM bench.source ORDER BY i) TO '$work/events.jsonl' $copy"

# into_bare: the least that it takes to put them into a table
into_bare() {
	sql -c 'TRUNCATE bench.bare' -c CHECKPOINT || return 1
	timed "$events" sql -c "INSERT INTO bench.bare SELECT i, stream, version, 'Deposited', data, metadata, gen_random_uuid(), now() FROM bench.source ORDER BY i"
}

# into_store OPTION...: empties the store, runs psql with the options and checks what it left
into_store() {
	sql -c 'SET client_min_messages = warning' -c 'SET eventstore.allow_drop = on' -c 'DROP EXTENSION eventstore CASCADE' -c 'CREATE EXTENSION eventstore' -c CHECKPOINT || return 1
	timed "$events" sql -c 'SET client_min_messages = warning' "$@" || return 1
	acked[eventstore]=$events
	check_store >/dev/null
}

begin_case "$events events from tables in the same database, or from a file" events/s
side "INSERT … SELECT" into_store -c "INSERT INTO es_events (stream, type, data, metadata) SELECT stream, 'Deposited', data, metadata FROM bench.source ORDER BY i"
side "bare table" into_bare
side "from message-db" into_store -f "$top/compat/from_message_db.sql" -c "CALL pg_temp.import_message_db('bench')"
side "from emmett" into_store -f "$top/compat/from_emmett.sql" -c "CALL pg_temp.import_emmett('bench')"
side "from Marten" into_store -f "$top/compat/from_marten.sql" -c "CALL pg_temp.import_marten('bench')"
side "from KurrentDB" into_store -f "$top/compat/from_kurrentdb.sql" -c "\\copy kurrentdb_lines (line) FROM '$work/events.jsonl' $copy" \
	-c "CALL pg_temp.import_kurrentdb()"
measure_case
