# compat/message_store.sql: the functions, views, errors and rights of message-db over a store, each as its users
# know it; writers and readers that meet; its installation, dump and removal.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "timezone = 'Asia/Tokyo'\n");
my $folder = $node->config_data('--sharedir') . '/eventstore';
my $id = '0189ffff-0000-7000-8000-00000000000';

# install(database, script): runs one of the scripts; what went wrong
sub install
{
	my ($database, $script) = @_;
	my ($ret, $out, $err) = $node->psql($database, "\\i $folder/$script.sql");

	return $err;
}

# query(sql), failure(sql): as the role message_store, in the database of that name; failure gives SQLSTATE and message
sub query { return $node->safe_psql('message_store', $_[0], extra_params => [ '-U', 'message_store' ]) }

sub failure
{
	my ($ret, $out, $err) = $node->psql('message_store', "\\set VERBOSITY verbose\n$_[0]", extra_params => [ '-U', 'message_store' ], on_error_stop => 0);

	return $err =~ /ERROR:  (\w+): (.*)/ ? "$1 $2" : "no error: $out";
}

# number(calls): how many rows these functions give
sub number { return query('SELECT count(*) FROM (' . join(' UNION ALL ', map { "SELECT FROM $_" } @_) . ') r') }

sub session
{
	my $session = $node->background_psql('message_store', on_error_stop => 0, extra_params => [ '-U', 'message_store' ]);

	$session->query_safe('SET client_min_messages = error');
	return $session;
}

# ---- installation ----

$node->safe_psql('postgres', 'CREATE DATABASE message_store');
like(install('message_store', 'message_store'), qr/extension "eventstore" is not in this database/, 'without the extension it is refused');
$node->safe_psql('message_store', 'CREATE SCHEMA "Event Store"; CREATE EXTENSION eventstore SCHEMA "Event Store"');
$node->safe_psql('message_store', 'CREATE SCHEMA message_store; CREATE TABLE message_store.messages (id uuid)');
like(install('message_store', 'message_store'), qr/schema "message_store" has the tables of message-db/, 'over message-db itself it is refused');
like(install('message_store', 'uninstall_message_store'), qr/schema "message_store" has the tables of message-db/, 'and so is taking it away');
$node->safe_psql('message_store', 'DROP SCHEMA message_store CASCADE');
is(install('message_store', 'message_store'), '', 'it is installed, the extension in a schema of another name');
is(install('message_store', 'message_store'), '', 'and once more');
is($node->safe_psql('message_store', "BEGIN; \\i $folder/message_store.sql\nSHOW search_path; COMMIT", on_error_stop => 1), '"$user", public', 'in a transaction it leaves the search_path as it was');

# ---- names of streams ----

is(query('SELECT message_store_version()'), '1.3.0', 'message_store_version');
is(query(q{SELECT category('account-1-2'), category('account'), category('account:command-1'), category('-1'), category('')}), 'account|account|account:command||', 'category');
is(query(q{SELECT id('account-1-2'), id('account'), id('account-'), id('account-1+2')}), '1-2|||1+2', 'id');
is(query(q{SELECT id('account') IS NULL, id('account-') = '', cardinal_id('account') IS NULL}), 't|t|t', 'a category has no id, an empty one is one');
is(query(q{SELECT cardinal_id('account-1+2+3'), cardinal_id('account-1'), cardinal_id('account-+2')}), '1|1|', 'cardinal_id');
is(query(q{SELECT is_category('account'), is_category('account-1'), is_category(''), is_category(NULL)}), 't|f|t|t', 'is_category');
is(query(q{SELECT hash_64('account'), hash_64('a'), hash_64('')}), '-2132379389342958165|919145239626757800|-3162216497309240828', 'hash_64');
is(query(q{SELECT acquire_lock('account-1') = hash_64('account'), stream_version('account-1')}), 't|', 'acquire_lock; a stream without messages has no version');

# ---- writing ----

