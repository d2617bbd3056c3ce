# A router and three shards: the calls for a stream go where it is and answer as a store does, errors included, all
# shards are read with a vector of positions, and slots move between shards while they are written and read, with
# nothing lost, nothing twice, and each stream in its order.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreShards;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = router_missing();
plan skip_all => $missing if $missing;

my ($router, @shards) = start_shards(3, 2);

sub ask { return $router->safe_psql('router', $_[0]) }

# failure(sql): SQLSTATE, message, detail and hint of what fails, as a client of the router sees them.
sub failure
{
	my ($sql) = @_;
	my ($ret, $out, $err) = $router->psql('router', "\\set VERBOSITY verbose\n$sql", on_error_stop => 0);

	return join(' | ', $err =~ /^(?:psql:\S+ )?(?:ERROR|DETAIL|HINT):\s+(.*)$/mg);
}

# on_shard(number, sql)
sub on_shard { return $shards[ $_[0] ]->safe_psql('store', $_[1]) }

# ---- one stream ----
is(ask(q{SELECT es_append('order-1', 'Opened', '{"total": 0}'), es_append('order-1', 'Paid', '{"total": 7}', '{"by": "me"}', 1, '00000000-0000-4000-8000-000000000001'), es_stream_version('order-1'), es_stream_version('order-2')}),
	'1|2|2|0', 'a stream is appended to, through the router');
is(ask(q{SELECT es_append_batch('order-2', '[{"type": "A"}, {"type": "B", "data": null}]', 0), es_append_json('order-2', '[{"type": "C"}]', 2)}), '2|3', 'batches, too');
is(ask(q{SELECT string_agg(concat_ws(' ', stream, version, type, data, metadata), ', ') FROM es_read('order-1')}), 'order-1 1 Opened {"total": 0} {}, order-1 2 Paid {"total": 7} {"by": "me"}', 'and read');
is(ask(q{SELECT string_agg(version::text, ' ') FROM es_read('order-2', max_count => 2, backwards => true)}), '3 2', 'backwards, with a limit');
is(ask(q{SELECT version, type FROM es_find_event('order-1', '00000000-0000-4000-8000-000000000001')}), '2|Paid', 'an event is found by its id');
is(ask(q{SELECT es_append('order-1', 'Paid', '{"total": 7}', '{"by": "me"}', 1, '00000000-0000-4000-8000-000000000001'), es_stream_version('order-1')}), '2|2', 'a retry stores nothing');
my $home = ask(q{SELECT es_shard('order-1')});
is(on_shard($home, q{SELECT count(*) FROM es_read('order-1')}), '2', 'the events are at the shard that es_shard names');
is(on_shard(1 - $home, q{SELECT count(*) FROM es_read('order-1')}), '0', 'and at no other');
is(ask(q{SELECT es_position('order-1', 2)}), on_shard($home, q{SELECT es_position('order-1', 2)}), 'a position is the shard\'s own');
is(ask(q{SELECT shard FROM es_on_shards($$SELECT es_create_reducer('order')$$); SELECT shard FROM es_on_shards($$SELECT es_register_reducer_ops('order', '*', '{"set": {"total": "$.data.total"}}')$$)}), "0\n1\n2\n0\n1\n2", 'declarations go to all shards');
is(ask(q{SELECT version, state FROM es_replay('order-1')}), '2|{"total": 7}', 'a stream is replayed');
is(ask(q{SELECT string_agg(version || ' ' || (state ->> 'total'), ', ') FROM es_replay_steps('order-1')}), '1 0, 2 7', 'step by step');
is(ask(q{BEGIN; SELECT es_append('order-3', 'A'); ROLLBACK; SELECT es_stream_version('order-3')}), "1\n1", 'what the router has returned is done, whatever becomes of the caller\'s transaction');

