# A word goes through protected fields by every way in, and another one beside it through
# fields that are not protected. Then all that the server has written, and all that came out
# of it without es_reveal, is searched for both: the second one is found everywhere, the first
# one nowhere. After es_shred and a rotation of the master key an old backup is opened with the
# new key and with the old one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use File::Find;
use IPC::Run;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();

# word(): 24 letters that are nowhere else
sub word
{
	my @letters = ('a' .. 'z', 'A' .. 'Z', 0 .. 9);

	return join('', map { $letters[ rand @letters ] } 1 .. 24);
}
my ($secret, $control) = (word(), word());

# forms(word): what would tell of it: every eight letters of it, so that a page's end, or what
# compression puts between, does not hide it; hexadecimal, base64, UTF-16
sub forms
{
	my ($word) = @_;
	my $hex = unpack('H*', $word);
	my $utf16 = join("\0", split //, $word);

	return ((map { substr($word, $_, 8) } 0 .. length($word) - 8), substr($hex, 0, 24), substr($hex, -24), uc substr($hex, 0, 24),
		substr($utf16, 0, 16), substr($utf16, -16),
		map { substr(encode_base64(('x' x $_) . $word, ''), 4, 20) } 0 .. 2);
}
my %pattern = map { my $forms = join('|', map { quotemeta } forms($_->[1])); $_->[0] => qr/$forms/ } [ secret => $secret ], [ control => $control ];

# has(word's name, file or directory): the files that have it, in any form
sub has
{
	my ($name, @where) = @_;
	my @found;

	find({ no_chdir => 1, wanted => sub {
		return unless -f $_ && -s $_;
		open my $file, '<:raw', $_ or return;
		local $/;
		my $content = <$file>;
		push @found, $File::Find::name if $content =~ $pattern{$name};
	} }, grep { -e $_ } @where);
	return @found;
}

# shows_only_control(what, files): that the search finds the one word there, and not the other
sub shows_only_control
{
	my ($what, @where) = @_;

	ok(scalar(has('control', @where)) > 0, "$what: what is not protected is found");
	is(join(' ', has('secret', @where)), '', "$what: what is protected is not");
}

my $dir = PostgreSQL::Test::Utils::tempdir();
my @keys = map { join('', map { sprintf('%02x', int(rand(256))) } 1 .. 32) } 1 .. 2;

append_to_file("$dir/key", $keys[0]);
append_to_file("$dir/old_key", $keys[0]);
append_to_file("$dir/new_key", $keys[1]);
# what the server logs of statements is the administrator's choice, and has them as they came
my $conf = "eventstore.master_key_command = 'cat $dir/key'\nlog_min_error_statement = panic\nlog_min_messages = info\nlog_temp_files = 0\n"
  . "shared_preload_libraries = 'eventstore'\nwal_level = logical\nfull_page_writes = on\nmax_wal_size = 10GB\nwal_keep_size = 1GB\n"
  . "wal_retrieve_retry_interval = 200ms\neventstore.backoff_max = '1s'\n";
my $node = feed_node('main', $conf);

# sql(statements): run one by one; those that are to fail may
sub sql
{
	my ($statement) = @_;

	my ($ret, $out, $err) = $node->psql('postgres', $statement);

	fail("$statement: $err") if $ret != 0;
	return $out;
}

sub may_fail
{
	my ($statement, $expected) = @_;

	is(sqlstates($node, 'postgres', $statement), $expected, "fails: $expected");
}

# ---- what is there before ----

sql($_) foreach (
	q{SELECT es_protect('p', '{$.data.word, $.data.list[*].word}', '$.data.id')},
	q{SELECT es_register_schema('Checked', '{"properties": {"word": {"maxLength": 3, "pattern": "^a", "enum": ["a"]}, "open": {"enum": ["a"]}, "list": {"items": {"properties": {"word": {"properties": {"a": {"type": "null"}}, "additionalProperties": false}}}}}}')},
	# functions that say what they were given
	q{CREATE FUNCTION say(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF event.type = 'Bad' THEN
			RAISE EXCEPTION 'not %', event.data USING DETAIL = event.data::text, HINT = event.data::text;
		END IF;
		RETURN state || event.data || jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1);
	END $$},
	q{CREATE FUNCTION said(event es_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF event.type = 'Bad' THEN
			RAISE EXCEPTION 'not %', event.data USING DETAIL = event.data::text;
		END IF;
	END $$},
	q{CREATE TABLE unique_words (word text)},
	q{CREATE FUNCTION renew(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cannot renew %', data; END $$},
	q{SELECT es_register_upcaster('Old', 1, 'renew(jsonb)')},
	q{SELECT es_register_reducer('say', '*', 'say(jsonb, es_event)')},
	q{CREATE FUNCTION say_no_room(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room for %', event.data USING ERRCODE = '53100'; END $$},
	q{SELECT es_register_reducer('say_no_room', 'Bad', 'say_no_room(jsonb, es_event)')},
	# copies what is protected; those for all types do not, as one of these has an upcaster that is a function
	q{SELECT es_register_reducer_ops('copy', 'T', '["merge", {"append": {"words": "$.data.word"}}]')},
	(map { qq{SELECT es_snapshot_every('$_', 2)} } qw(say copy merge last merge_patch)),
	(map { (qq{SELECT es_create_projection('inline_$_', '$_', 'inline', 'p')}, qq{SELECT es_create_projection('async_$_', '$_', 'async')}) } qw(say copy merge last merge_patch)),
	q{SELECT es_create_handler_projection('handler', 'said(es_event)')},
	q{SELECT es_subscribe('consumer')}, q{SELECT es_projection_view('async_merge', 'words')});

is((esfeed($node, '--feed', 'all', '--create', '--until-caught-up', '--to', "file:$dir/feed"))[0], 0, 'a feed');
sql(q{SELECT pg_create_logical_replication_slot('peek', 'eventstore')});
$node->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'standby', has_streaming => 1);
$standby->start;
my $subscriber = new_node('subscriber', streaming => 'logical', conf => "eventstore.master_key_command = 'cat $dir/key'\nwal_retrieve_retry_interval = 200ms\nlog_min_error_statement = panic\n");
$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
sql('CREATE PUBLICATION store FOR TABLES IN SCHEMA eventstore');
$subscriber->safe_psql('postgres', sprintf(q{CREATE SUBSCRIPTION store CONNECTION '%s' PUBLICATION store}, $node->connstr . ' dbname=postgres'));

# ---- every way in ----

my $data = qq{{"id": 1, "word": "$secret", "open": "$control", "list": [{"word": {"a": ["$secret"]}}]}};
my $long = qq{jsonb_build_object('id', 1, 'word', (SELECT string_agg('$secret' || md5(i::text), '') FROM generate_series(1, 2000) i), 'open', repeat('$control', 3000))};

sql($_) foreach (
	qq{SELECT es_append('p-1', 'T', '$data', event_id => '5ec7e700-0000-4000-8000-000000000001')},
	qq{SELECT es_append('p-1', 'T', '$data', event_id => '5ec7e700-0000-4000-8000-000000000001')},
	qq{SELECT es_append('p-1', 'T', $long)},
	qq{SELECT es_append_batch('p-1', '[{"type": "T", "data": $data}, {"type": "T", "data": $data}]')},
	qq{SELECT es_append_events('p-1', ARRAY[('T', '$data', NULL, NULL)]::es_new_event[])},
	qq{SELECT es_append_many('[{"stream": "p-2", "type": "T", "data": $data}, {"stream": "p-3", "type": "T", "data": $data}]')},
	qq{SELECT es_append_if('[{"stream": "p-2", "type": "T", "data": $data}]', 0, '{None}')},
	qq{INSERT INTO es_events (stream, type, data) VALUES ('p-2', 'T', '$data') RETURNING data},
	qq{INSERT INTO es_events (stream, type, data) SELECT 'p-' || i % 20, 'T', '$data' FROM generate_series(1, 500) i},
	qq{COPY es_events (stream, type, data) FROM stdin;\np-4\tT\t$data\np-4\tT\t$data\n\\.\n},
	qq{BEGIN; SELECT es_append('p-5', 'T', '$data'); PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'},
	qq{BEGIN; SELECT es_append('p-5', 'T', '$data'); ROLLBACK},
	qq{SELECT count(*) FROM es_read_all(0, NULL) e, es_events v WHERE v.position = e.position AND e.data = v.data},
	q{SELECT count(*) FROM unnest('{say,copy,merge,last,merge_patch}'::text[]) r, es_replay('p-1', r)},
	q{SELECT count(*) FROM es_replay_category('p', 'merge')}, q{SET work_mem = '64kB'; SELECT count(*) FROM es_replay_category('p', 'last')},
	q{SELECT es_snapshot('p-2', 'say'), es_snapshot('p-2', 'merge'), es_truncate_stream('p-2', 2)});

# ---- what fails, and says why ----

(my $same = $data) =~ s/"id": 1/"id": 2/;
may_fail(qq{SELECT es_append('p-1', 'T', '$data', expected_version => 999)}, 'VE001');
may_fail(qq{SELECT es_append('p-1', 'T', '$same', event_id => '5ec7e700-0000-4000-8000-000000000001')}, 'VE010');
may_fail(qq{SELECT es_append('p-1', 'Checked', '$data')}, 'VE005');
may_fail(qq{SELECT es_append('p-1', 'Checked', '{"id": 1, "list": [{"word": {"a": null, "$secret": 1}}]}')}, 'VE005');
may_fail(qq{SELECT es_append('p-1', 'Checked', '{"id": 1, "open": "a", "word": {"$secret": "$secret"}}')}, 'VE005');
may_fail(qq{SELECT es_append('p-1', 'T', '{"word": "$secret"}')}, '22023');
may_fail(qq{SELECT es_append_if('[{"stream": "p-2", "type": "T", "data": $data}]', 0, '{T}')}, 'VE011');
may_fail(qq{SELECT es_append('p-7', 'Bad', '$data')}, 'VE009');
sql($_) foreach map { qq{SELECT es_drop_projection('inline_$_')} } qw(say copy merge last merge_patch);
sql(qq{SELECT es_append('p-6', 'Old', '$data', type_version => 1), es_append('p-7', 'Bad', '$data')});
may_fail(q{SET eventstore.upcast = on; SELECT * FROM es_read('p-6')}, 'VE009');
may_fail(q{SELECT es_upcast(e::es_event) FROM es_events e WHERE stream = 'p-6'}, 'VE009');
may_fail(q{SELECT es_replay('p-7', 'say')}, 'VE009');
may_fail(q{SELECT es_replay('p-7', 'say_no_room')}, '53100');
may_fail(q{SELECT es_fold('say', e ORDER BY version) FROM es_events e WHERE stream = 'p-7'}, 'VE009');
my ($ret, $out, $err) = $node->psql('postgres', q{SELECT es_replay('p-7', 'say')});
like($err, qr/WARNING.*$secret/, 'the client is told what a handler says');
unlike($err, qr/ERROR.*$secret/, '... beside the error');
# parallel workers
sql(q{CREATE FUNCTION say_aside(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE AS $$
	BEGIN
		IF data ? 'last' THEN
			RAISE EXCEPTION 'not %', data USING DETAIL = data::text;
		END IF;
		RETURN state || data;
	END $$; SELECT es_register_reducer('aside', '*', 'say_aside(jsonb, jsonb)')});
sql(qq{SELECT es_protect('many', '{\$.data.word}', '\$.data.id'); SELECT count(es_append('many-' || i, 'T', CASE WHEN i > 25000 THEN '{"id": 1, "last": true, "word": "$secret"}' ELSE '{"id": 1, "word": "x"}' END::jsonb)) FROM generate_series(1, 25100) i});
may_fail(q{SELECT count(*) FROM es_replay_category('many', 'aside')}, 'VE009');
# an upcaster, and handlers in the worker
sql(q{SELECT es_append('q-1', 'Bad', '{"open": "CONTROL"}')} =~ s/CONTROL/$control/r);
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM es_projections WHERE projection IN ('handler', 'async_say') AND error IS NOT NULL}), 'projections have failed');
unlike(sql(q{SELECT string_agg(error, ' ') FROM es_projections}), $pattern{secret}, 'their errors do not tell');
sql(q{SET eventstore.upcast = on; SELECT count(*) FROM es_poll('consumer', 10000)});
unlike(sql(q{SELECT string_agg(reason, ' ') FROM eventstore.subscription_failures}), $pattern{secret}, 'nor do reasons');
is(sql(q{SELECT count(*) > 0 FROM eventstore.subscription_failures}), 't', '... which are there');
# the same beside, unprotected
sql(q{SELECT es_unsubscribe('consumer'), es_drop_projection('handler'), es_create_handler_projection('handler', 'said(es_event)', categories => '{q}')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM es_projections WHERE projection = 'handler' AND error IS NOT NULL}), 'one that is not protected fails');
like(sql(q{SELECT error FROM es_projections WHERE projection = 'handler'}), $pattern{control}, '... and tells');
# es_shred and what it begins anew
sql(q{SELECT es_skip_event('async_say', (SELECT error_position FROM es_projections WHERE projection = 'async_say'))});
sql(q{SELECT es_skip_event('handler', (SELECT error_position FROM es_projections WHERE projection = 'handler'))});

# ---- every way out ----

is((esfeed($node, '--feed', 'all', '--until-caught-up', '--to', "file:$dir/feed"))[0], 0, 'the feed');
append_to_file("$dir/peeked", sql(q{SELECT data FROM pg_logical_slot_get_changes('peek', NULL, NULL)}));
append_to_file("$dir/cloud", sql(q{SELECT * FROM es_feed_history(0, NULL)}));
$node->command_ok([ $node->installed_command('pg_dump'), '-f', "$dir/dump", $node->connstr('postgres') ], 'a dump');
$node->command_ok([ $node->installed_command('pg_dump'), '-Fc', '-Z0', '-f', "$dir/custom", $node->connstr('postgres') ], 'another one');
sql('SELECT es_settle()');
$node->wait_for_catchup($standby);
$subscriber->wait_for_subscription_sync($node, 'store', 'postgres');
is($standby->safe_psql('postgres', q{SELECT data->>'word' FROM es_read('p-1', 1, 1)}), $secret, 'a standby reads it plain');
sql('VACUUM'); sql('CHECKPOINT');
$standby->safe_psql('postgres', 'CHECKPOINT');
$subscriber->safe_psql('postgres', 'CHECKPOINT');
is(sql(qq{SELECT count(*) FROM es_events WHERE data->>'word' = '$secret'}) > 500 ? 1 : 0, 1, 'and all who may read');
foreach my $query (q{SELECT key, state FROM es_projection('async_merge')}, q{SELECT key, state FROM es_projection('async_merge_patch')},
	q{SELECT state FROM es_replay('p-1', 'merge')}, q{SELECT stream, data FROM es_read_category('p', 0, NULL)})
{
	is($subscriber->safe_psql('postgres', $query), sql($query), "a subscriber gives the same: $query");
}

shows_only_control('a feed into a file', "$dir/feed");
shows_only_control('the output plugin', "$dir/peeked");
shows_only_control('the history of feeds', "$dir/cloud");
shows_only_control('pg_dump', "$dir/dump");
shows_only_control('pg_dump, custom', "$dir/custom");
shows_only_control('heap', $node->data_dir . '/base');
shows_only_control('WAL', $node->data_dir . '/pg_wal');
shows_only_control('a standby', $standby->data_dir . '/base');
shows_only_control("a standby's WAL", $standby->data_dir . '/pg_wal');
shows_only_control('a subscriber', $subscriber->data_dir . '/base');
shows_only_control('the log', $node->logfile);
is(join(' ', has('secret', map { $_->data_dir } $node, $standby, $subscriber)), '', 'nowhere else either');
is(join(' ', has('secret', map { $_->logfile } $standby, $subscriber)), '', 'nor in their logs');
foreach my $table (qw(snapshots projection_states))
{
	like(sql("SELECT string_agg(t::text, ' ') FROM eventstore.$table t WHERE sealed IS NULL"), $pattern{control}, "$table: what is not protected is found");
	is(sql("SELECT count(*) > 0 FROM eventstore.$table WHERE sealed IS NOT NULL"), 't', "$table: some are encrypted as a whole");
	unlike(sql("SELECT string_agg(t::text, ' ') FROM eventstore.$table t"), $pattern{secret}, "$table: what is protected is not");
}
is(sql(qq{SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ '$secret'}), 0, 'no worker shows it');
like(sql(q{SELECT data->>'word' FROM es_read('p-1', 1, 1)}), $pattern{secret}, 'the search would find it');

# ---- an old backup ----

$node->backup('before');
sql(q{SELECT es_shred('1')});
unlink "$dir/key";
append_to_file("$dir/key", $keys[1]);
sql("SELECT es_rotate_master_key('cat $dir/old_key')");
is(sql(q{SELECT count(*) FROM es_events WHERE data->>'word' IS NOT NULL}), 0, 'shredded');
foreach ([ 'new', '55000' ], [ 'old', '' ])
{
	my ($which, $state) = @$_;
	my $old = PostgreSQL::Test::Cluster->new("restored_$which");

	$old->init_from_backup($node, 'before');
	$old->append_conf('postgresql.conf', "eventstore.master_key_command = 'cat $dir/${which}_key'\n");
	$old->start;
	is(sqlstates($old, 'postgres', q{SELECT * FROM es_read('p-1', 1, 1)}), $state, "a backup of before, with the $which key");
	is($old->safe_psql('postgres', q{SELECT data->>'word' FROM es_read('p-1', 1, 1)}), $secret, '... gives it away') if $state eq '';
	$old->stop('immediate');
}

done_testing();
