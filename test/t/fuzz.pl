# Random calls of all that there is, by roles of every kind, from every place, several sessions at once, while backends
# are cancelled and ended, indexes are built anew, and sqlsmith asks what it likes.  No crash, no internal error, no
# session that does not answer, no memory, lock or file that is left, and what was there before is there afterwards.
#
# For ES_FUZZ_SECONDS (12), which test/fuzz counts in minutes.  ES_SEED says what is called; ES_FUZZ_ONLY=N runs the N-th
# session's statements only, and nothing beside.  What a finding's session has run is kept beside the server's log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFuzz;
use EventstoreSamples;
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{ES_FUZZ_SECONDS} // 12;
my $sessions = $ENV{ES_FUZZ_SESSIONS} // 3;
my $items = 12;
my $rounds = 4;
my $seed = seed();
my $preloaded = $ENV{ES_FUZZ_PRELOAD} // $seed % 2;
my @roles = qw(fuzz_super fuzz_super fuzz_owner fuzz_owner fuzz_monitor fuzz_admin fuzz_admin fuzz_of_a fuzz_reader fuzz_writer fuzz_nobody);
my $node = new_node('main', streaming => 'logical', conf => "max_connections = 80\nmax_replication_slots = 40\nmax_wal_senders = 5\nmax_slot_wal_keep_size = '1GB'\n"
	  . "max_worker_processes = 16\nmax_prepared_transactions = 40\neventstore.max_wait = '100ms'\neventstore.retry_delay = '100ms'\nautovacuum_naptime = '1s'\n"
	  . "log_error_verbosity = verbose\nlog_line_prefix = '%p|%a|%u|'\n" . ($preloaded ? "shared_preload_libraries = 'eventstore'\n" : ''));
my $parallel = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
my @findings;

# found(what, told): a finding, shown at once
sub found
{
	my ($what, $told) = @_;

	push @findings, "$what\n$told";
	diag("FOUND: $what\n$told") if @findings <= 20;
	return;
}

# sql(statements): as the superuser; dies if that fails
sub sql { return $node->safe_psql('store', $_[0]); }

# ---- the store ----

# what each session looks at itself by: used memory, RssAnon, open files, locks, temporary files
my $looks = q{
	CREATE SCHEMA fuzz;
	CREATE FUNCTION fuzz.look() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
		SELECT concat_ws(' ', (SELECT sum(used_bytes) FROM pg_backend_memory_contexts), substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)'), (SELECT count(*) FROM pg_ls_dir('/proc/self/fd')),
			(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode <> 'AccessShareLock' AND locktype <> 'virtualxid'),
			(SELECT count(*) FROM pg_ls_tmpdir() WHERE name LIKE 'pgsql_tmp' || pg_backend_pid() || '.%'))$$;
	CREATE FUNCTION fuzz.caught(statement text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE statement;
		RETURN 'done';
	EXCEPTION WHEN OTHERS OR assert_failure THEN
		IF SQLSTATE ~ '^(XX|58)' THEN RAISE; END IF;
		RETURN SQLSTATE;
	END$$;
	CREATE FUNCTION fuzz.fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE NEW.statement; RETURN NULL; END$$;
	CREATE TABLE fuzz.fired (statement text);
	CREATE TRIGGER fire BEFORE INSERT ON fuzz.fired FOR EACH ROW EXECUTE FUNCTION fuzz.fire();
	CREATE TABLE fuzz.fired_late (statement text);
	CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON fuzz.fired_late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fuzz.fire();
	CREATE TABLE fuzz.big AS SELECT n FROM generate_series(1, 2000) n;
	GRANT ALL ON SCHEMA fuzz, public TO PUBLIC;
	GRANT ALL ON ALL TABLES IN SCHEMA fuzz TO PUBLIC};
my $rights = q{SELECT es_grant('fuzz_admin', 'admin'), es_grant('fuzz_of_a', 'admin', 'a'), es_grant('fuzz_of_a', 'append', 'a'), es_grant('fuzz_of_a', 'read', 'a'), es_grant('fuzz_reader', 'read', 'a'), es_grant('fuzz_writer', 'append', 'a'), es_grant('fuzz_smith', 'read', 'a')};