is(ask(q{SELECT es_append_events('order-4', ARRAY[('A', to_jsonb('"{,}\\'::text), NULL, '00000000-0000-4000-8000-000000000004'), ('B', 'null', '{"m": 1}', NULL)]::es_new_event[], 0); SELECT string_agg(concat_ws(' ', type, data #>> '{}', metadata), ', ') FROM es_read('order-4')}),
	q{2} . "\n" . q{A "{,}\\ {}, B {"m": 1}}, 'events come as an array, too, whatever is in them');
is(ask(q{SELECT outcome, version FROM es_try_append('order-4', 'C', expected_version => 1); SELECT * FROM es_try_append('order-4', 'C', expected_version => 2)}), "conflict|2\nappended|3", 'a conflict can be an answer in place of an error');
is(ask(q{SELECT es_reveal('order-4', 'A', '{"a": 1}')}), '{"a": 1}', 'plain data is given');

# ---- a router has all that a store has, or says why not ----
my $signatures = q{SELECT p.proname || '(' || regexp_replace(replace(pg_get_function_arguments(p.oid), '::regtype', '::text'), '\\y(regprocedure|regtype|regrole)\\y', 'text', 'g') || ')'
	|| CASE WHEN p.proname IN ('es_append_many', 'es_projection') THEN '' ELSE coalesce(' ' || pg_get_function_result(p.oid), '') END FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'es\\_%'};
my $columns = q{SELECT c.relname || '(' || string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum) || ')' FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND c.relname LIKE 'es\\_%' GROUP BY c.relname};
foreach my $case ([ functions => $signatures ], [ views => $columns ])
{
	my ($what, $sql) = @$case;
	my %there = map { $_ => 1 } rows($router, 'router', $sql);
	my @wanted = rows($shards[0], 'store', $sql);

	cmp_ok(scalar(@wanted), '>', 15, "a store has $what");
	is(join("\n", grep { !$there{$_} } sort @wanted), '', "a router has $what of the same names, arguments and results");
}
my @refused = ask(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosrc LIKE '%scaleout.refuse(%'});
cmp_ok($refused[0], '>', 60, 'most of those that are about a log are refused');
foreach my $call (q{SELECT es_append_if('[{"stream": "order-1", "type": "A"}]', 0)}, q{SELECT type FROM es_events WHERE stream = 'order-1'}, q{INSERT INTO es_events (stream, type) VALUES ('order-1', 'A')},
	q{SELECT * FROM es_read_all()}, q{SELECT es_create_reducer('x')}, q{SELECT es_register_reducer('x', '*', 'nobody(jsonb, jsonb)')}, q{CALL es_wait_for(1, '1s')}, q{SELECT stream FROM es_poll('x')},
	q{SELECT es_fold('count', e ORDER BY version) FROM es_read('order-1') e}, q{SELECT es_last_position()}, q{SELECT * FROM es_streams})
{
	like(failure($call), qr/^0A000: .* is not possible through a router \| .*\. \| .*\.$/, "refused, with what to do: $call");
}
like(failure('CREATE EXTENSION eventstore'), qr/^42710: /, 'nor can a store be made there by mistake');

# ---- errors are those of the store ----
my $at_store = do { my ($ret, $out, $err) = $shards[$home]->psql('store', "\\set VERBOSITY verbose\nSELECT es_append('order-1', 'A', expected_version => 1)"); join(' | ', $err =~ /^(?:psql:\S+ )?(?:ERROR|DETAIL|HINT):\s+(.*)$/mg) };
like($at_store, qr/^VE001: .* \| .* \| ./, 'a version that is not there is VE001 at the store');
is(failure(q{SELECT es_append('order-1', 'A', expected_version => 1)}), $at_store, 'and through the router word for word');
like(failure(q{SELECT es_append('order-1', 'A', '[2]', event_id => '00000000-0000-4000-8000-000000000001')}), qr/^VE010: /, 'so is an id that has other content');
like(failure(q{SELECT es_append('order-1', '$x')}), qr/^22023: /, 'and a name that is not allowed');
like(failure(q{SELECT es_append(NULL, 'A')}), qr/^22004: /, 'a stream must not be NULL');
like(failure(q{SELECT * FROM es_replay('none-1', 'nobody')}), qr/^VE004: /, 'reads tell theirs, too');
is(ask(q{SELECT es_append('gone-1', 'A'), es_delete_stream('gone-1')}), '1|', 'a stream is deleted');
like(failure(q{SELECT es_append('gone-1', 'A')}), qr/^VE003: /, 'and stays so');

foreach my $call (q{SELECT es_append_batch('order-1', '{"type": "A"}')}, q{SELECT es_append_batch('order-1', NULL)}, q{SELECT es_append_events('order-1', ARRAY[NULL]::es_new_event[])}, q{SELECT es_read(NULL)}, q{SELECT es_stream_version('')},
	q{SELECT es_append('order-1', 'A', NULL)}, q{SELECT es_try_append('gone-1', 'A')}, q{SELECT es_append_many('{}')}, q{SELECT es_append_many('[1]')}, q{SELECT es_append_many(NULL)}, q{SELECT es_truncate_stream('order-1', -1)}, q{SELECT es_wait_projection('none', 'order-1', 1, '1s')})
{
	my $where = $call =~ /gone-1/ ? ask(q{SELECT es_shard('gone-1')}) : $home;
	my ($ret, $out, $err) = $shards[$where]->psql('store', "\\set VERBOSITY verbose\n$call", on_error_stop => 0);

	is(failure($call), join(' | ', $err =~ /^(?:psql:\S+ )?(?:ERROR|DETAIL|HINT):\s+(.*)$/mg), "as a store words it: $call");
}

# ---- who may ----
$_->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE nobody LOGIN') foreach $router, @shards[ 0, 1 ];
on_shard($_, q{SELECT es_grant('app', 'read', 'order')}) foreach 0, 1;
ask(q{CREATE USER MAPPING FOR app SERVER eventstore OPTIONS (user 'app'); GRANT USAGE ON FOREIGN SERVER eventstore TO app});
is(ask(q{SET ROLE app; SELECT count(*) FROM es_read('order-1')}), '2', 'a role that is mapped reads what its role at the shard may');
like(failure(q{SET ROLE app; SELECT es_append('order-1', 'A')}), qr/^42501: /, 'and does no more');
like(failure(q{SET ROLE nobody; SELECT es_append('order-1', 'A')}), qr/^42501: /, 'who may not use the foreign server does nothing');
foreach my $call (q{SELECT es_on_shards('SELECT 1')}, q{SELECT es_learn_slots()}, q{SELECT es_start_shards(1)}, q{CALL es_move_slots('{1}', 1)}, q{CALL es_cancel_move('{1}', 1)}, q{SELECT scaleout.fence(0, '{1}', 1)}, q{SELECT scaleout.take_fence_down(0, '{1}', 1, 1)})
{
	like(failure("SET ROLE app; $call"), qr/^42501: /, "for who administers only: $call");
}
on_shard(0, 'CREATE SCHEMA evil; CREATE FUNCTION evil.es_append(int, int, text, text, jsonb, jsonb, bigint, uuid, int) RETURNS scaleout.outcome LANGUAGE sql AS $$SELECT NULL::scaleout.outcome$$');
is(ask(q{CREATE SCHEMA evil; CREATE FUNCTION evil.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'; SET search_path = evil, pg_catalog; SELECT public.es_stream_version('order-1')}), '2', 'the search_path changes nothing');
is(ask(q{SELECT es_append(E'odd-"\\\\''%s$1{}ü€', 'A'), es_stream_version(E'odd-"\\\\''%s$1{}ü€')}), '1|1', 'names may have any character');
is(ask(q{PREPARE append(text) AS SELECT es_append($1, 'A'); EXECUTE append('prepared-1'); EXECUTE append('prepared-1'); EXECUTE append('prepared-2')}), "1\n2\n1", 'calls can be prepared');

# ---- many streams ----
is(ask(q{SELECT string_agg(concat_ws(' ', stream, version), ', ') FROM es_append_many('[{"stream": "order-{7}", "type": "A"}, {"stream": "payment-{7}", "type": "B"}]')}),
	'order-{7} 1, payment-{7} 1', 'streams that share what is in braces are appended to in one call');
is(ask(q{SELECT count(DISTINCT es_shard(s || '-{' || n || '}')) FROM generate_series(1, 50) n, unnest('{a,b,c}'::text[]) s GROUP BY n ORDER BY 1 DESC LIMIT 1}), '1', 'they are at one shard');
my @apart = map { ask("SELECT 'apart-' || n FROM generate_series(1, 100) n WHERE es_shard('apart-' || n) = $_ LIMIT 1") } 0, 1;
like(failure(qq{SELECT * FROM es_append_many('[{"stream": "$apart[0]", "type": "A"}, {"stream": "$apart[1]", "type": "A"}]')}), qr/^0A000: .* must be at one shard \| They are at shards 0, 1\. \| /, 'over two shards it is refused');
is(ask("SELECT es_stream_version('$apart[0]') + es_stream_version('$apart[1]')"), '0', 'and nothing is stored');

# ---- a snapshot from before a lock would see slots where they were ----
is(sqlstates($shards[0], 'store', "SET default_transaction_isolation = 'repeatable read'; SELECT scaleout.es_append(0, scaleout.slot('$apart[0]'), '$apart[0]', 'A', '{}', '{}', NULL, NULL, NULL); SELECT count(*) FROM scaleout.es_read_portion('{}', 1, NULL, NULL, NULL)", on_error_stop => 0),
	'25000 25000', 'a shard wants READ COMMITTED');

# ---- a miswired router ----
on_shard(0, 'ALTER FUNCTION scaleout.shard() RENAME TO shard_was');
on_shard(0, "CREATE FUNCTION scaleout.shard() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 5'");
like(failure("SELECT es_append('$apart[0]', 'A')"), qr/^SC003: shard 0 was asked for, but this is shard 5/, 'a shard that is reached under the number of another refuses');
on_shard(0, 'DROP FUNCTION scaleout.shard(); ALTER FUNCTION scaleout.shard_was() RENAME TO shard');

# ---- all shards, by a vector ----
ask(q{SELECT count(es_append('many-' || n % 40, 'M', jsonb_build_object('n', n))) FROM generate_series(1, 200) n});
my $all = ask(q{SELECT count(stream), count(DISTINCT stream || ' ' || version), count(DISTINCT shard) FROM es_read_shards(max_count => NULL, categories => '{many}')});
is($all, '200|200|2', 'all shards are read in one call');

# read_on(vector, max_count): a step of a follower: (vector, "stream version" of each event)
sub read_on
{
	my ($vector, $max_count) = @_;
	my @rows = split /\n/, ask("SELECT coalesce(stream || ' ' || version, ''), vector FROM es_read_shards('$vector', $max_count)");
	my ($last) = (pop @rows) =~ /\|(.*)$/;

	return ($last, map { (split /\|/)[0] } @rows);
}

# follow(vector, max_count): steps until nothing comes any more
sub follow
{
	my ($vector, $max_count) = @_;
	my @all;

	while (1)
	{
		my ($next, @events) = read_on($vector, $max_count);

		push @all, @events;
		return ($vector, @all) if $next eq $vector;
		$vector = $next;
	}
}

# faults_of(events): those that are there twice, or not in their stream's order
sub faults_of
{
	my %version;

	return grep { my ($stream, $version) = split / /; my $fault = $version != ($version{$stream} // 0) + 1; $version{$stream} = $version; $fault } @_;
}

my ($vector, @seen) = follow('{}', 7);
is(scalar(@seen), on_shard(0, 'SELECT count(*) FROM es_events WHERE stream <> $$scaleout-moves$$') + on_shard(1, 'SELECT count(*) FROM es_events WHERE stream <> $$scaleout-moves$$'), 'portions that follow on each other have all events');
is(join(' ', faults_of(@seen)), '', 'each once, in its stream\'s order');
my ($same, @nothing) = read_on($vector, 7);
is("$same @nothing", "$vector ", 'at the end there is nothing, and the vector stays');
is(sqlstates($router, 'router', "SELECT * FROM es_read_shards('$vector', $_)", on_error_stop => 0), '22023', "there, too, what no read takes is refused: $_") foreach '-1', q{1, '{many-1}'}, q{1, NULL, '{""}'};

# ---- moves ----
# a second router, that hears of moves only when it meets them
EventstoreShards::make_router($router, 'other', @shards);
is($router->safe_psql('other', 'SELECT es_learn_slots()'), '16384', 'a second router asks the shards for the map');

my $script = PostgreSQL::Test::Utils::tempdir() . '/load.sql';
append_to_file($script, <<'END');
\set n random(1, 60)
SELECT es_append('load-' || :n, 'L', jsonb_build_object('client', :client_id::int, 'n', :n::int));
END
# the shards' readers have events in their newest form
ask(q{SELECT shard FROM es_on_shards($$SELECT es_register_upcaster_ops('M', 1, '{"set": {"renewed": "$.data.n"}}')$$)});
$_->safe_psql('postgres', 'ALTER DATABASE store SET eventstore.upcast = on') foreach @shards;
is(on_shard($_, q{SELECT DISTINCT type_version, data ? 'renewed' FROM es_read_all(0, NULL, types => '{M}')}), '2|t', "shard $_ has an upcaster, and renews what it reads") foreach 0, 1;
my $before = ask('SELECT count(*) FROM scaleout.slots WHERE shard = 2');
is($before, '0', 'the third shard has no slots');
my @loads = map { start_process([ $router->installed_command('pgbench'), '-n', '-c', 3, '-t', 400, '-M', 'prepared', '-f', $script, $router->connstr($_) ], "$script.$_.out", "$script.$_.err") } qw(router other);
wait_until('the load', sub { ask(q{SELECT count(stream) FROM es_read_shards(max_count => NULL, categories => '{load}')}) > 100 });
my @slots = map { slots_of($router, $_, 2700) } 0, 1;
my ($followed, @live) = ('{}');
# followers go on beside the moves, which come in several calls
foreach my $slots (@slots)
{
	my $move = start_script($router, 'router', "\\set VERBOSITY sqlstate\nCALL es_move_slots($slots, 2);\n");

	do { my @got; ($followed, @got) = read_on($followed, 50); push @live, @got; } while $move->{handle}->pumpable;
	is(join('', finish_script($move)), '', 'slots are moved while their streams are appended to');
}
$_->finish foreach @loads;
foreach my $name (qw(router other))
{
	is(slurp_file("$script.$name.err"), '', "through $name no append failed");
	like(slurp_file("$script.$name.out"), qr{actually processed: 1200/1200}, 'and each was done');
}
is(ask('SELECT string_agg(n::text, $$ $$ ORDER BY shard) FROM (SELECT shard, count(*) AS n FROM scaleout.slots GROUP BY 1) s'), '5492 5492 5400', 'the slots are distributed anew');
is(ask(q{SELECT sum(es_stream_version('load-' || n)) FROM generate_series(1, 60) n}), '2400', 'all that was acknowledged is there');
is($router->safe_psql('other', q{SELECT sum(es_stream_version('load-' || n)) FROM generate_series(1, 60) n}), '2400', 'the other router finds it, too');
is(ask(q{SELECT count(*) FROM generate_series(1, 60) n, es_read('load-' || n) e}), '2400', 'and it can be read');
cmp_ok(ask(q{SELECT count(*) FROM generate_series(1, 60) n WHERE es_shard('load-' || n) = 2}), '>', 0, 'of it something at the third shard');

# what a stream has at its new shard waits for what it had at the old one
my $cut = on_shard(2, 'SELECT max(cut) FROM scaleout.takings');
my @settled = map { on_shard($_, 'SELECT es_settled_position()') } 0, 1;
my $after = ask(q{SELECT es_append('after-' || n, 'A') FROM generate_series(1, 100) n WHERE es_shard('after-' || n) = 2 LIMIT 1});
is($after, '1', 'a stream of the third shard goes on');
is(ask("SELECT count(stream), max(vector[3]) FROM es_read_shards('{0,0,$cut}', 1) WHERE shard = 2 OR shard IS NULL"), "0|$cut", 'a reader that has passed the copies waits there for the shards that they came from');
cmp_ok(ask("SELECT count(*) FROM es_read_shards('{$settled[0],$settled[1],$cut}') WHERE shard = 2"), '>', 0, 'and then goes on');

my @rest;
($followed, @rest) = follow($followed, 50);
push @live, @rest;
is(join(' ', faults_of(@live)), '', 'who followed all shards meanwhile had each event once, in its stream\'s order');
is(scalar(grep { /^load-/ } @live), '2400', 'and all');
my ($end, @late) = follow('{}', 50);
is(join(' ', faults_of(@late)), '', 'so has who follows from the beginning afterwards');
is(scalar(@late), scalar(@live), 'as many');

# what came to the third shard is as it was
foreach my $shard (0, 1)
{
	my $events = q{SELECT string_agg(concat_ws(' ', stream, version, type, type_version, data, metadata, event_id, recorded_at AT TIME ZONE 'UTC'), E'\n' ORDER BY stream, version) FROM es_events WHERE stream <> 'scaleout-moves' AND type <> '$stream-deleted'};
	my $copied = on_shard(2, "$events AND scaleout.is_copy(stream, position) AND scaleout.slot(stream) = ANY (SELECT unnest(slots) FROM scaleout.takings WHERE source = $shard)");
	my $given = on_shard($shard, "$events AND scaleout.slot(stream) = ANY (SELECT slot FROM scaleout.slots WHERE shard = 2)");

	is($copied, $given, "what came from shard $shard has its versions, ids and times");
	is(gaps($shards[$shard], 'store'), '', 'streams are whole there');
}
is(gaps($shards[2], 'store'), '', 'and at the third shard');
is(on_shard(2, q{SELECT DISTINCT type_version, data ? 'renewed' FROM es_events WHERE type = 'M'}), '1|f', 'also where the shards renew events as they are read');
$_->safe_psql('postgres', 'ALTER DATABASE store RESET eventstore.upcast') foreach @shards;

# ---- a shard refuses what is no longer there; a move that was left goes on ----
my $moved = ask(q{SELECT 'load-' || n FROM generate_series(1, 60) n WHERE es_shard('load-' || n) = 2 AND scaleout.slot('load-' || n) < 2700 LIMIT 1});
my $slot = ask("SELECT scaleout.slot('$moved')");
is(on_shard(0, "SELECT * FROM scaleout.es_append(0, $slot, '$moved', 'L', '{}', '{}', NULL, NULL, NULL)"), '||2', 'who appends at the shard that a stream has left is told where it went');
is(sqlstates($shards[0], 'store', "SELECT * FROM scaleout.es_read(0, $slot, '$moved', NULL, NULL, false)"), 'SC001', 'who reads there, too');
my $version = ask("SELECT es_stream_version('$moved')");
# back to the first shard; the router is gone after the fence
ask("SELECT (scaleout.begin_taking(0, 2, ARRAY[$slot])).move, scaleout.fence(2, ARRAY[$slot], 0)");
like(failure("SET scaleout.patience = '50ms'; SELECT es_append('$moved', 'L')"), qr/^SC001: slot $slot has been on its way/, 'a slot that stays on its way is told, after some time');
my $waiter = start_script($router, 'other', "SELECT es_append('$moved', 'L');\n");
ok($router->poll_query_until('other', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT es_append%' AND wait_event = 'PgSleep'}), 'who appends waits for it');
ask("CALL es_move_slots(ARRAY[$slot], 0)");
is(join('', finish_script($waiter)), $version + 1 . "\n", 'the move goes on where it was left, and then the append does');
is(ask("SELECT es_shard('$moved'), es_append('$moved', 'L')"), '0|' . ($version + 2), 'slots come back to where they were');
ask("CALL es_move_slots(ARRAY[$slot], 0)");
my ($at, @more) = follow($end, 50);
is(join(', ', @more), "$moved " . ($version + 1) . ", $moved " . ($version + 2), 'and a follower has what came since, once');
is(join(' ', faults_of((follow('{}', 3))[ 1 .. @late + 2 ])), '', 'as has one from the beginning');

# ---- a map that is wrong ----
ask("SELECT scaleout.learn($slot, 1)");
is(ask("SELECT es_shard('$moved')") . ask("SELECT es_stream_version('$moved')"), '1' . ($version + 2), 'a shard that never had a slot is asked, and then all: it is found');
ask("SELECT es_append('$moved', 'L')");
is(ask("SELECT es_shard('$moved')"), '0', 'and noted');

# ---- many streams, through a router that has not heard of the moves ----
my $joined = ask(q{SELECT array_agg('join-' || n) FROM generate_series(1, 500) n WHERE es_shard('join-' || n) = 2});
my @join = map { $router->safe_psql('other', "SELECT s FROM unnest('$joined'::text[]) s WHERE es_shard(s) = $_ LIMIT 1") } 0, 1;
is(scalar(grep { /^join-\d+$/ } @join), 2, 'it takes two streams for apart that are at one shard by now');
is($router->safe_psql('other', qq{SELECT string_agg(concat_ws(' ', stream, version), ', ' ORDER BY stream = '$join[1]') FROM es_append_many('[{"stream": "$join[0]", "type": "A"}, {"stream": "$join[1]", "type": "B"}]')}),
	"$join[0] 1, $join[1] 1", 'it asks, and appends to both');
is($router->safe_psql('other', "SELECT es_shard('$join[0]'), es_shard('$join[1]')"), '2|2', 'and knows then');
my @still = map { ask("SELECT 'still-' || n FROM generate_series(1, 100) n WHERE es_shard('still-' || n) = $_ LIMIT 1") } 0, 2;
like(($router->psql('other', qq{\\set VERBOSITY verbose\nSELECT * FROM es_append_many('[{"stream": "$still[0]", "type": "A"}, {"stream": "$still[1]", "type": "A"}]')}))[2],
	qr/0A000: .* must be at one shard\s+DETAIL:\s+They are at shards 0, 2\./, 'what the shards say to be apart is refused');

# ---- projections ----
ask(q{SELECT count(*) FROM es_on_shards($$SELECT es_create_projection('totals', 'count', category => 'load')$$)});
ask(q{SELECT count(*) FROM es_on_shards($$SELECT es_run_projection('totals')$$)});
is(ask(q{SELECT count(*), count(DISTINCT key), sum(version) FROM es_projection('totals')}), '60|60|2403', 'a projection by streams has each key from the shard that the stream is at');

# ---- what cannot move ----
ask(q{SELECT es_append_batch('short-1', '[{"type": "A"}, {"type": "B"}]'), es_truncate_stream('short-1', 2)});
like(failure(q{CALL es_move_slots(ARRAY[scaleout.slot('short-1')], CASE es_shard('short-1') WHEN 0 THEN 1 ELSE 0 END)}), qr/^0A000: stream "short-1" has been truncated/, 'a truncated stream stays where it is');
ask(q{SELECT es_append_batch('away-1', '[{"type": "A"}, {"type": "B"}]'), es_delete_stream('away-1')});
my $away = ask(q{SELECT es_shard('away-1')});
on_shard($away, 'SELECT count(*) FROM es_scavenge()');
is(on_shard($away, q{SELECT count(*) FROM es_events WHERE stream = 'away-1' AND version = 1}), '0', 'a deleted stream is removed');
like(failure(q{CALL es_move_slots(ARRAY[scaleout.slot('away-1')], CASE es_shard('away-1') WHEN 0 THEN 1 ELSE 0 END)}), qr/^0A000: stream "away-1" /, 'it stays where it was, too');
like(failure('CALL es_move_slots(ARRAY[20000], 1)'), qr/^22023: /, 'there are 16384 slots');
like(failure('CALL es_move_slots(ARRAY[1], 7)'), qr/^22023: /, 'and three shards');
like(failure('SELECT es_start_shards(3)'), qr/^55000: /, 'shards that have slots are not started again');

# ---- a shard that is away ----
my $lost = ask("SELECT 'lost-' || n FROM generate_series(1, 100) n WHERE es_shard('lost-' || n) = 1 LIMIT 1");
$shards[1]->stop('immediate');
like(failure("SELECT es_append('$lost', 'A')"), qr/^SC002: shard 1 cannot be reached/, 'a shard that is away is told, with its number');
like(failure('SELECT * FROM es_read_shards()'), qr/^SC002: a shard cannot be reached/, 'who reads all of them is told, too');
is(ask("SELECT es_append('$moved', 'L')"), $version + 4, 'others are not concerned');
$shards[1]->start;
is(ask("SELECT es_append('$lost', 'A')"), '1', 'once it is back the router goes on');

done_testing();
