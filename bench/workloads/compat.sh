# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# The interface of message-db over the store beside message-db itself: write_message, get_stream_messages, get_category_messages.
#
# Both are called by the same scripts.  message-db takes one lock a category until the transaction
# ends, so there is a case with 16 of them.  es_append with an id is what write_message adds to.

fresh_database
prime_streams
sql -c "SELECT count(es_append('account' || s % 16 || '-' || s, 'Opened', bench.data(s), bench.metadata(s))) FROM generate_series(1, $streams) s" >/dev/null
acked[eventstore]=$((acked[eventstore] + streams))
sql -f "$top/compat/message_store.sql"
round=0 search_path=message_store,public
have_messagedb=''
if reason=$(install_peers && try_setup messagedb_setup); then
	have_messagedb=1
	acked[messagedb]=$((streams * 2))
	note "message-db $(package_version @eventide/message-db)"
else
	note "message-db left out: $reason"
fi

# both_databases SQL: runs it in the store's and in message-db's
both_databases() {
	sql -c "SET search_path = message_store, public" -c "$1" >/dev/null
	[ -z "$have_messagedb" ] || database=bench_messagedb sql -c "SET search_path = message_store, public" -c "$1" >/dev/null
}

# sides_of SCRIPT: the two sides of a script that writes a message
sides_of() {
	side "over eventstore" pgbench_rate eventstore 1 "$1"
	[ -z "$have_messagedb" ] || side "message-db" messagedb_rate "$1"
}

script write <<SQL
$any_stream
SELECT write_message(gen_random_uuid()::text, 'account-' || :s, 'Deposited', :data, :metadata);
SQL
script write16 <<SQL
$any_stream
\\set k :s % 16
SELECT write_message(gen_random_uuid()::text, 'account' || :k || '-' || :s, 'Deposited', :data, :metadata);
SQL
script write_expected <<SQL
$own_stream
\\set k :s % 16
SELECT stream_version('account' || :k || '-' || :s) AS version \\gset
SELECT write_message(gen_random_uuid()::text, 'account' || :k || '-' || :s, 'Deposited', :data, :metadata, :version);
SQL
script append <<SQL
$any_stream
SELECT es_append('account-' || :s, 'Deposited', :data, :metadata, NULL, gen_random_uuid());
SQL
for sync in off on; do
	for clients in 1 8; do
		begin_case "write_message, 1 category, $(plural "$clients" client), synchronous_commit $sync" events/s
		sides_of write
		side "es_append with an id" pgbench_rate eventstore 1 append
		measure_case
	done
	clients=8
	begin_case "write_message, 16 categories, 8 clients, synchronous_commit $sync" events/s
	sides_of write16
	measure_case
	begin_case "write_message, version read and expected, 16 categories, 8 clients, synchronous_commit $sync" events/s
	sides_of write_expected
	measure_case
done

# Reads: streams of 100 messages in a category, which come mixed.
count=$((events / 1000))
both_databases "SELECT count(write_message(gen_random_uuid()::text, 'read-' || (hashint8(n) & 2147483647) % $count, 'Deposited', '$data',
	jsonb_build_object('correlationStreamName', 'from' || n % 10 || '-1'))) FROM generate_series(1, $count * 100) n"
acked[eventstore]=$((acked[eventstore] + count * 100))
acked[messagedb]=$((${acked[messagedb]:-0} + count * 100))
sql -c 'VACUUM (FREEZE, ANALYZE) eventstore.events' -c 'VACUUM (FREEZE, ANALYZE) eventstore.streams'
[ -z "$have_messagedb" ] || database=bench_messagedb sql -c 'VACUUM (FREEZE, ANALYZE) message_store.messages'

script read_stream <<SQL
\\set s random(0, $count - 1)
SELECT * FROM get_stream_messages('read-' || :s);
SQL
script read_last <<SQL
\\set s random(0, $count - 1)
SELECT * FROM get_last_stream_message('read-' || :s);
SQL
for name in category correlated group; do
	case $name in
		category) filter='' ;;
		correlated) filter=", correlation => 'from1'" ;;
		group) filter=', consumer_group_member => 1, consumer_group_size => 4' ;;
	esac
	script "read_$name" <<-SQL
	\\set at :first + (:v * 1000) % ($count * 100)
	\\set v :v + 1
	SELECT * FROM get_category_messages('read', :at, 1000$filter);
	SQL
done
first="SELECT min(global_position) FROM get_category_messages('read')"
first_here=$(PGOPTIONS='-c search_path=message_store,public' sql -c "$first")
first_there=$([ -z "$have_messagedb" ] || database=bench_messagedb PGOPTIONS='-c search_path=message_store,public' sql -c "$first")

# pages_here SCRIPT, pages_there SCRIPT: calls a second
pages_here() { pgbench_run none 0 "$1" -T "$seconds" -D first="$first_here" && measured=$tps; }
pages_there() { database=bench_messagedb pgbench_run none 0 "$1" -T "$seconds" -D first="$first_there" && measured=$tps; }

for clients in 1 8; do
	for name in stream last category correlated group; do
		case $name in
			stream) what='get_stream_messages of 100 or so' ;;
			last) what='get_last_stream_message' ;;
			category) what='get_category_messages, 1,000' ;;
			correlated) what='get_category_messages, 1,000 of a correlation' ;;
			group) what='get_category_messages, 1,000 for one of 4 consumers' ;;
		esac
		begin_case "$what, $(plural "$clients" client)" calls/s
		side "over eventstore" pages_here "read_$name"
		[ -z "$have_messagedb" ] || side "message-db" pages_there "read_$name"
		measure_case
	done
done

check_store
if [ -n "$have_messagedb" ]; then
	check_messagedb
	peer_database bench_messagedb drop
fi
search_path=
