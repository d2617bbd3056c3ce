# es_doctor(): every finding that the manual lists is planted here, seen with its severity and the name of what it is
# about, and gone once its remedy has been run as it is given.  And what it is asked as: by whom, on a standby, while a
# table is locked, in a store that is broken.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

$PostgreSQL::Test::Utils::timeout_default = 60 unless $ENV{PG_TEST_TIMEOUT_DEFAULT};

my $folder = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('main', streaming => 'logical', conf => <<'END');
wal_level = logical
max_wal_size = 32MB
min_wal_size = 32MB
max_worker_processes = 12
autovacuum_freeze_max_age = 100000
eventstore.doctor_patience = 0
log_min_messages = fatal
END
my $standby;
my %planted;

# ---- what asks, and what cures ----

# findings(where, database): what is not ok, as hashes, in order
sub findings
{
	my ($where, $database, $before) = @_;

	return @{ decode_json($where->safe_psql($database // 'store', ($before // '') . q{SELECT COALESCE(jsonb_agg(to_jsonb(d)), '[]') FROM es_doctor() d WHERE severity <> 'ok'})) };
}

# shell(where, database, line): as who operates the server would run it there
sub shell
{
	my ($where, $database, $line) = @_;
	local $ENV{PGDATA} = $where->data_dir;
	local $ENV{PGHOST} = $where->host;
	local $ENV{PGPORT} = $where->port;
	local $ENV{PGDATABASE} = $database;
	local $ENV{PRIMARY_CONNINFO} = $node->connstr('postgres');

	system('bash', '-c', "$line >>$folder/shell.log 2>&1 </dev/null") == 0 or diag slurp_file("$folder/shell.log");
	$where->_update_pid(1) if $line =~ /pg_ctl/;
	return;
}

# cure(where, database, remedy): does as it says
sub cure
{
	my ($where, $database, $remedy) = @_;

	return shell($where, $database, $1) if $remedy =~ /^shell: (.*)/s;
	my ($status, $out, $err) = $where->psql($database, $remedy, on_error_stop => 1);
	is($status, 0, "the remedy runs: $remedy") or diag $err;
	$where->restart if $remedy =~ /then restart the server$/;
	return;
}

# of(case, finding): whether it is the finding that the case has planted
sub of { my ($case, $found) = @_; return $found->{finding} eq $case->{finding} && $found->{detail} =~ $case->{names}; }

# A case: the finding, its severity, what its detail names; plant, a sub or SQL; edit, what a person puts into the remedy;
# before, after: what is to be done around the remedy, where it does not do all by itself.
sub plant_case
{
	my ($case) = @_;

	$case->{on} //= $node;
	$case->{database} //= 'store';
	$planted{ $case->{finding} } = $case->{severity};
	return ref $case->{plant} ? $case->{plant}->() : defined $case->{plant} ? $case->{on}->safe_psql($case->{database}, $case->{plant}) : ();
}

# see_case(case): it is found, sooner or later
sub see_case
{
	my ($case) = @_;
	my ($found) = ();

	wait_until("finding: $case->{finding}", sub { ($found) = grep { of($case, $_) } findings($case->{on}, $case->{database}); $found })
	  or diag explain [ findings($case->{on}, $case->{database}) ];
	is($found->{severity}, $case->{severity}, "$case->{severity}: $case->{finding}");
	unlike($found->{detail}, qr/(?<!NOT )\bNULL\b| \(\)|(?<!:)  | [,;]| \.(?!\.)/, 'and its detail has no place for what there is not');
	return $found;
}

sub cure_case
{
	my ($case, $found) = @_;
	my $remedy = $found->{remedy} // return;

	$case->{before}->() if $case->{before};
	if ($case->{edit}) { local $_ = $remedy; $case->{edit}->(); $remedy = $_; }
	cure($case->{on}, $case->{database}, $remedy) unless $case->{leave};
	$case->{after}->() if $case->{after};
	return;
}

sub gone_case
{
	my ($case) = @_;

	ok(wait_until("no finding: $case->{finding}", sub { !grep { of($case, $_) } findings($case->{on}, $case->{database}) }), "gone: $case->{finding}");
	return;
}

# treat(cases): plants all, sees all, cures all
sub treat
{
	my @cases = @_;

	plant_case($_) foreach @cases;
	my %found = map { $_ => see_case($cases[$_]) } 0 .. $#cases;
	cure_case($cases[$_], $found{$_}) foreach 0 .. $#cases;
	gone_case($_) foreach @cases;
	return;
}

sub sql { return $node->safe_psql('store', $_[0]); }

# set(name, value): of the server, at once; undef: as it was
sub set
{
	my ($name, $value) = @_;

	$node->safe_psql('postgres', "LOAD 'eventstore';\n" . (defined $value ? "ALTER SYSTEM SET $name = $value" : "ALTER SYSTEM RESET $name"));
	$node->reload;
	return;
}

# hold(database, sql): a session that runs it and stays as it is until let_go
my $holds = 0;
sub hold
{
	my ($database, $sql) = @_;
	my $file = "$folder/hold" . $holds++;
	my $script = start_script($node, $database, "$sql\n\\! touch $file; while [ -e $file ]; do sleep 0.05; done\nCOMMIT;\n");

	wait_until('a session that holds', sub { -e $file });
	return { script => $script, file => $file };
}

sub let_go { my ($hold) = @_; unlink $hold->{file}; finish_script($hold->{script}); return; }

# ---- a server as it comes, and one that preloads the library ----

new_store($node, 'store', 100);
sub healthy
{
	my ($where, $how, @but) = @_;

	ok(wait_until($how, sub { join(', ', map { $_->{finding} } findings($where, 'store', "SET eventstore.doctor_patience = '1min';")) eq join(', ', @but) }), $how)
	  or diag explain [ findings($where, 'store') ];
	return;
}
healthy($node, 'a server as it comes: what is said is that', 'fsync is off', 'the library is not preloaded');

# The owner, as whom it looks, need not be a superuser, and some settings are for those.
sub plain_store
{
	$node->safe_psql('postgres', 'CREATE DATABASE plain OWNER keeper; ALTER ROLE keeper SUPERUSER');
	$node->safe_psql('plain', q{CREATE EXTENSION eventstore; SELECT es_protect('kept', '{$.data.secret}', '$.data.who')}, extra_params => [ '-U', 'keeper' ]);
	$node->safe_psql('postgres', 'ALTER ROLE keeper NOSUPERUSER');
	return;
}
sub found_in_plain { return { map { $_->{finding} => $_ } findings($_[0], 'plain', $_[1]) } }
$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN');
plain_store();
foreach my $asker ('', 'SET ROLE keeper;')
{
	my $found = found_in_plain($node, $asker);

	is($found->{'a subject could not be looked at'}, undef, "$asker all is looked at for an owner who is no superuser") or diag explain $found;
	is($found->{'fields are protected and there is no master key'}, undef, '... nor is a setting missed that he may not read');
	like($found->{'the library is not preloaded'}{remedy}, qr/^-- add eventstore to shared_preload_libraries, /, '... and what else is preloaded is not told');
}
set('eventstore.master_key_command', "''");
is(found_in_plain($node)->{'fields are protected and there is no master key'}{severity}, 'critical', '... and a setting that he may not read is seen to be empty');
set('eventstore.master_key_command', undef);
set('shared_preload_libraries', 'auto_explain');
$node->restart;
like((grep { $_->{finding} eq 'the library is not preloaded' } findings($node))[0]{remedy}, qr/= 'auto_explain', 'eventstore';/, '... but where the owner may see it');
set('shared_preload_libraries', undef);
$node->restart;
$node->safe_psql('postgres', 'DROP DATABASE plain');

# Without a worker what it would do waits.
treat(
	{ finding => 'retention is overdue', severity => 'warning', names => qr/'aged'/,
		plant => q{SELECT es_set_retention('aged', max_count => 1), es_append('aged-1', 'A'), es_append('aged-1', 'A')} },
	{ finding => 'hidden events are not removed', severity => 'notice', names => qr/1 streams have events/,
		plant => q{SELECT es_append('cut-1', 'A'), es_append('cut-1', 'A'); SELECT es_truncate_stream('cut-1', 2)} },
	{ finding => 'the log is sealed less often than is set', severity => 'warning', names => qr/00:00:00.001/,
		plant => sub { set('eventstore.seal_interval', "'1ms'") }, after => sub { set('eventstore.seal_interval', undef) } });
treat({ finding => 'fsync is off', severity => 'warning', names => qr/crash/ },
	{ finding => 'the library is not preloaded', severity => 'notice', names => qr/no workers/ });
healthy($node, 'a server with the library preloaded: nothing is wrong');
is($node->safe_psql('store', q{SELECT count(*) > 15, bool_and(remedy IS NULL) FROM es_doctor() WHERE severity = 'ok'}), 't|t', 'what was looked at is said');
set('fsync', 'off');

# ---- settings ----

treat(
	{ finding => 'full_page_writes is off', severity => 'notice', names => qr/pages/, plant => sub { set('full_page_writes', 'off') } },
	{ finding => 'commits are not durable', severity => 'notice', names => qr/by the database/, plant => 'ALTER DATABASE store SET synchronous_commit = off' },
	{ finding => 'autovacuum is off', severity => 'warning', names => qr/autovacuum is off/, plant => sub { set('autovacuum', 'off') } },
	{ finding => 'settings wait for a restart', severity => 'notice', names => qr/max_connections/, plant => sub { set('max_connections', 61) } });
treat({ finding => 'no replication slot is free', severity => 'notice', names => qr/All 10/,
	plant => q{SELECT pg_create_physical_replication_slot('spare' || n) FROM generate_series(1, 10) n},
	after => sub { sql(q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots}) } });

# ---- what holds positions back ----

$node->safe_psql('postgres', q{CREATE ROLE "it's a ""role"""; GRANT ALL ON DATABASE store TO PUBLIC});
my $hold;
treat(
	{ finding => 'a transaction holds the settled position back', severity => 'warning', names => qr/application 'it''s "me"', query .*es_append/s,
		plant => sub { $hold = hold('store', qq{SET application_name = 'it''s "me"'; BEGIN; SELECT es_append('held-1', 'A');}) } },
	{ finding => 'a prepared transaction holds the settled position back', severity => 'warning', names => qr/'two''s "gid"\n'/,
		plant => qq{BEGIN; SELECT es_append('held-2', 'A'); PREPARE TRANSACTION E'two''s "gid"\\n'} },
	{ finding => 'a prepared transaction was left open', severity => 'notice', names => qr/'idle'/,
		plant => q{BEGIN; CREATE TABLE left_open (); PREPARE TRANSACTION 'idle'} },
	{ finding => 'the clock is behind the newest event', severity => 'notice', names => qr/recorded at/,
		plant => q{INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('late-1', 'A', '{}', clock_timestamp() + interval '4 s')}, leave => 1 });
eval { let_go($hold) };
treat(
	{ finding => 'the sequence of positions is behind the log', severity => 'critical', names => qr/last position given out is 2,/,
		plant => q{SELECT setval('eventstore.position_seq', 2)} },
	{ finding => 'a sequence of ids is behind its table', severity => 'critical', names => qr/stream_id_seq/,
		plant => q{SELECT setval('eventstore.stream_id_seq', 1)} });

# ---- segments, indexes, guards, tables ----

sub fill { sql("SELECT count(es_append('fill-' || n % 3, 'F')) FROM generate_series(1, $_[0]) n"); return; }
sub newest { return sql('SELECT max(segment) FROM eventstore.segments'); }
sub by_hand { return "SET eventstore.allow_drop = on; $_[0]"; }
sub unguarded { return "ALTER TABLE eventstore.$_[0] DISABLE TRIGGER ALL; $_[1]; ALTER TABLE eventstore.$_[0] ENABLE TRIGGER ALL;"
	. join('', map { "ALTER TABLE eventstore.$_[0] ENABLE ALWAYS TRIGGER $_;" } split /\n/, sql("SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'eventstore.$_[0]'::regclass AND NOT tgisinternal")); }

fill(450);
sql(q{SELECT es_index_type('F')});
wait_until('indexes of a type', sub { sql(q{SELECT segments = indexed FROM es_indexed_types}) eq 't' });
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", '-t', 'eventstore.events_1', $node->connstr('store') ], 'a segment is dumped');
treat(
	{ finding => 'dead rows pile up in a table', severity => 'notice', names => qr/indexed_types has about \d+ dead/,
		plant => q{BEGIN; INSERT INTO eventstore.indexed_types SELECT n FROM generate_series(1, 12000) n; ROLLBACK; SELECT pg_stat_force_next_flush()} },
	{ finding => 'autovacuum is off for a table', severity => 'warning', names => qr/segments/, plant => 'ALTER TABLE eventstore.segments SET (autovacuum_enabled = false)' });
# where the schema of es_* functions has a name that is to be quoted, too
$node->safe_psql('postgres', 'CREATE DATABASE home');
$node->safe_psql('home', q{CREATE SCHEMA "My Home"; CREATE EXTENSION eventstore SCHEMA "My Home"; ALTER DATABASE home SET search_path = "My Home"});
$node->safe_psql('home', q{SELECT es_set_segment_size(100); SELECT count(es_append('a-1', 'A')) FROM generate_series(1, 150)});
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/home", '-t', 'eventstore.events_0', $node->connstr('home') ], 'one of another store, too');
treat({ finding => 'a segment is gone', severity => 'critical', names => qr/events_0,/, database => 'home', plant => by_hand('DROP TABLE eventstore.events_0'), edit => sub { s{\bDUMP\b}{$folder/home} } });
is($node->safe_psql('home', 'SELECT count(*) FROM es_read_all(0, NULL)'), '150', '... and its events are back');
$node->safe_psql('postgres', 'DROP DATABASE home');
my $coming = newest() + 2;
treat(
	{ finding => 'a segment was detached by hand', severity => 'critical', names => qr/events_0, .* position 1 to 100/, plant => by_hand('ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_0') },
	{ finding => 'a segment is gone', severity => 'critical', names => qr/events_1,/, plant => by_hand('DROP TABLE eventstore.events_1'), edit => sub { s{\bDUMP\b}{$folder/dump} } },
	{ finding => 'a segment is not in eventstore.segments', severity => 'critical', names => qr/events_2/, plant => unguarded('segments', 'DELETE FROM eventstore.segments WHERE segment = 2') },
	{ finding => 'a table has the name of a coming segment', severity => 'critical', names => qr/events_$coming/, plant => "CREATE TABLE eventstore.events_$coming ()" },
	{ finding => 'the log has a default partition', severity => 'warning', names => qr/others/, plant => 'CREATE TABLE public.others PARTITION OF eventstore.events DEFAULT' },
	{ finding => 'a column must be given, and appends give none', severity => 'critical', names => qr/"the ""column"/,
		plant => 'ALTER TABLE eventstore.streams ADD COLUMN "the ""column" int NOT NULL DEFAULT 1; ALTER TABLE eventstore.streams ALTER COLUMN "the ""column" DROP DEFAULT' },
	{ finding => 'an index of the store is missing', severity => 'critical', names => qr/events_3_category/, plant => by_hand('DROP INDEX eventstore.events_3_category') },
	{ finding => 'an index of the store is missing', severity => 'critical', names => qr/snapshots_by_stream/, plant => by_hand('DROP INDEX eventstore.snapshots_by_stream') },
	{ finding => 'an index of the store is not valid', severity => 'critical', names => qr/streams_by_category/,
		plant => q{UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'eventstore.streams_by_category'::regclass} },
	{ finding => 'an index was left half built', severity => 'notice', names => qr/"half ""built"/,
		plant => q{CREATE INDEX "half ""built" ON eventstore.streams (created_at); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'eventstore."half ""built"'::regclass} },
	{ finding => 'segments lack the index of a type', severity => 'notice', names => qr/type 'F'/,
		plant => by_hand(q{DO $$ BEGIN EXECUTE (SELECT 'DROP INDEX ' || oid::regclass FROM pg_class WHERE relname LIKE 'events\_3\_type\_%'); END $$}) },
	{ finding => 'a guard of the store is missing', severity => 'critical', names => qr/seals has no trigger guard_rows/, plant => by_hand('DROP TRIGGER guard_rows ON eventstore.seals') },
	{ finding => 'a trigger of the store is switched off', severity => 'critical', names => qr/guard_statement of table eventstore.events_3/, plant => 'ALTER TABLE eventstore.events_3 DISABLE TRIGGER guard_statement' },
	{ finding => 'an event trigger of the store is switched off', severity => 'critical', names => qr/eventstore_guard_ddl/, plant => 'ALTER EVENT TRIGGER eventstore_guard_ddl DISABLE' });
sql('ALTER TABLE eventstore.streams DROP COLUMN "the ""column"');
treat({ finding => 'a segment could not be made', severity => 'critical', names => qr/not here.* "in the ""way"/s,
	plant => sub {
		sql(q{CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
			CREATE EVENT TRIGGER "in the ""way" ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()});
		wait_until('a failure', sub { eval { fill(20) }; sql('SELECT count(*) FROM eventstore.maker_failure') });
	},
	after => sub { wait_until('a segment', sub { eval { fill(20) }; sql(q{SELECT count(*) FROM es_segments WHERE state = 'failed'}) == 0 }) } });
my $taken;
treat({ finding => 'a segment could not be made', severity => 'critical', names => qr/already exists/,
	plant => sub {
		wait_until('the segment ahead', sub { eval { fill(1) }; sql('SELECT max(last_position) - (SELECT max(position) FROM es_events) > 60 FROM eventstore.segments') eq 't' });
		$taken = newest() + 1;
		sql("CREATE TABLE eventstore.events_$taken ()");
		wait_until('a failure', sub { eval { fill(20) }; sql("SELECT count(*) FROM eventstore.maker_failure WHERE segment = $taken") });
	},
	before => sub { sql(by_hand("DROP TABLE eventstore.events_$taken")) },
	after => sub { wait_until('a segment', sub { eval { fill(20) }; sql(q{SELECT count(*) FROM es_segments WHERE state = 'failed'}) == 0 }) } });
treat({ finding => 'tables wait long to be frozen', severity => 'warning', names => qr/ seals/,
	plant => sub {
		$hold = hold('store', 'BEGIN; LOCK TABLE eventstore.seals IN SHARE UPDATE EXCLUSIVE MODE;');
		sql(q{CREATE TABLE burnt (); DO $$ BEGIN FOR i IN 1..151000 LOOP BEGIN INSERT INTO burnt DEFAULT VALUES; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END; END LOOP; END $$});
	},
	before => sub { let_go($hold) } });

# ---- projections, subscriptions, functions ----

$node->safe_psql('store', <<'END');
CREATE SCHEMA app;
CREATE TABLE app.fails (yes boolean);
GRANT ALL ON SCHEMA app TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA app TO PUBLIC;
CREATE FUNCTION app."may ""fail"(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM app.fails) THEN RAISE 'the secret is 42'; END IF; END $$;
CREATE FUNCTION app.look(event es_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION app."re(new"(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT data';
CREATE ROLE maker; CREATE ROLE leaver;
SELECT es_grant(r, p) FROM unnest('{maker,leaver}'::regrole[]) r, unnest('{admin,read}'::text[]) p;
SET ROLE maker; SELECT es_create_handler_projection('of maker', 'app.look(es_event)'); RESET ROLE;
SET ROLE leaver; SELECT es_create_projection('of leaver', 'count', category => 'none'); RESET ROLE;
SELECT es_register_reducer_ops('mine', '*', '"ignore"'), es_create_projection('it''s mine', 'mine', category => 'none');
SELECT es_create_handler_projection('it''s "failing"', 'app."may ""fail"(es_event)', categories => '{bad}');
SELECT es_register_upcaster('Old', 1, 'app."re(new"(jsonb)');
SELECT es_subscribe('alone', 0, '{sub}'), es_subscribe('lazy', 0, '{sub}'), es_subscribe('it''s "parked"', 0, '{sub}', max_attempts => 1);
SELECT es_append('sub-1', 'A');
END
treat(
	{ finding => 'a projection has failed', severity => 'critical', names => qr/'it''s "failing"' .*the secret is 42/s,
		plant => sub { sql(q{INSERT INTO app.fails VALUES (true)}); sql(q{SELECT es_append('bad-1', 'A')}) }, before => sub { sql('DELETE FROM app.fails') } },
	{ finding => 'the reducer of a projection is gone', severity => 'critical', names => qr/'it''s mine' needs reducer 'mine'/, plant => unguarded('reducers', q{DELETE FROM eventstore.reducers WHERE reducer = 'mine'}) },
	{ finding => 'the creator of a projection is gone', severity => 'critical', names => qr/'of leaver' runs as role leaver/,
		plant => sub { sql('DROP OWNED BY leaver; DROP ROLE leaver') } },
	{ finding => 'a function that handles events is gone', severity => 'critical', names => qr/app\."re\(new"\(.*jsonb\), which the upcaster of type 'Old' from version 1/,
		plant => 'DROP FUNCTION app."re(new"(jsonb)', edit => sub { s/RESULT/jsonb/; s/BODY/SELECT \$1/ } },
	{ finding => 'a function may not be called by who needs it', severity => 'critical', names => qr/'of maker' calls function app.look\(public.es_event\) as role maker/,
		plant => 'REVOKE ALL ON FUNCTION app.look(es_event) FROM PUBLIC' },
	{ finding => 'a subscription stands still', severity => 'warning', names => qr/'alone'/ },
	{ finding => 'a member acknowledges nothing', severity => 'notice', names => qr/'lazy'/, plant => q{SELECT es_poll('lazy', lease => '1 h', member => 'm')} },
	{ finding => 'events of a subscription are parked', severity => 'warning', names => qr/1 events of subscription 'it''s "parked"'/,
		plant => q{SELECT es_nack(subscription => 'it''s "parked"', partition => d.partition, "position" => d."position", reason => 'no') FROM es_poll('it''s "parked"') d} },
	{ finding => 'a right was granted on a category that has no events', severity => 'notice', names => qr/"it's a ""role""" has read on category 'misspelt'/,
		plant => q{SELECT es_grant('"it''s a ""role"""', 'read', 'misspelt')} },
	{ finding => 'a table of the store is open to everybody', severity => 'critical', names => qr/streams/, plant => 'GRANT SELECT ON eventstore.streams TO PUBLIC' },
	{ finding => 'a function of the store is open to everybody', severity => 'critical', names => qr/eventstore.look_at_rights/, plant => 'GRANT EXECUTE ON FUNCTION eventstore.look_at_rights TO PUBLIC' });
treat({ finding => 'a projection has failed', severity => 'critical', names => qr/'of nobody' stands at position \d+ since \S+ \S+, after \d+ attempts\. Error: .*does not exist/,
	plant => sub {
		sql(q{SELECT es_register_reducer_ops('nobody''s', '*', '"ignore"'), es_create_projection('of nobody', 'nobody''s', category => 'none')});
		sql(unguarded('reducers', q{DELETE FROM eventstore.reducers WHERE reducer = 'nobody''s'}));
		sql(q{SELECT es_append('none-1', 'A')});
	},
	before => sub { sql(q{SELECT es_create_reducer('nobody''s')}) } });
treat({ finding => 'a right was granted to a role that is gone', severity => 'notice', names => qr/'goer'/,
	plant => q{CREATE ROLE goer; SELECT es_grant('goer', 'read'); DROP ROLE goer} });
treat({ finding => 'a projection is behind', severity => 'warning', names => qr/'it''s "failing"'/, plant => sub { $hold = hold('store', q{BEGIN; SELECT count(*) FROM es_run_projection('it''s "failing"');}); sql(q{SELECT es_append('bad-1', 'A')}) },
	before => sub { let_go($hold) } });
sql(q{SELECT es_drop_projection(projection) FROM es_projections; SELECT es_unsubscribe(s) FROM (SELECT DISTINCT subscription FROM es_subscriptions) o(s)});

# What ages out, and what stands in its way.
sql(q{SELECT es_create_reducer('stuck'), es_register_reducer('stuck', '*', 'app.fold(jsonb,jsonb)')}) if sql(q{CREATE FUNCTION app.fold(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM app.fails) THEN RAISE 'no'; END IF; RETURN state; END $$}) eq '';
treat({ finding => 'streams could not be truncated', severity => 'warning', names => qr/'stuck-1'/,
	plant => sub {
		sql(q{SELECT count(es_append('stuck-1', 'A')) FROM generate_series(1, 5); INSERT INTO app.fails VALUES (true); SELECT es_set_retention('stuck', max_count => 1)});
		sql('SELECT * FROM es_scavenge()');
	},
	before => sub { sql('DELETE FROM app.fails') } });
treat({ finding => 'hidden events are not removed', severity => 'notice', names => qr/the first to need such is subscription 'keeps'/,
	plant => q{SELECT es_append('cut-1', 'A'), es_append('cut-1', 'A'), es_subscribe('keeps', 0); SELECT es_truncate_stream('cut-1', 4)},
	before => sub { sql(q{SELECT es_unsubscribe('keeps')}) } });

# ---- secrets ----

treat({ finding => 'fields are protected and there is no master key', severity => 'critical', names => qr/'kept'/,
	plant => sub { sql(q{SELECT es_protect('kept', '{$.data.secret}', '$.data.who')}); set('eventstore.master_key_command', "''") },
	edit => sub { s/COMMAND/printf %064d 1/ } });
treat({ finding => 'the master key is not to be had', severity => 'critical', names => qr/prints another key/,
	plant => sub {
		sql(q{SELECT es_append('kept-1', 'A', '{"who": "a", "secret": 1}')});
		set('eventstore.master_key_command', "'printf %064d 2'");
		is(sqlstates($node, 'store', q{SELECT es_append('kept-1', 'A', '{"who": "a", "secret": 1}')}), '55000', 'another key is refused');
	},
	edit => sub { s/COMMAND/printf %064d 1/ }, after => sub { sql(q{SELECT * FROM es_read('kept-1')}) } });

# ---- feeds ----

sub switch { sql('SELECT pg_logical_emit_message(false, \'\', \'\'), pg_switch_wal()') foreach 1 .. $_[0]; sql('CHECKPOINT'); return; }
treat(
	{ finding => 'a feed has no slot', severity => 'critical', names => qr/'torn'/, plant => sub { sql(q{SELECT * FROM es_create_feed('torn', '{a,b}')}); sql(q{SELECT pg_drop_replication_slot('es_torn')}) } },
	{ finding => 'a slot lets everything through', severity => 'notice', names => qr/es_by_hand/, plant => q{SELECT pg_create_logical_replication_slot('es_by_hand', 'eventstore')} });
sql(q{SELECT es_drop_feed('torn'), es_drop_feed('by_hand')});
treat({ finding => 'a slot that nobody reads keeps WAL', severity => 'warning', names => qr/es_idle of a feed has no consumer connected and keeps/,
	plant => sub { sql(q{SELECT * FROM es_create_feed('idle')}); switch(4) } });
treat({ finding => 'a slot is about to lose WAL that it needs', severity => 'warning', names => qr/es_idle keeps/,
	plant => sub { sql(q{SELECT * FROM es_create_feed('idle')}); switch(3); sql(q{SELECT pg_logical_emit_message(false, '', repeat('x', 10000000))}); set('max_slot_wal_keep_size', "'48MB'") } });
sql(q{SELECT pg_create_physical_replication_slot('nobodys', true)});
treat(
	{ finding => 'a slot has lost WAL that it needs', severity => 'critical', names => qr/es_idle, of feed 'idle',/,
		plant => sub { set('max_slot_wal_keep_size', "'16MB'"); switch(3) } },
	{ finding => 'a slot has lost WAL that it needs', severity => 'critical', names => qr/^Replication slot nobodys can deliver nothing any more(?: \(\w+\))?\. Its consumer/ });
set('max_slot_wal_keep_size', undef);
sql(q{SELECT pg_drop_replication_slot('es_idle')});
SKIP:
{
	my $refused = 'feeds are defined and the output plugin is not allowed';

	$planted{$refused} = 'critical';
	skip 'the server knows no list of output plugins', 1 unless has_allow_list($node);
	plain_store();
	$node->safe_psql('plain', q{SELECT * FROM es_create_feed('plain')});
	treat({ finding => $refused, severity => 'critical', names => qr/1 feeds cannot/, plant => sub { set('output_plugin_libraries', "'pgoutput'") },
		before => sub {
			is(found_in_plain($node)->{$refused}{detail}, 'output_plugin_libraries does not name eventstore: 1 feeds cannot be read.', '... which is not told to an owner who may not see it');
		} });
	$node->safe_psql('plain', q{SELECT es_drop_feed('plain')});
	$node->safe_psql('postgres', 'DROP DATABASE plain');
}
treat({ finding => 'feeds are defined and wal_level is not logical', severity => 'critical', names => qr/wal_level is replica/,
	plant => sub { set('wal_level', 'replica'); $node->restart } });
sql(q{SELECT es_drop_feed('idle')});

# ---- the worker ----

new_store($node, 'other');
# which of them has none depends on the order in which the server lists its databases
my $few = { finding => 'there are too few workers', severity => 'warning', names => qr/1 databases have a worker/ };
$few->{plant} = sub {
	set('eventstore.max_workers', 1);
	$node->restart;
	$node->safe_psql($_, q{SELECT es_append('a-1', 'A')}) foreach qw(store other);
	wait_until('a store without a worker', sub {
		($few->{database}) = grep { grep { of($few, $_) } findings($node, $_) } qw(store other);
		return $few->{database};
	});
};
treat($few);
treat({ finding => 'no worker looks after the store', severity => 'warning', names => qr/none since/,
	plant => sub { set('max_worker_processes', 2); $node->restart; sql(q{SELECT es_append('a-1', 'A')}) } });
$node->restart;
treat({ finding => 'the worker is held off', severity => 'warning', names => qr/Process \d+ wants the database/, database => 'other',
	plant => sub {
		$hold = hold('other', 'BEGIN;');
		wait_until('a worker', sub { $node->safe_psql('other', q{SELECT looked_after FROM eventstore.worker_state()}) eq 't' });
		start_script($node, 'postgres', "DROP DATABASE other;\n" x 20);
	},
	after => sub { let_go($hold) } });
treat({ finding => 'background work fails', severity => 'warning', names => qr/sealing: it has failed/,
	plant => sub { sql(q{SELECT es_append('a-1', 'A'); ALTER TABLE eventstore.seals RENAME TO away}); set('eventstore.seal_interval', "'10ms'") },
	before => sub { sql('ALTER TABLE eventstore.away RENAME TO seals') }, after => sub { sql(q{SELECT es_append('a-1', 'A')}) } });
set('eventstore.seal_interval', undef);

# ---- who asks, and what of a store that is broken ----

sql('CREATE ROLE watcher; GRANT pg_monitor TO watcher; CREATE ROLE nobody');
is(sqlstates($node, 'store', 'SET ROLE nobody; SELECT * FROM es_doctor()'), '42501', 'who may not see how the server does may not ask');
is($node->safe_psql('store', q{SET ROLE watcher; SET search_path = ''; BEGIN READ ONLY; SELECT count(*) FILTER (WHERE severity = 'critical') FROM public.es_doctor()}), '0', 'a monitoring program may, read-only');
is(sql(q{CREATE SCHEMA evil; CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
	CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$; CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
	SET search_path = evil, pg_catalog, public; SELECT count(*) FILTER (WHERE severity OPERATOR(pg_catalog.=) 'critical') FROM public.es_doctor()}), '0', 'a search_path of somebody else changes nothing');
sql(q{INSERT INTO app.fails VALUES (true)});
sql(q{SELECT es_create_handler_projection('it''s "failing"', 'app."may ""fail"(es_event)'), es_append('bad-1', 'A')});
wait_until('a failure', sub { sql(q{SELECT count(*) FROM es_projections WHERE status = 'failed'}) });
unlike($node->safe_psql('store', q{SET ROLE watcher; SELECT string_agg(detail, ' ') FROM es_doctor()}), qr/secret is 42/, 'what handlers say of events is for who may read these');
sql(q{SELECT es_drop_projection('it''s "failing"')});
treat({ finding => 'a table is locked, and its subject was not looked at', severity => 'notice', names => qr/evidence: table eventstore.seals is locked by process/,
	plant => sub { $hold = hold('store', 'BEGIN; LOCK TABLE eventstore.seals;') } });
eval { let_go($hold) };
$hold = hold('store', 'BEGIN; LOCK TABLE eventstore.seals;');
my $began = time;
is(scalar(grep { $_->{finding} =~ /locked/ } findings($node, 'store')), 1, 'who locks a table holds up one subject');
cmp_ok(time - $began, '<', $PostgreSQL::Test::Utils::timeout_default, 'and nobody waits');
let_go($hold);
sql(by_hand('ALTER TABLE eventstore.grants RENAME TO grunts'));
{
	my @found = findings($node, 'store');
	my ($broken) = grep { $_->{finding} eq 'a subject could not be looked at' } @found;

	is($broken->{severity}, 'critical', 'what cannot be looked at is a finding');
	like($broken->{detail}, qr/^rights: error 42P01: .*eventstore\.grants/, 'and says why');
	is($node->safe_psql('store', q{SELECT count(*) > 14 FROM es_doctor() WHERE severity = 'ok'}), 't', 'the others come nevertheless');
	$planted{ $broken->{finding} } = $broken->{severity};
}
sql('ALTER TABLE eventstore.grunts RENAME TO grants');
is(sqlstates($node, 'store', q{SET statement_timeout = 1; SELECT count(*) FROM generate_series(1, 1000), es_doctor()}), '57014', 'it can be cancelled');

# ---- logical copies ----

$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->safe_psql('copy', 'CREATE EXTENSION eventstore');
treat({ finding => 'a publication lacks tables of the store', severity => 'warning', names => qr/Publication "some ""of" has some of its tables and not .*streams/,
	plant => 'CREATE PUBLICATION "some ""of" FOR TABLE eventstore.events, eventstore.seals' });
treat({ finding => 'the store is still being copied', severity => 'notice', names => qr/"copy ""it"/, database => 'copy',
	plant => sub {
		sql(q{SELECT pg_create_logical_replication_slot('copies', 'pgoutput')});
		$node->safe_psql('copy', sprintf(q{CREATE SUBSCRIPTION "copy ""it" CONNECTION '%s' PUBLICATION "some ""of" WITH (create_slot = false, slot_name = copies, enabled = false)}, $node->connstr('store') =~ s/'/''/gr));
	},
	before => sub {
		treat({ finding => 'the subscription of the store is disabled', severity => 'warning', names => qr/"copy ""it"/, database => 'copy' });
		# the server has no process left for it
		treat({ finding => 'the subscription of the store does not run', severity => 'warning', names => qr/"copy ""it"/, database => 'copy' });
	} });
treat({ finding => 'the subscription of the store lacks tables', severity => 'warning', names => qr/"copy ""it" does not bring subjects/, database => 'copy',
	plant => sub {
		sql('ALTER PUBLICATION "some ""of" DROP TABLE eventstore.subjects');
		$node->safe_psql('copy', 'ALTER SUBSCRIPTION "copy ""it" REFRESH PUBLICATION');
		sql('ALTER PUBLICATION "some ""of" ADD TABLE eventstore.subjects');
	} });
$node->safe_psql('copy', 'ALTER SUBSCRIPTION "copy ""it" DISABLE; ALTER SUBSCRIPTION "copy ""it" SET (slot_name = NONE); DROP SUBSCRIPTION "copy ""it"');
sql(q{SELECT pg_drop_replication_slot('copies')});

# ---- standbys ----

set('wal_keep_size', "'512MB'");
plain_store();
$standby = start_standby($node, "max_wal_senders = 10\nprimary_slot_name = ''\n");
treat({ finding => 'no standby is synchronous', severity => 'notice', names => qr/'standby'/ });
set('synchronous_standby_names', undef);
treat({ finding => 'nobody writes the mark that standbys read by', severity => 'notice', names => qr/up to position/,
	plant => sub { set('eventstore.settle_interval', 0); sql(q{SELECT es_append('a-1', 'A')}) } });
set('eventstore.settle_interval', undef);
treat({ finding => 'no walsender is free', severity => 'notice', names => qr/All 1 are/,
	plant => sub { set('max_wal_senders', 1); $node->restart },
	after => sub { set('max_wal_senders', 10); $node->restart } });
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
switch(4);
plant_case(my $far = { finding => 'a standby is far behind', severity => 'warning', names => qr/'standby' has/ });
see_case($far);
treat({ finding => 'replay is paused', severity => 'warning', names => qr/replayed up to/, on => $standby });
gone_case($far);
is($standby->safe_psql('store', q{SELECT count(*) > 14 FROM es_doctor() WHERE severity = 'ok'}), 't', 'it answers on a standby');
treat({ finding => 'this standby receives no WAL', severity => 'warning', names => qr/replayed up to/, on => $standby,
	plant => sub { $standby->safe_psql('postgres', q{ALTER SYSTEM SET primary_conninfo = 'port=1'}); $standby->reload },
	after => sub { $standby->safe_psql('postgres', q{ALTER SYSTEM RESET primary_conninfo}); $standby->reload } },
	{ finding => 'this standby receives no WAL', severity => 'warning', names => qr/replayed up to/, on => $standby, database => 'plain', leave => 1 });

# ---- a promotion ----

$node->wait_for_catchup($standby);
$node->stop('fast');
$standby->promote;
treat({ finding => 'a promotion has cut the log off', severity => 'notice', names => qr/to timeline 2, /, on => $standby, plant => q{SELECT es_append('a-1', 'A')},
	after => sub { system('touch', '-d', '8 days ago', $standby->data_dir . '/pg_wal/00000002.history') } });
$standby->stop;

# ---- the library ----

# An installation of its own, whose files may be replaced.
my $root = new_installation('server');
my $library = $root . $node->config_data('--pkglibdir') . '/eventstore.so';
my $own = new_node('own', install => $root, conf => "shared_preload_libraries = 'eventstore'\n");
new_store($own, 'store');
my $version = $own->safe_psql('store', q{SELECT extversion FROM pg_extension WHERE extname = 'eventstore'});
append_to_file($own->config_data('--sharedir') . "/extension/eventstore--0.0.9--$version.sql", "SELECT 1;\n");
treat(
	{ on => $own, finding => 'the library and the extension are of different versions', severity => 'warning', names => qr/The library is $version, the extension 0\.0\.9/, plant => q{UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'eventstore'} },
	{ on => $own, finding => 'the library on disk is another one than is loaded', severity => 'warning', names => qr/server was started/,
		plant => sub { system('bash', '-c', "cp -L $library $library.new && mv $library.new $library") } });
$own->stop;

# ---- more databases than there is room for ----

# Their files are not there, so each keeps its place: whether it has a store nobody can find out.
my $crowd = new_node('crowd', conf => "shared_preload_libraries = 'eventstore'\neventstore.max_workers = 4\nallow_system_table_mods = on\nautovacuum = off\n");
$crowd->safe_psql('postgres', 'CREATE EXTENSION eventstore');
treat({ on => $crowd, finding => 'more databases have a store than can be looked after', severity => 'warning', names => qr/this one came later/,
	plant => sub {
		$crowd->safe_psql('postgres', q{INSERT INTO pg_database SELECT (r).* FROM (SELECT jsonb_populate_record(d, jsonb_build_object('oid', 100000 + n, 'datname', 'crowd' || n)) AS r
			FROM pg_database d, generate_series(1, 1100) n WHERE d.datname = 'postgres') x});
		new_store($crowd, 'store');
		$crowd->restart;
		# by then all places are taken: there are 1,024, and these come in their order
		$crowd->wait_for_log(qr/base\/101020"/);
	},
	after => sub {
		$crowd->safe_psql('store', q{SELECT es_append('a-1', 'A')}) foreach 1 .. 2;
		is(scalar(() = slurp_file($crowd->logfile) =~ /more databases have an event store than can be looked after/g), 1, 'the log tells once who is left out');
		$crowd->safe_psql('postgres', q{DELETE FROM pg_database WHERE datname LIKE 'crowd%'});
	} });
wait_until('a worker', sub { $crowd->safe_psql('store', q{SELECT es_append('a-1', 'A'); SELECT looked_after FROM eventstore.worker_state()}) =~ /t$/ });
is($crowd->safe_psql('store', 'SELECT looked_after FROM eventstore.worker_state()'), 't', '... and when there is room the next session brings a worker');
$crowd->stop;

# ---- all of them ----

my %listed = map { /^\| (notice|warning|critical) \| ([^|]+) \|/ ? ($2 => $1) : () } split /\n/, slurp_file("$FindBin::RealBin/../../doc/eventstore.md");
is_deeply(\%planted, \%listed, 'each finding that the manual lists was planted, with its severity');
done_testing();