is(query(qq{SELECT write_message('${id}1', 'account-1', 'Opened', '{"n": 1}', '{"m": 1}')}), '0', 'the first message is at position 0');
is(query(qq{SELECT write_message(id => '${id}2', stream_name => 'account-1', "type" => 'Deposited', data => '{"n": 2}', expected_version => 0)}), '1', 'by name, with an expected version');
is(query(qq{SELECT write_message('${id}3', 'account-2', 'Opened', NULL, NULL, -1), stream_version('account-2')}), '0|0', 'the first of a stream that must be new, without data');
is(query(q{SELECT stream_version('account-1')}), '1', 'stream_version');
foreach my $expected (-9223372036854775808, -2, -1, 0, 2, 3, 9223372036854775807)
{
	is(failure(qq{SELECT write_message(gen_random_uuid()::text, 'account-1', 'T', '{}', NULL, $expected)}),
		"P0001 Wrong expected version: $expected (Stream: account-1, Stream Version: 1)", "expected version $expected");
}
is(failure(q{SELECT write_message(gen_random_uuid()::text, 'none-1', 'T', '{}', NULL, 0)}),
	'P0001 Wrong expected version: 0 (Stream: none-1, Stream Version: -1)', 'of a stream that is not there');
is(failure(qq{SELECT write_message('${id}1', 'account-1', 'Opened', '{"n": 1}', '{"m": 1}')}),
	'23505 duplicate key value violates unique constraint "messages_id"', 'a message written again');
is(failure(qq{SELECT write_message('${id}1', 'account-1', 'Other', '{}', NULL, 1)}),
	'23505 duplicate key value violates unique constraint "messages_id"', 'its id with another message');
is(failure(qq{SELECT write_message('${id}2', 'account-1', 'Deposited', '{"n": 2}', NULL, 0)}),
	'P0001 Wrong expected version: 0 (Stream: account-1, Stream Version: 1)', 'a message written again with its version: that goes first');
is(failure(qq{DO \$\$ DECLARE c text; t text; BEGIN PERFORM write_message('${id}1', 'account-1', 'T', '{}'); EXCEPTION WHEN unique_violation THEN
	GET STACKED DIAGNOSTICS c = CONSTRAINT_NAME, t = TABLE_NAME; RAISE EXCEPTION '% % %', t, c, stream_version('account-1'); END \$\$}),
	'P0001 messages messages_id 1', 'drivers find table and constraint');
is(failure(q{SELECT write_message('x', 'account-1', 'T', '{}')}), '22P02 invalid input syntax for type uuid: "x"', 'an id that is none');
is(failure(q{SELECT write_message(NULL, 'account-1', 'T', '{}')}), '23502 null value in column "id" of relation "messages" violates not-null constraint', 'no id');
is(failure(q{SELECT write_message(gen_random_uuid()::text, NULL, 'T', '{}')}), '22004 argument "stream" must not be null', 'no stream');
is(failure(q{SELECT write_message(gen_random_uuid()::text, 'account-1', 'T', '{}', '[]')}), '22023 "metadata" of an event must be a JSON object', 'metadata that are no object');
query(q{SELECT write_message(gen_random_uuid()::text, 'nulls-1', 'T', 'null', 'null')});
is(query(q{SELECT data IS NULL, metadata FROM get_last_stream_message('nulls-1')}), 't|{}', 'JSON null as data or metadata is none');
is(query(qq{SELECT string_agg(write_message(('${id}' || n)::text, 'many-1', 'T', to_jsonb(n), NULL, n - 1)::text, ' ') FROM generate_series(0, 9) n}), '0 1 2 3 4 5 6 7 8 9',
	'several in a statement; another stream may have the ids');
is(query(q{BEGIN; SELECT txid_current() AS before \gset
	SELECT count(write_message(gen_random_uuid()::text, 'many-1', 'T', '{}', NULL, 8 + n)) FROM generate_series(1, 100) n;
	COMMIT; SELECT txid_current() - :before}), "100\n1", 'a transaction of many writes has one id');

# ---- reading a stream ----

is(query(q{SELECT id, stream_name, type, position, global_position, data, metadata FROM get_stream_messages('account-1')}),
	qq{${id}1|account-1|Opened|0|1|{"n": 1}|{"m": 1}\n${id}2|account-1|Deposited|1|2|{"n": 2}|{}}, 'get_stream_messages');
is(query(q{SELECT pg_typeof(id), pg_typeof(position), pg_typeof(data), pg_typeof(metadata), pg_typeof(time) FROM get_stream_messages('account-1', 0, 1)}),
	'character varying|bigint|character varying|character varying|timestamp without time zone', 'with types as there');
