# What would lose events, or have a stream at two shards, is refused or comes to its end: calls with a wrong slot, routers
# of another encoding or with shards that are not theirs, movers without rights, moves in a transaction block, onto what
# is left of an earlier stay, or together with slots that have gone elsewhere since.  And shards are renewed in use.
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

# what is deleted and removed does not move: no worker is to do that meanwhile
my ($router, @shards) = start_shards(3, 2, "eventstore.scavenge_rate = 0\n");

sub ask { return $router->safe_psql('router', $_[0]) }
sub on_shard { return $shards[ $_[0] ]->safe_psql('store', $_[1]) }

# failure(sql, database): SQLSTATE, message, detail and hint of what fails, as a client of the router sees them.
sub failure
{
	my ($sql, $database) = @_;
	my ($ret, $out, $err) = $router->psql($database // 'router', "\\set VERBOSITY verbose\n$sql", on_error_stop => 0);

	return join(' | ', $err =~ /^(?:psql:\S+ )?(?:ERROR|DETAIL|HINT):\s+(.*)$/mg);
}

# stream_at(shard, prefix): a stream that hashes there, and its slot
sub stream_at { return split /\|/, ask("SELECT s, scaleout.slot(s) FROM (SELECT '$_[1]-' || n AS s FROM generate_series(1, 200) n) x WHERE es_shard(s) = $_[0] LIMIT 1") }

# owners(slot): the shards that have it
sub owners { return ask("SELECT coalesce(string_agg(shard::text, ' '), '') FROM es_on_shards('SELECT 1 FROM scaleout.slots WHERE slot = $_[0] AND shard = scaleout.shard()') WHERE result IS NOT NULL") }

# everywhere(stream): its versions at all shards
sub everywhere { return join ' ', map { on_shard($_, "SELECT es_stream_version('$_[0]')") } 0 .. $#shards }

# ---- a slot that is not the stream's ----
my ($own, $slot) = stream_at(0, 'own');
my ($far, $wrong) = stream_at(1, 'far');
foreach my $call ("SELECT scaleout.es_append(1, $wrong, '$own', 'A', '{}', '{}', NULL, NULL, NULL)", qq{SELECT scaleout.es_append_batch(1, $wrong, '$own', '[{"type": "A"}]', NULL)}, "SELECT scaleout.es_delete_stream(1, $wrong, '$own', NULL)",
	qq{SELECT * FROM scaleout.es_append_many(1, '{}', '[{"stream": "$own", "type": "A"}]')}, qq{SELECT * FROM scaleout.es_append_many(1, '{$wrong}', '[{"stream": "$far", "type": "A"}, {"stream": "$own", "type": "A"}]')},
	"SELECT * FROM scaleout.es_read(1, $wrong, '$own', NULL, NULL, false)", "SELECT scaleout.es_wait_projection(1, $wrong, 'none', '$own', 1, '1s')")
{
	is(sqlstates($router, 'router', $call), 'SC003', "a shard looks at the slot that it is told: $call");
}
is(everywhere($own) . ' ' . everywhere($far), '0 0 0 0 0 0', 'and nothing is stored');
is(ask(qq{SELECT es_append('$own', 'A'), (SELECT version FROM es_append_many('[{"stream": "$own", "type": "A"}]'))}), '1|2', 'with its own slot it goes on');

SKIP:
{
	skip 'the shards are not of UTF8', 4 if on_shard(0, 'SHOW server_encoding') ne 'UTF8';
	$router->safe_psql('postgres', q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
	EventstoreShards::make_router($router, 'latin', @shards);
	$router->safe_psql('latin', 'SELECT es_learn_slots()');
	is($router->safe_psql('latin', q{SELECT es_append('plain-1', 'A')}), '1', 'a router of another encoding');
	like(failure(q{SELECT es_append(E'\u00e4-1', 'A')}, 'latin'), qr/^SC003: .* \| The encoding of the router's database/, 'would have some streams at other slots');
	is(ask(q{SELECT es_append(E'\u00e4-1', 'A')}), '1', 'which one of the shards\' has where they are');
}

# ---- a stream that is the shards' own ----
foreach my $call (q{es_append('scaleout-moves', 'A')}, q{es_append_many('[{"stream": "scaleout-moves", "type": "A"}]')}, q{es_delete_stream('scaleout-moves')}, q{es_read('scaleout-moves')})
{
	like(failure("SELECT * FROM $call"), qr/^22023: stream "scaleout-moves" is for/, "not for users: $call");
}

# ---- what cannot be undone ----
like(failure("BEGIN READ ONLY; SELECT $_"), qr/^25006: cannot execute (\w+)\(\) in a read-only transaction/, "READ ONLY: $_")
  foreach "es_append('$own', 'A')", qq{es_append_many('[{"stream": "$own", "type": "A"}]')}, "es_try_append('$own', 'A')", "es_truncate_stream('$own', 2)", "es_on_shards('SELECT es_append(''$own'', ''A'')')";
is(ask("BEGIN READ ONLY; SELECT es_stream_version('$own')"), '2', 'and reads go on');
foreach my $call ("es_move_slots(ARRAY[$slot], 1)", "es_cancel_move(ARRAY[$slot], 1)")
{
	like(failure("BEGIN; CALL $call; COMMIT"), qr/^2D000: /, "not in a transaction block: $call");
}
is(owners($slot) . ' ' . join(' ', map { on_shard($_, 'SELECT count(*) FROM scaleout.takings') } 0 .. 2), '0 0 0 0', 'and no slot is on its way then');

# ---- sessions with other settings, statements without rows ----
is(ask(q{SET standard_conforming_strings = off; SET escape_string_warning = off; SELECT scaleout.slot('order-{7}') = scaleout.slot('payment-{7}'), scaleout.shards(), es_stream_version('order-{7}')}), 't|3|0', 'standard_conforming_strings changes nothing');
like(failure("SET standard_conforming_strings = off; SELECT es_append('$own', 'A', expected_version => 7)"), qr/^VE001: (?!.*REMOTE)/, 'nor in errors');
is(ask(q{SELECT shard, result IS NULL FROM es_on_shards('CREATE FUNCTION nothing() RETURNS int LANGUAGE sql AS ''SELECT 1''')}) . ask(q{SELECT string_agg(result, '') FROM es_on_shards('SELECT nothing()')}), "0|t\n1|t\n2|t111", 'what gives no rows can be said to all shards');
is(sqlstates($router, 'router', q{SELECT * FROM es_on_shards('CREATE NOTHING')}), '42601', 'and what is wrong is told');
ask(q{SELECT * FROM es_on_shards('CREATE SEQUENCE runs')});
my $runs = 0;
foreach my $case ([ 'a statement without rows', q{DO $x$BEGIN PERFORM nextval('runs'); END$x$} ],
	[ 'one behind settings', q{SET LOCAL search_path = public, "a;b"; set local "my"."own" = 'a;b' ; DO $x$BEGIN PERFORM nextval('runs'); END$x$} ],
	[ 'one with rows, behind a setting', q{SET LOCAL search_path = public; SELECT nextval('runs')}, 3 ])
{
	my ($name, $statement, $told) = @$case;

	is(ask("SELECT string_agg(coalesce(result, 'none'), ' ') FROM es_on_shards(\$sql\$$statement\$sql\$)"), join(' ', ($told // 'none') x 3), "$name is run");
	is(join(' ', map { on_shard($_, 'SELECT last_value FROM runs') } 0 .. 2), join(' ', (++$runs) x 3), 'and once');
}
is(sqlstates($router, 'router', q{SELECT * FROM es_on_shards($sql$DO $x$BEGIN PERFORM nextval('runs'); EXECUTE 'wrong'; END$x$$sql$)}), '42601', 'one that fails as what gives no rows would');
is((sort { $b <=> $a } map { on_shard($_, 'SELECT last_value FROM runs') } 0 .. 2)[0], $runs + 1, 'is run once, too');
is(ask(q{SELECT count(*) FROM es_on_shards('RESET my.own')}) . ask(q{SELECT count(*) FROM es_on_shards('SET my.own = 1;')}), '33', 'settings alone are no error');

# ---- a router whose shards are one ----
EventstoreShards::make_router($router, 'twice', @shards[ 0, 0 ]);
like(failure('SELECT * FROM es_read_shards()', 'twice'), qr/^SC003: this router reads 2 shards, but/, 'two names of one shard are not two shards');
my $again = 'host=' . $shards[0]->host . ' port=' . $shards[0]->port . ' dbname=store application_name=again';
$router->safe_psql('twice', "ALTER SERVER eventstore OPTIONS (SET p1 '$again')");
like(failure('SELECT * FROM es_read_shards()', 'twice'), qr/^SC003: this router reads 2 shards, but what answered is shard 0, 0/, 'nor are two ways to one, which would have each event twice');

# ---- who moves must be able to read everything ----
my ($seen, $at) = stream_at(0, 'seen');
ask("SELECT es_append('$seen', 'A')");
$_->safe_psql('postgres', 'CREATE ROLE mover LOGIN') foreach $router, @shards;
on_shard($_, q{GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA scaleout TO mover; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA scaleout TO mover;
	SELECT es_grant('mover', p) FROM unnest('{append,admin}'::text[]) p; SELECT es_grant('mover', 'read', 'other')}) foreach 0 .. 2;
ask(q{CREATE USER MAPPING FOR mover SERVER eventstore OPTIONS (user 'mover'); GRANT USAGE ON FOREIGN SERVER eventstore TO mover; GRANT INSERT, UPDATE ON scaleout.slots TO mover;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA scaleout TO mover; GRANT EXECUTE ON FUNCTION es_on_shards, es_learn_slots TO mover; GRANT EXECUTE ON PROCEDURE es_move_slots, es_cancel_move TO mover});
like(failure("SET ROLE mover; CALL es_move_slots(ARRAY[$at], 2)"), qr/^42501: .*permission denied to move slots/, 'who reads one category moves none');
on_shard(2, q{SELECT es_grant('mover', 'read')});
like(failure("SET ROLE mover; CALL es_move_slots(ARRAY[$at], 2)"), qr/^42501: .*permission denied to move slots from or to shard 0/, 'nor who reads all at the target only');
is(sqlstates($router, 'router', "SET ROLE mover; SELECT scaleout.fence(0, ARRAY[$at], 2)"), '42501', 'nor is there a fence then');
on_shard(0, q{SELECT es_grant('mover', 'read')});
ask("SET ROLE mover; CALL es_move_slots(ARRAY[$at], 2)");
is(owners($at) . ask("SELECT es_append('$seen', 'A')") . on_shard(2, "SELECT count(*) FROM es_read('$seen')"), '222', 'who reads all at both moves them, with their events');

# ---- a shard's functions are made anew ----
my $known = q{SELECT (SELECT md5(string_agg(s::text, ',' ORDER BY slot)) FROM scaleout.slots s), (SELECT md5(string_agg(t::text, ',' ORDER BY move)) FROM scaleout.takings t), count(*) FROM pg_proc WHERE pronamespace = 'scaleout'::regnamespace};
my $held = on_shard(2, $known);
EventstoreShards::run_file($shards[2], 'store', 'shard.sql', 'shard=2');
is(on_shard(2, $known), $held, 'it has what it had');
is(ask("SELECT es_append('$seen', 'A')"), '3', 'and goes on');
$shards[2]->command_fails_like([ $shards[2]->installed_command('psql'), '-XAtq', '-v', 'shard=1', '-d', $shards[2]->connstr('store'), '-f', $shards[2]->config_data('--sharedir') . '/eventstore/shard.sql' ],
	qr/this is shard 2, and cannot become shard 1/, 'it keeps its number');
is(ask("SELECT es_append('$seen', 'A')"), '4', 'of which nothing is changed then');

# ---- back to where something is left from before ----
# move_out(prefix): a stream with three events, and its slot, which have gone from shard 0 to shard 2
sub move_out
{
	my ($stream, $slot) = stream_at(0, $_[0]);

	ask(qq{SELECT es_append_batch('$stream', '[{"type": "A"}, {"type": "B"}, {"type": "C"}]')});
	ask("CALL es_move_slots(ARRAY[$slot], 2)");
	return ($stream, $slot);
}
foreach my $case ([ cut => 'SELECT es_truncate_stream($$%s$$, 3)', qr/has been truncated, or deleted and removed, at shard 0/ ],
	[ removed => 'SELECT es_truncate_stream($$%s$$, 3); SELECT count(*) FROM es_scavenge()', qr/has been truncated, or deleted and removed, at shard 0/ ],
	[ deleted => 'SELECT es_delete_stream($$%s$$)', qr/has been deleted where it is to move to, and not at shard 2/ ],
	[ changed => 'SELECT es_append($$%s$$, $$X$$)', qr/has another event as version 4 at shard 0/ ])
{
	my ($what, $sql, $told) = @$case;
	my ($stream, $at) = move_out($what);

	on_shard(0, sprintf($sql, $stream));
	is(ask("SELECT es_append('$stream', 'D')"), '4', "$what: a stream goes on where it is");
	like(failure("CALL es_move_slots(ARRAY[$at], 0)"), qr/^0A000: .*stream "$stream" $told/, "$what: back to what was left of it, and changed, it cannot move");
	ask("CALL es_cancel_move(ARRAY[$at], 0)");
	is(owners($at) . ask("SELECT es_append('$stream', 'E'), (SELECT string_agg(type, '' ORDER BY version) FROM es_read('$stream'))"), '25|ABCDE', "$what: it has lost nothing");
}
my ($both, $its) = move_out('both');
ask("SELECT es_delete_stream('$both')");
ask("CALL es_move_slots(ARRAY[$its], 0)");
is(owners($its) . sqlstates($router, 'router', "SELECT es_append('$both', 'D')") . everywhere($both), '0VE0034 0 4', 'a stream that is deleted where it is comes back, deleted');
ask("CALL es_move_slots(ARRAY[$its], 2)");
is(owners($its) . sqlstates($router, 'router', "SELECT es_append('$both', 'D')"), '2VE003', 'and goes, though its deletion has another id at each');

# ---- what a shard notes is no stream that moves ----
my $notes = ask(q{SELECT scaleout.slot('scaleout-moves')});
my $noted = owners($notes);
on_shard($noted, q{SELECT scaleout.note('Noted', '{}'), scaleout.note('Noted', '{}'); SELECT es_truncate_stream('scaleout-moves', 2); SELECT count(*) FROM es_scavenge()});
ask("CALL es_move_slots(ARRAY[$notes], 2)");
is(owners($notes), '2', 'its slot moves, also after its events were removed');

# ---- numbers that are short, and have a long text ----
my ($digits, $long) = stream_at(0, 'digits');
ask("SELECT count(es_append('$digits', 'D', d)) FROM generate_series(1, 20), (SELECT jsonb_agg('1e131071'::numeric) AS d FROM generate_series(1, 10)) s");
cmp_ok(on_shard(0, "SELECT octet_length(events::text) FROM scaleout.give(0, ARRAY[$long], 0)"), '<', 10_000_000, '26 MB of digits go in parcels');
ask("CALL es_move_slots(ARRAY[$long], 2)");
is(on_shard(2, "SELECT count(*), count(DISTINCT data), min(jsonb_array_length(data)), bool_and((data ->> 0)::numeric = 1e131071) FROM es_read('$digits')"), '20|1|10|t', 'and arrive');

# ---- moves of several slots, some of which have moved otherwise since ----
my ($one, $first) = stream_at(0, 'one');
my ($two, $second) = stream_at(0, 'two');
ask("SELECT es_append('$one', 'A'), es_append('$two', 'A')");
# its router was lost
ask("SELECT scaleout.begin_taking(2, 0, ARRAY[$first, $second])");
ask("CALL es_move_slots(ARRAY[$first], 1)");
like(failure("CALL es_move_slots(ARRAY[$second], 2)"), qr/^55000: .*being moved already/, 'a move that was left keeps its slots from other moves there');
like(failure("CALL es_cancel_move(ARRAY[$second], 2)"), qr/^55000: .*together with others/, 'and is cancelled as a whole');
ask("CALL es_cancel_move(ARRAY[$first, $second], 2)");
is(owners($first) . owners($second), '10', 'though one of them has gone elsewhere');
ask("CALL es_move_slots(ARRAY[$first, $second], 2)");
is(owners($first) . owners($second) . ask("SELECT es_append('$one', 'A'), es_append('$two', 'A')"), '222|2', 'then they can move');

# one that went through the target before: what its first shard says of that is no fence to be taken down
my ($gone, $through) = stream_at(0, 'gone');
my ($kept, $other) = stream_at(0, 'kept');
ask("SELECT es_append('$gone', 'A'), es_append('$kept', 'A')");
ask("CALL es_move_slots(ARRAY[$through], 2)");
ask("CALL es_move_slots(ARRAY[$through], 1)");
ask("SELECT scaleout.begin_taking(2, 0, ARRAY[$through, $other])");
like(failure("CALL es_cancel_move(ARRAY[$through, $other], 2)"), qr/^55000: .*and have left it/, 'who does not know that is told');
ask("CALL es_cancel_move(ARRAY[$through, $other], 2)");
is(owners($through) . owners($other) . ask("SELECT es_append('$gone', 'A'), es_append('$kept', 'A')"), '102|2', 'and no slot comes to be at two shards');
is(everywhere($gone), '1 2 1', 'but each event where it was');

# ---- a router that is lost as it cancels, and another one ----
my ($late, $lost) = stream_at(0, 'late');
ask("SELECT es_append('$late', 'A')");
ask("CALL es_move_slots(ARRAY[$lost], 1)");
ask("SELECT scaleout.begin_taking(2, 1, ARRAY[$lost])");
my $fence = ask("SELECT scaleout.fence(1, ARRAY[$lost], 2)");
is(ask("SELECT scaleout.cancel_taking(2, 1, ARRAY[$lost], $fence)"), 't', 'a target has refused, and the fence still stands');
EventstoreShards::make_router($router, 'late', @shards);
is($router->safe_psql('late', 'SELECT es_learn_slots()') . $router->safe_psql('late', "SELECT es_shard('$late')"), '163841', 'a new router finds the slot where it was last');
$router->safe_psql('late', "CALL es_cancel_move(ARRAY[$lost], 2)");
is(owners($lost) . ask("SELECT es_append('$late', 'A')"), '12', 'and brings it back there');

# ---- a slot on its way ----
my ($way, $on) = stream_at(0, 'way');
my ($near) = stream_at(1, 'near');
ask("SELECT es_append('$way', 'A')");
ask("SELECT scaleout.begin_taking(1, 0, ARRAY[$on])");
ask("SELECT scaleout.fence(0, ARRAY[$on], 1)");
like(failure("CALL es_move_slots(ARRAY[$on], 0)"), qr/^55000: slots are on their way from shard 0 to others/, 'to where it was it does not move');
like(failure(qq{SET scaleout.patience = '50ms'; SELECT * FROM es_append_many('[{"stream": "$way", "type": "A"}, {"stream": "$near", "type": "A"}]')}), qr/^SC001: slot $on has been on its way/, 'es_append_many waits for it, too');
ask("CALL es_move_slots(ARRAY[$on], 1)");
is(ask(qq{SELECT string_agg(version::text, ' ') FROM es_append_many('[{"stream": "$way", "type": "A"}, {"stream": "$near", "type": "A"}]')}), '2 1', 'and once it is there, appends');

is(gaps($_, 'store'), '', 'streams are whole') foreach @shards[ 1, 2 ];

# ---- a store in another schema than the installing role looks into ----
$shards[0]->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$shards[0]->safe_psql('elsewhere', 'CREATE SCHEMA evs; CREATE EXTENSION eventstore SCHEMA evs');
EventstoreShards::run_file($shards[0], 'elsewhere', 'shard.sql', 'shard=0');
is($shards[0]->safe_psql('elsewhere', q{SELECT scaleout.own(0, ARRAY[scaleout.slot('a-1')]); SELECT (scaleout.es_append(0, scaleout.slot('a-1'), 'a-1', 'A', '{}', '{}', NULL, NULL, NULL)).result,
		(scaleout.es_append_events(0, scaleout.slot('a-1'), 'a-1', ARRAY[('B', '{}', NULL, NULL)]::evs.es_new_event[]::text, NULL)).result; SELECT count(*) FROM scaleout.es_read(0, scaleout.slot('a-1'), 'a-1', NULL, NULL, false)}),
	"1\n1|2\n2", 'a store in a schema of its own is a shard, too');
done_testing();