# make_store(): with an owner who is no superuser, once it is made
sub make_store
{
	my %made;

	sql("CREATE ROLE $_ LOGIN " . (/super|owner/ ? 'SUPERUSER' : '')) foreach grep { !$made{$_}++ } @roles, 'fuzz_smith';
	sql('GRANT pg_monitor TO fuzz_monitor; ALTER DATABASE store OWNER TO fuzz_owner; SET SESSION AUTHORIZATION fuzz_owner; CREATE EXTENSION eventstore; SELECT es_set_segment_size(500)');
	sql($_) foreach grep { !/^\s*CREATE EXTENSION/ } sample_store();
	sql(q{SELECT count(es_append(c || '-' || n % 7, 'T' || n % 3, jsonb_build_object('n', n, 'x', repeat('y', n % 90)), jsonb_build_object('tags', ARRAY['t' || n % 5]))) FROM generate_series(1, 700) n, unnest('{fixed,a}'::text[]) c});
	sql(q{SELECT es_set_retention('fixed', max_count => 1000000), es_seal(), es_create_projection('mine', 'count', 'inline', 'b'), es_create_feed('f')} =~ s/, es_create_feed.*//r);
	sql(q{SELECT es_create_feed('f')});
	sql($looks);
	sql($rights);
	sql('ALTER ROLE fuzz_owner NOSUPERUSER; CREATE EXTENSION amcheck');
	sql("ALTER ROLE $_ SET log_min_messages = fatal") foreach grep { !/smith/ } keys %made;
	sql(q{ALTER ROLE fuzz_smith SET statement_timeout = '2s'});
	return;
}

# digest(): what nothing may change
sub digest { return sql(q{SELECT count(*), md5(string_agg(e::text, '' ORDER BY position)) FROM es_events e WHERE stream LIKE 'fixed-%' AND position <= 1500}); }

$node->safe_psql('postgres', 'CREATE DATABASE store');
make_store();
my @routines = routines($node, 'store');
my $digest = digest();

# ---- sessions ----

# script(number): what the session of that number does, over and over, with what it looks like in between
sub script
{
	my ($n) = @_;

	srand($seed + 7919 * $n);
	my $role = pick(@roles);
	my $settings = join('', fuzz_settings());
	my @items = map { fuzz_item(\@routines, "fuzz-$n-$_", $parallel) } 1 .. $items;
	return { number => $n, role => $role, settings => $settings, items => \@items, sql => session($n, $settings, ("\\o /dev/null\n", map { ($_, \@items) } 1 .. $rounds)) };
}

# session(name, settings, what...): a psql script; of what is done, lists are items, to be told apart by what psql warns of
sub session
{
	my ($name, $settings, @what) = @_;
	my $script = "SET application_name = 'fuzz $name';\n\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\nSET statement_timeout = '8s';\nSET client_min_messages = warning;\n$settings";
	my $look = "ROLLBACK;\n\\o\nSELECT fuzz.look() AS look \\gset\n\\warn look :look\n\\o /dev/null\n";

	foreach my $what (@what)
	{
		$script .= ref $what ? join('', map { "\\warn item $_\n$what->[$_]ROLLBACK;\n" } 0 .. $#$what) . $look : $what =~ /^\d+$/ ? '' : $what;
	}
	return "$script\\warn end\n";
}

# run_psql(role, sql): starts psql on a script as that role
sub run_psql
{
	my ($role, $sql) = @_;

	return start_script($node, 'store', $sql, '-U', $role);
}

# the SQLSTATEs of a bug, and what the server warns of when something is left
my $internal = qr/(?:ERROR|FATAL|PANIC):  (?:XX|58)\w{3}: .*|PANIC: .*|(?:cache lookup failed|could not open relation with OID).*/;
my $left = qr/WARNING: .*(?:leak|was not closed|don't own|AbortTransaction|non-empty|problem in alloc|detected write past|still referenced).*/;
my (%states, $calls, @suspects);

# judge(script, errors): what a session said, and what it looked like
sub judge
{
	my ($script, $err) = @_;
	my $who = "session $script->{number} as $script->{role}";
	my @parts = split /^item (\d+)$/m, $err;
	my @looks = map { [split] } $err =~ /^look (.*)$/mg;

	shift @parts;
	while (my ($i, $said) = splice @parts, 0, 2)
	{
		$calls++;
		$states{$_}++ foreach $said =~ /ERROR:  (\w{5})/g;
		found("$who: $1", "$script->{settings}$script->{items}[$i]$said") if $said =~ /($internal|$left)/;
	}
	my $ended = $err =~ /FATAL:  (?:57P01|57P02)/;
	found("$who ended", substr($err, -2000)) if !$ended && $err !~ /^end$/m && $err !~ /57P0[13]/;
	foreach my $look (@looks)
	{
		found("$who has left locks", join '', $script->{settings}, @{ $script->{items} }) if $look->[3];
		found("$who has left temporary files", join '', $script->{settings}, @{ $script->{items} }) if $look->[4];
	}
	push @suspects, $script if @looks == $rounds && grows(@looks);
	return;
}

# grows(looks): whether the last rounds took more than the ones before, in memory, or in open files
sub grows
{
	my @looks = @_[ -3 .. -1 ];

	foreach ([ 0, 20_000 ], [ 1, 2_000 ], [ 2, 10 ])
	{
		my ($i, $much) = @$_;

		return 1 if $looks[1][$i] - $looks[0][$i] > $much && $looks[2][$i] - $looks[1][$i] > $much;
	}
	return 0;
}

# leaks(role, settings, item): bytes that each of many more calls keeps, if that goes on
sub leaks
{
	my ($role, $settings, $item) = @_;
	my $many = $seconds > 60 ? 100 : 30;
	my $sql = session('leak', $settings, "\\o /dev/null\n", [ ($item) x $many ], [ ($item) x $many ], [ ($item) x $many ], [ ($item) x $many ]);
	my (undef, $err) = finish_script(run_psql($role, $sql));
	my @looks = map { [split] } $err =~ /^look (.*)$/mg;

	return 0 if @looks != 4;
	my @grown = map { ($looks[$_][0] - $looks[ $_ - 1 ][0]) / $many } 2, 3;
	my @rss = map { 1024 * ($looks[$_][1] - $looks[ $_ - 1 ][1]) / $many } 2, 3;
	$calls += 4 * $many;
	return $grown[0] > 40 && $grown[1] > 40 ? $grown[1] : $rss[0] > 30_000 && $rss[1] > 30_000 ? $rss[1] : 0;
}

# ---- what happens beside ----

my @upkeep = (
	q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'fuzz %' AND state = 'active' ORDER BY random() LIMIT 1},
	q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'fuzz %' AND state = 'active' ORDER BY random() LIMIT 1},
	q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'fuzz %' AND random() < 0.5 ORDER BY random() LIMIT 1},
	q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'eventstore%' AND random() < 0.2},
	q{SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE prepared < now() - interval '3 s' \gexec},
	q{SELECT es_attach_segment('eventstore.' || segment) FROM (SELECT 'events_' || segment AS segment FROM es_segments WHERE state = 'detached') s},
	q{SELECT format('SELECT es_drop_feed(%L)', feed) FROM es_feeds WHERE feed <> 'f' \gexec}, q{SELECT es_create_feed('f')},
	q{SELECT format('REINDEX INDEX CONCURRENTLY %s', indexrelid::regclass) FROM pg_index WHERE indrelid::regclass::text LIKE 'eventstore.%' ORDER BY random() LIMIT 1 \gexec},
	q{SELECT format('VACUUM %s', oid::regclass) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'eventstore'::regnamespace ORDER BY random() LIMIT 1 \gexec},
	q{SELECT format('VACUUM FULL %s', oid::regclass) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'eventstore'::regnamespace AND random() < 0.2 ORDER BY random() LIMIT 1 \gexec},
	'ANALYZE eventstore.streams', 'CHECKPOINT', 'SELECT es_settle()', 'SELECT pg_reload_conf()', $rights);