is(query(q{SELECT count(*) FROM get_stream_messages('account-1') m JOIN "Event Store".es_read('account-1') e ON e.event_id::text = m.id
	AND m.time = e.recorded_at AT TIME ZONE 'UTC'}), '2', 'times are UTC, whatever the time zone');
is(query(q{SELECT string_agg(position::text, ' ') FROM get_stream_messages('many-1', 2, 3)}), '2 3 4', 'position and batch_size');
is(query(q{SELECT count(*) FROM get_stream_messages('many-1', batch_size => -1)}), '110', 'batch_size -1');
is(query(q{SELECT count(*) FROM get_stream_messages('many-1', NULL, NULL)}), '110', 'NULL for the defaults');
is(query(q{SELECT count(*) FROM get_stream_messages('many-1', -5, 0)}), '0', 'batch_size 0');
is(number(q{get_stream_messages('many-1', 9223372036854775807)}, q{get_stream_messages('none-1')}), '0', 'behind the end');
is(query(q{SELECT count(*) FROM get_stream_messages('many-1', -9223372036854775808)}), '110', 'before the beginning');
is(failure(q{SELECT * FROM get_stream_messages('many-1', 0, -2)}), '2201W LIMIT must not be negative', 'batch_size -2');
is(failure(q{SELECT * FROM get_stream_messages('many')}), 'P0001 Must be a stream name: many', 'of a category');
is(query(q{SELECT position, type FROM get_last_stream_message('account-1')}), '1|Deposited', 'get_last_stream_message');
is(query(q{SELECT position, type FROM get_last_stream_message('account-1', 'Opened')}), '0|Opened', 'of a type');
is(number(q{get_last_stream_message('account-1', 'None')}, q{get_last_stream_message('none-1')}, q{get_last_stream_message(NULL)}), '0', 'of what is not there');
is(query(q{SELECT global_position, position, stream_name, type, data, metadata, id FROM messages WHERE stream_name = 'account-1' ORDER BY 1}),
	qq{1|0|account-1|Opened|{"n": 1}|{"m": 1}|${id}1\n2|1|account-1|Deposited|{"n": 2}|{}|${id}2}, 'the view messages');
is(failure('DELETE FROM messages'), '42501 permission denied for view messages', 'from which nothing is removed');
is($node->safe_psql('message_store', q{SELECT string_agg(attname || ' ' || format_type(atttypid, NULL), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'message_store.messages'::regclass}),
	'global_position bigint, position bigint, time timestamp without time zone, stream_name text, type text, data jsonb, metadata jsonb, id uuid', 'it has the columns of the table');

# ---- reading a category ----

query(q{SELECT write_message(gen_random_uuid()::text, 'group-' || n % 10 || '+' || n, 'T', '{}', jsonb_build_object('correlationStreamName', 'from' || n % 2 || '-' || n)) FROM generate_series(1, 40) n;
	SELECT write_message(gen_random_uuid()::text, 'group', 'T', '{}'), write_message(gen_random_uuid()::text, 'group:command-1', 'T', '{}'), write_message(gen_random_uuid()::text, 'groups-1', 'T', '{}')});
is(query(q{SELECT id, stream_name, position, global_position FROM get_category_messages('account')}),
	"${id}1|account-1|0|1\n${id}2|account-1|1|2\n${id}3|account-2|0|3", 'get_category_messages');
is(query(q{SELECT string_agg(global_position::text, ' ') FROM get_category_messages('account', 2)}), '2 3', 'from a global position on, itself included');
is(query(q{SELECT string_agg(global_position::text, ' ') FROM get_category_messages('account', "position" => 2, batch_size => 1)}), '2', 'batch_size');
is(number(q{get_category_messages('account', -1, -1)}, q{get_category_messages('account', NULL, NULL)}), '6', 'batch_size -1; NULL for the defaults');
is(number(q{get_category_messages('none')}, q{get_category_messages(NULL)}, q{get_category_messages('account', 9223372036854775807)}), '0', 'of what is not there');
is(query(q{SELECT count(*), count(DISTINCT category(stream_name)) FROM get_category_messages('group')}), '41|1', 'nothing of a category that only begins so');
is(query(q{SELECT string_agg(DISTINCT category(metadata::jsonb ->> 'correlationStreamName'), ' '), count(*) FROM get_category_messages('group', correlation => 'from1')}), 'from1|20', 'correlation');
is(query(q{SELECT count(*) FROM get_category_messages('group', correlation => 'from1', batch_size => 7)}), '7', 'a batch is counted behind the filter');
is(query(q{SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n, count(DISTINCT cardinal_id(stream_name)) FROM generate_series(0, 2) member,
		get_category_messages('group', consumer_group_member => member, consumer_group_size => 3) GROUP BY member) m}) =~ /^(\d+) (\d+) (\d+)$/ && $1 + $2 + $3, 40,
	'a consumer group shares all messages of streams with an id');
is(query(q{SELECT count(*) FROM generate_series(0, 2) member, get_category_messages('group', consumer_group_member => member, consumer_group_size => 3)
	WHERE @(hash_64(cardinal_id(stream_name))) % 3 <> member}), '0', 'by hash_64 of the cardinal id');
is(query(q{SELECT count(*) FROM generate_series(0, 2) member, get_category_messages('group', correlation => 'from0', consumer_group_member => member, consumer_group_size => 3)}), '20', 'both');
is(failure(q{SELECT * FROM get_category_messages('group-1')}), 'P0001 Must be a category: group-1', 'of a stream');
is(failure(q{SELECT * FROM get_category_messages('group', correlation => 'a-1')}), 'P0001 Correlation must be a category (Correlation: a-1)', 'correlation with a stream');
my $group = 'P0001 Consumer group';
is(failure("SELECT * FROM get_category_messages('group', $_->[0])"), $_->[1], $_->[0]) foreach (
	[ 'consumer_group_member => 0', "$group member and size must be specified (Consumer Group Member: 0, Consumer Group Size: <NULL>)" ],
	[ 'consumer_group_size => 1', "$group member and size must be specified (Consumer Group Member: <NULL>, Consumer Group Size: 1)" ],
	[ 'consumer_group_member => 0, consumer_group_size => 0', "$group size must not be less than 1 (Consumer Group Member: 0, Consumer Group Size: 0)" ],
	[ 'consumer_group_member => -1, consumer_group_size => 1', "$group member must not be less than 0 (Consumer Group Member: -1, Consumer Group Size: 1)" ],
	[ 'consumer_group_member => 1, consumer_group_size => 1', "$group member must be less than the group size (Consumer Group Member: 1, Consumer Group Size: 1)" ]);

# ---- SQL conditions ----

my $off = 'P0001 Retrieval with SQL condition is not activated';
my $conditional = q{SELECT count(*) FROM get_category_messages('group', condition => 'true'); SELECT count(*) FROM get_stream_messages('account-1', condition => 'true')};
is(failure($conditional), $off, 'a condition is off');
is(failure("SET message_store.sql_condition = off; $conditional"), $off, 'off is off');
is(failure("SET message_store.sql_condition = on; RESET message_store.sql_condition; $conditional"), $off, 'and so is what was reset');
is(query("SET message_store.sql_condition = on; $conditional"), "41\n2", 'on');
is(query(q{SET message_store.sql_condition = on; SELECT string_agg(position::text, ' ') FROM get_stream_messages('many-1', 2, 3, 'messages.position > 3 AND data = to_jsonb(position)')}),
	'4 5 6', 'the columns are those of messages');