# beside(): a session of the administrator; what is missing is there again afterwards
sub beside
{
	my @done = map { pick(@upkeep) } 1 .. 10;

	return join('', "SET application_name = 'upkeep';\n\\set VERBOSITY verbose\nSET statement_timeout = '5s';\nSET lock_timeout = '1s';\n\\o /dev/null\n", map { ("$_\n;\n" =~ s/(\\gexec)\n;/$1/r, sprintf("SELECT pg_sleep(%f);\n", rand 0.3)) } @done)
	  . join(";\n", grep { !/CREATE EXTENSION/ } sample_store()) . ";\n\\warn end\n";
}

# stuck(): sessions that their timeout does not reach
sub stuck
{
	my ($ret, $out) = $node->psql('postgres', q{SELECT pid, usename, wait_event, query FROM pg_stat_activity WHERE application_name LIKE 'fuzz %' AND state = 'active' AND clock_timestamp() - query_start > interval '60 s'});

	found('a session does not answer', $out) if $out ne '';
	return $out ne '';
}

# ---- the run ----

my $smith;
my %smith = (out => $node->basedir . '/smith.out', err => $node->basedir . '/smith.err');

# start_smith(): sqlsmith, as one who may read some
sub start_smith
{
	my ($number) = @_;

	$smith = start_process([ 'sqlsmith', '--target=' . $node->connstr('store') . ' user=fuzz_smith', '--seed=' . ($seed + $number), '--exclude-catalog' ], $smith{out}, $smith{err});
	return;
}