is(query(q{SET message_store.sql_condition = on; SELECT count(*) FROM get_category_messages('group', correlation => 'from0', condition => 'global_position > 0 -- all')}), '20', 'beside a correlation');
is(query(q{SET message_store.sql_condition = on; SELECT count(*) FROM get_category_messages('nulls', condition => 'data IS NULL')}), '1', 'without data it is NULL');
is(failure(q{SET message_store.sql_condition = on; SELECT count(*) FROM get_category_messages('group', condition => 'true) UNION SELECT NULL, rolpassword, NULL, 1, 1, NULL, NULL, now() FROM pg_authid --
	WHERE (true')}), '42501 permission denied for table pg_authid', 'a condition has its caller\'s rights only');

# ---- reports ----

is(query(q{SELECT * FROM stream_summary WHERE stream_name LIKE 'account%'}), "account-1|2|1.27\naccount-2|1|0.64", 'stream_summary');
is(query(q{SELECT count(*), sum(message_count) FROM type_summary}), '3|157', 'type_summary');
is(query(q{SELECT count(*), sum(message_count) FROM stream_type_summary}), '48|157', 'stream_type_summary');
is(query(q{SELECT * FROM type_stream_summary WHERE stream_name = 'account-1'}), "Deposited|account-1|1|0.64\nOpened|account-1|1|0.64", 'type_stream_summary');
is(query(q{SELECT * FROM type_category_summary WHERE category = 'account'}), "Deposited|account|1|0.64\nOpened|account|2|1.27", 'type_category_summary');
is(query(q{SELECT * FROM category_type_summary WHERE category = 'account'}), "account|Deposited|1|0.64\naccount|Opened|2|1.27", 'category_type_summary');

# ---- writers that meet ----

my ($one, $two) = (session(), session());

# write_sql(stream, expected version, id): a message
sub write_sql
{
	my ($stream, $expected, $uuid) = @_;
	my $quoted = $uuid ? "'$uuid'" : 'gen_random_uuid()::text';

	return "SELECT write_message($quoted, '$stream', 'T', '{}', NULL, $expected)";
}

# meets(what comes first, what second, how the first ends): what the second one gets, which waits for the first
sub meets
{
	my ($first, $second, $end) = @_;

	$one->query_safe("BEGIN; $first");
	my $script = start_script($node, 'message_store', $second, '-U', 'message_store');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'message_store' AND cardinality(pg_blocking_pids(pid)) > 0"), 'it waits');
	$one->query_safe($end);
	my ($out, $err) = finish_script($script);
	return $err =~ /(ERROR:.*)/ ? $1 : $out =~ s/\s+$//r;
}
is(meets(write_sql('race-1', -1), write_sql('race-1', -1), 'COMMIT'), 'ERROR:  Wrong expected version: -1 (Stream: race-1, Stream Version: 0)', 'of two writers with one version the second is told');
is(meets(write_sql('race-1', 0), write_sql('race-1', 0), 'ROLLBACK'), '1', 'unless the first one rolls back');
is(meets(write_sql('race-1', 'NULL', "${id}7"), write_sql('race-1', 'NULL', "${id}7"), 'COMMIT'),
	'ERROR:  duplicate key value violates unique constraint "messages_id"', 'of two with one id the second is told');
is(meets(write_sql('race-1', 2, "${id}8"), write_sql('race-1', 2, "${id}8"), 'COMMIT'),
	'ERROR:  Wrong expected version: 2 (Stream: race-1, Stream Version: 3)', 'its version first');
is(meets(write_sql('race-1', 3, "${id}9"), write_sql('race-1', 3, "${id}9"), 'ROLLBACK'), '4', 'and it succeeds if the first one rolls back');
is(meets("SELECT acquire_lock('race-1')", write_sql('race-2', -1), 'COMMIT'), '0', 'acquire_lock keeps writers off the category');
is(meets(write_sql('race-3', -1), "SELECT acquire_lock('race-9') = hash_64('race')", 'COMMIT'), 't', 'and waits for them');

# ---- readers beside writers ----

my $before = query('SELECT max(global_position) FROM messages');
$one->query_safe('BEGIN; ' . write_sql('slow-1', -1));
is(query(write_sql('slow-2', -1)), '0', 'writers of one category do not wait for each other');
is($two->query_safe("SELECT count(*) FROM get_category_messages('slow')"), '0', 'a reader does not go past one that is in flight');
is($two->query_safe(q{SELECT count(*) FROM get_stream_messages('slow-2')}), '1', 'though the message is in its stream');
$one->query_safe('COMMIT');
is($two->query_safe("SELECT string_agg(stream_name || ' ' || global_position - $before, ', ') FROM get_category_messages('slow', $before + 1)"), 'slow-1 1, slow-2 2', 'and then gets both, in order');
$_->quit foreach $one, $two;

# ---- rights, and what cannot get in between ----

$node->safe_psql('message_store', q{CREATE ROLE stranger LOGIN; GRANT USAGE ON SCHEMA message_store, "Event Store" TO stranger; GRANT SELECT ON ALL TABLES IN SCHEMA message_store TO stranger});
foreach my $call ("write_message(gen_random_uuid()::text, 'account-1', 'T', '{}')", "get_stream_messages('account-1')", "get_category_messages('account')", "get_last_stream_message('account-1')", "stream_version('account-1')")
{
	is(sqlstates($node, 'message_store', "SELECT message_store.$call", extra_params => [ '-U', 'stranger' ]), '42501', "without es_grant's rights: $call");
}
is($node->safe_psql('message_store', 'SELECT count(*) FROM message_store.messages', extra_params => [ '-U', 'stranger' ]), '0', 'and no messages are seen');
$node->safe_psql('message_store', q{SELECT "Event Store".es_grant('stranger', 'read', 'account')});
is($node->safe_psql('message_store', 'SELECT count(*) FROM message_store.messages', extra_params => [ '-U', 'stranger' ]), '3', 'with a right on a category those of it are');
$node->safe_psql('message_store', q{CREATE ROLE appender LOGIN; GRANT USAGE ON SCHEMA message_store, "Event Store" TO appender; SELECT "Event Store".es_grant('appender', 'append', 'account')});
foreach my $case ([ 'NULL', '23505' ], [ 1, '23505' ], [ 0, 'P0001' ])
{
	my ($expected, $state) = @$case;

	is(sqlstates($node, 'message_store', qq{SELECT message_store.write_message('${id}1', 'account-1', 'Opened', '{"n": 1}', '{"m": 1}', $expected)}, extra_params => [ '-U', 'appender' ]), $state,
		"who may append only is told, too, that a message is there, expected version $expected");
}
$node->safe_psql('message_store', q{SELECT "Event Store".es_revoke('message_store', 'append'); REVOKE SELECT ON message_store.type_summary FROM message_store});
is(install('message_store', 'message_store'), '', 'the script runs again');
is($node->safe_psql('message_store', q{SELECT string_agg(privilege, ' '), has_table_privilege('message_store', 'message_store.type_summary', 'SELECT') FROM "Event Store".es_grants WHERE role::text = 'message_store'}), 'read|f', 'and gives back no right that was taken');
$node->safe_psql('message_store', q{SELECT "Event Store".es_grant('message_store', 'append'); GRANT SELECT ON message_store.type_summary TO message_store});
$node->safe_psql('message_store', q{
	CREATE SCHEMA hostile; GRANT USAGE ON SCHEMA hostile TO PUBLIC;
	CREATE FUNCTION hostile.never(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
	CREATE FUNCTION hostile.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
	CREATE FUNCTION hostile.never(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
	CREATE FUNCTION hostile.none(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT 77::bigint';
	CREATE FUNCTION hostile.es_read(text, bigint) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION hostile.strpos(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION hostile.timezone(text, timestamptz) RETURNS timestamp LANGUAGE sql AS 'SELECT NULL::timestamp'} .
	join('', map { my $o = $_; join '', map { "; CREATE OPERATOR hostile.$o (LEFTARG = $_, RIGHTARG = $_, FUNCTION = hostile.never)" } 'bigint', 'text', 'jsonb' } '=', '<>', '<', '>', '>=') .
	join('', map { "; CREATE OPERATOR hostile.$_ (LEFTARG = bigint, RIGHTARG = int, FUNCTION = hostile.none)" } '+', '-', '%'));
my $hostile = 'SET search_path = hostile, pg_catalog;';
my $all = join ' UNION ALL ', map { "SELECT m::text FROM message_store.$_ m" } "get_stream_messages('many-1', 3, 4)", "get_last_stream_message('account-1', 'Opened')",
	"get_category_messages('group', 5, 30, correlation => 'from1', consumer_group_member => 1, consumer_group_size => 2)", "get_category_messages('account')";
is(query("$hostile $all"), query($all), 'a hostile search_path changes nothing that is read');
is(query("$hostile " . "SELECT message_store.write_message('${id}5', 'hostile-1', 'T', '{}', '{}', -1), message_store.stream_version('hostile-1'), message_store.id('hostile-1')"), '0|0|1', 'nor written');
is(failure("$hostile " . "SELECT message_store.write_message('${id}6', 'hostile-1', 'T', '{}', '{}', 7)"), 'P0001 Wrong expected version: 7 (Stream: hostile-1, Stream Version: 0)', 'nor refused');

# ---- parallel queries ----

$node->safe_psql('message_store', 'CREATE TABLE numbers AS SELECT generate_series(1, 20000) n; ANALYZE numbers; GRANT SELECT ON numbers TO message_store');
is(query(q{SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;
	SELECT count(stream_version('account-1')) FROM public.numbers WHERE n < 100}), '99', 'what may not be called in parallel workers is not');
$node->safe_psql('message_store', 'DROP TABLE numbers');

# ---- a correlation by tags ----

query(q{SELECT write_message(gen_random_uuid()::text, 'tagged-' || n, 'T', '{}', jsonb_build_object('correlationStreamName', 'rare-' || n, 'tags', jsonb_build_array('rare'))) FROM generate_series(1, 3) n});
is(query(q{SELECT string_agg(stream, ' ' ORDER BY position) FROM "Event Store".es_read_query('[{"tags": ["rare"]}]')}), 'tagged-1 tagged-2 tagged-3', 'a tag that writers put beside the correlation is found by es_read_query');
is(query(q{SELECT count(*) FROM get_category_messages('tagged', correlation => 'rare') WHERE metadata::jsonb -> 'tags' = '["rare"]'}), '3', 'and is given back with the metadata');

# ---- dump, removal ----

$node->run_log([ $node->installed_command('pg_dump'), '-Fc', '-f', $node->basedir . '/dump', $node->connstr('message_store') ]);
$node->safe_psql('postgres', 'CREATE DATABASE restored');
is($node->run_log([ $node->installed_command('pg_restore'), '-e', '-d', $node->connstr('restored'), $node->basedir . '/dump' ]), 1, 'a dump is restored');
my $messages = 'SELECT md5(string_agg(m::text, $$ $$ ORDER BY global_position)) FROM message_store.messages m';
is($node->safe_psql('restored', $messages), $node->safe_psql('message_store', $messages), 'with all messages');
is($node->safe_psql('restored', "SELECT write_message(gen_random_uuid()::text, 'account-1', 'T', '{}', NULL, 1)", extra_params => [ '-U', 'message_store' ]), '2', 'and can be written to');
like(install('restored', 'message_store'), qr/^$/, 'the script runs over it');
$node->safe_psql('restored', 'CREATE VIEW mine AS SELECT * FROM message_store.messages');
like(install('restored', 'uninstall_message_store'), qr/other objects depend on them/, 'it is not taken from under who uses it');
$node->safe_psql('restored', 'DROP VIEW mine');
is(install('restored', 'uninstall_message_store'), '', 'it is taken away');
is($node->safe_psql('restored', q{SELECT to_regnamespace('message_store') IS NULL, count(*) > 150, has_schema_privilege('message_store', 'Event Store', 'USAGE') FROM "Event Store".es_events}), 't|t|f', 'and the events stay');
is($node->safe_psql('restored', q{SELECT count(*) FROM "Event Store".es_grants WHERE role::text = 'message_store'}), '0', 'without its rights');
is(install('restored', 'message_store'), '', 'and it is there again');
is($node->safe_psql('restored', q{SELECT string_agg(privilege, ' ' ORDER BY privilege) FROM "Event Store".es_grants WHERE role::text = 'message_store'}), 'append read', 'with its rights');

# ---- a schema whose name has a quote, which it can get after the extension was made ----

$node->safe_psql('postgres', 'CREATE DATABASE quoted');
$node->safe_psql('quoted', q{CREATE SCHEMA plain; CREATE EXTENSION eventstore SCHEMA plain; ALTER SCHEMA plain RENAME TO "it's"});
is(install('quoted', 'message_store'), '', 'it is installed over a store in a schema with a quote in its name');
is($node->safe_psql('quoted', q{SET search_path = message_store; SET message_store.sql_condition = on; SELECT write_message(gen_random_uuid()::text, 'account-1', 'T', '{}');
	SELECT count(*) FROM get_stream_messages('account-1', condition => 'position = 0'), get_category_messages('account', condition => 'true')}), "0\n1", 'and conditions find its functions');

done_testing();