# run(): sessions until the time has come
sub run
{
	my (%running, $beside);
	my ($number, $until, $looked) = (0, time + $seconds, time);

	start_smith(0);
	while (time < $until || %running)
	{
		foreach my $slot (1 .. $sessions)
		{
			my $script = $running{$slot};

			if ($script && !$script->{psql}{handle}->pumpable)
			{
				judge($script, (finish_script($script->{psql}))[1]);
				delete $running{$slot};
			}
			next if $running{$slot} || time >= $until;
			$running{$slot} = script(++$number);
			$running{$slot}{psql} = run_psql($running{$slot}{role}, $running{$slot}{sql});
		}
		finish_script($beside), undef $beside if $beside && !$beside->{handle}->pumpable;
		srand($seed + time), $beside = run_psql('postgres', beside()) if !$beside && time < $until;
		start_smith($number) if !$smith->pumpable && time < $until;
		if (time > $looked + 10)
		{
			last if stuck();
			$looked = time;
		}
		usleep(20_000);
	}
	finish_script($beside) if $beside;
	return $number;
}

# settle(): ends what the sessions have left behind on purpose
sub settle
{
	$smith->kill_kill if $smith;
	sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename LIKE 'fuzz%'});
	$node->psql('store', q{SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \gexec});
	$node->psql('store', 'ALTER ROLE fuzz_owner SUPERUSER');
	sql(q{SELECT es_attach_segment('eventstore.events_' || segment) FROM es_segments WHERE state = 'detached'});
	return;
}

# look_for_leaks(): calls that sessions have grown by, and some others, many times each in a session of its own
sub look_for_leaks
{
	my $until = time + $seconds / 4;
	my @few = map { my $script = $_; map { [ $script, $_ ] } @{ $script->{items} } } @suspects;

	srand($seed);
	push @few, map { [ { role => 'fuzz_owner', settings => '', number => 0 }, statement($_, map { usual($_[0], $_) } @{ $_->{args} }) . ";\n" ] } sort { rand() <=> 0.5 } @routines;
	my $looked = 0;

	foreach (@few)
	{
		my ($script, $item) = @$_;

		last if time > $until;
		next if $item =~ /PREPARE TRANSACTION|repeat\('x', 2/;
		my $leak = leaks($script->{role}, $script->{settings}, $item);
		found(sprintf('session %d as %s: each call keeps %d bytes', $script->{number}, $script->{role}, $leak), "$script->{settings}$item") if $leak;
		$looked++;
	}
	note("$looked calls looked at for leaks, of " . scalar(@few));
	return;
}

# read_log(): what the server has logged that it should not; sqlsmith has the server's own functions raise what it likes
sub read_log
{
	my $log = slurp_file($node->logfile);
	my $ours = qr/LOCATION: .*\b(?:es_|eventstore)|\/src\//;

	found('the server has crashed', $1) if $log =~ /(.*(?:was terminated by signal|TRAP: |\|PANIC: )(?:.*\n){1,8})/;
	while ($log =~ /^(\d+\|([^|]*)\|[^|]*\|(?:$internal|$left)(?:\n.*){0,4})/mg)
	{
		my ($entry, $app) = ($1, $2);

		found("the server's log", $entry) if $app ne 'sqlsmith' && $app !~ /^psql$|^fuzz / && $app !~ /^$/ || $entry =~ $ours;
	}
	return;
}

my $number = 0;
if (defined $ENV{ES_FUZZ_ONLY})
{
	my $script = script($ENV{ES_FUZZ_ONLY});

	note($script->{sql});
	judge($script, (finish_script(run_psql($script->{role}, $script->{sql})))[1]);
}
else
{
	$number = run();
}
settle();
look_for_leaks();
read_log();
append_to_file($node->logfile, join("\n\n", '', @findings, ''));
my $summary = join(', ', map { "$_ $states{$_}" } (sort { $states{$b} <=> $states{$a} } keys %states)[ 0 .. 11 ]);
diag(sprintf('%d calls in %d sessions, %s; errors: %s; sqlsmith: %d', $calls, $number, $preloaded ? 'preloaded' : 'not preloaded', $summary, scalar(() = slurp_file($node->logfile) =~ /\|fuzz_smith\|ERROR/g)));
is(scalar(@findings), 0, 'no crash, no internal error, nothing left over, no session without an answer');
cmp_ok($calls, '>', 100, 'there were calls');
is($states{'00000'} // 0, 0, 'all errors have a code');

# ---- the store afterwards ----

is(digest(), $digest, 'what was there is as it was');
is(gaps($node, 'store'), '', 'versions have no gaps');
is(sql('SELECT * FROM es_verify()'), '', 'the log is as it was sealed');
is(sql(q{SELECT count(bt_index_check(indexrelid, true)) > 20 FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam WHERE amname = 'btree' AND c.relkind = 'i' AND c.relnamespace = 'eventstore'::regnamespace}), 't', 'indexes have all rows');
$node->restart;
is(digest(), $digest, '... after a restart, too');
is(sql(q{SELECT es_append('new-1', 'T')}), '1', 'the store goes on');

done_testing();
