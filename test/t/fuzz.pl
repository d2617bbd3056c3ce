# Random calls of all that there is, by roles of every kind, from every place, several sessions at once, while backends
# are cancelled and ended, indexes are built anew, and sqlsmith asks what it likes.  No crash, no internal error, no
# session that does not answer, no memory, lock or file that is left, and what was there before is there afterwards.
#
# For ES_FUZZ_SECONDS (10), which test/fuzz counts in minutes.  ES_SEED says what is called; ES_FUZZ_ONLY=N runs the N-th
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

my $seconds = $ENV{ES_FUZZ_SECONDS} // 10;
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

# what each session looks at itself by: used memory, RssAnon, open files, locks, temporary files; memory without what is
# kept of relations, which the server never bounds, and table/kept.c does
my $looks = q{
	CREATE SCHEMA fuzz;
	CREATE FUNCTION fuzz.look() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog SET work_mem = '16MB' AS $$
		SELECT concat_ws(' ', (SELECT sum(used_bytes) FROM pg_backend_memory_contexts WHERE name NOT IN ('CacheMemoryContext', 'index info', 'relation rules', 'partition descriptor', 'partition key', 'eventstore table')), substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)'), (SELECT count(*) FROM pg_ls_dir('/proc/self/fd')),
			(SELECT coalesce(string_agg(concat_ws('/', locktype, mode, relation::regclass, classid, objid), ','), '-') FROM pg_locks WHERE pid = pg_backend_pid() AND mode NOT IN ('AccessShareLock', 'SIReadLock') AND locktype <> 'virtualxid'),
			(SELECT coalesce(string_agg(name, ','), '-') FROM pg_ls_tmpdir() WHERE name LIKE 'pgsql_tmp' || pg_backend_pid() || '.%'))$$;
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
my $rights = q{SELECT es_grant('fuzz_admin', 'admin'), es_grant('fuzz_of_a', 'admin', 'a'), es_grant('fuzz_of_a', 'append', 'a'), es_grant('fuzz_of_a', 'read', 'a'), es_grant('fuzz_reader', 'read', 'a'), es_grant('fuzz_writer', 'append', 'a'), es_grant('fuzz_smith', 'read', 'a'), es_grant('fuzz_smith_admin', 'admin')};

# make_store(): with an owner who is no superuser, once it is made
sub make_store
{
	my %made;

	sql("CREATE ROLE $_ LOGIN " . (/super|owner/ ? 'SUPERUSER' : '')) foreach grep { !$made{$_}++ } @roles, 'fuzz_smith', 'fuzz_smith_admin';
	sql('GRANT pg_monitor TO fuzz_monitor; ALTER DATABASE store OWNER TO fuzz_owner; SET SESSION AUTHORIZATION fuzz_owner; CREATE EXTENSION eventstore; SELECT es_set_segment_size(500)');
	sql($_) foreach grep { !/^\s*CREATE EXTENSION/ } sample_store();
	sql(q{SELECT count(es_append(c || '-' || n % 7, 'T' || n % 3, jsonb_build_object('n', n, 'x', repeat('y', n % 90)), jsonb_build_object('tags', ARRAY['t' || n % 5]))) FROM generate_series(1, 700) n, unnest('{fixed,a}'::text[]) c});
	sql(q{SELECT es_set_retention('fixed', max_count => 1000000), es_seal(), es_create_projection('mine', 'count', 'inline', 'b'), es_create_feed('f')} =~ s/, es_create_feed.*//r);
	sql(q{SELECT es_create_feed('f')});
	sql($looks);
	sql($rights);
	sql('ALTER ROLE fuzz_owner NOSUPERUSER; CREATE EXTENSION amcheck');
	sql("ALTER ROLE $_ SET log_min_messages = fatal") foreach grep { !/smith/ } keys %made;
	sql(qq{ALTER ROLE $_ SET statement_timeout = '2s'}) foreach qw(fuzz_smith fuzz_smith_admin);
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
	my $script = "SET application_name = 'fuzz $name';\n\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\nSET statement_timeout = '3s';\nSET client_min_messages = warning;\n$settings";
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
my (%states, $calls, @suspects, %lost);

# judge(script, errors): what a session said, and what it looked like
sub judge
{
	my ($script, $err) = @_;
	my $who = "session $script->{number} as $script->{role}";
	my @parts = split /^item (\d+)$/m, $err;
	my @looks = map { [split] } $err =~ /^look (\d.*)$/mg;

	shift @parts;
	while (my ($i, $said) = splice @parts, 0, 2)
	{
		$calls++;
		$states{$_}++ foreach $said =~ /ERROR:  (\w{5})/g;
		found("$who: $1", "$script->{settings}$script->{items}[$i]$said") if $said =~ /($internal|$left)/;
	}
	$lost{ $script->{number} } = [ "$who has lost its connection", substr($err, -2000) ] if $err !~ /^end$/m;
	my ($kept) = grep { $_->[3] ne '-' || $_->[4] ne '-' } @looks;
	# es_hold_events holds one until the session's end
	found("$who has left locks or temporary files: @$kept", join '', $script->{settings}, @{ $script->{items} }) if $kept && "@{ $script->{items} }" !~ /es_hold_events/;
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

my $many = $seconds > 60 ? 50 : 25;

# start_leaks(script): has each of its statements called many times, over and over
sub start_leaks
{
	my ($script) = @_;

	# for each new table the server's own caches keep something
	$script->{again} = [ grep { !/PREPARE TRANSACTION|repeat\('x', 2|CREATE / } @{ $script->{items} } ];
	$script->{psql} = run_psql($script->{role}, session('leak', "$script->{settings}SET statement_timeout = '300ms';\n", "\\o /dev/null\n", map { ([ ($_) x $many ]) x 6 } @{ $script->{again} }));
	return $script;
}

# finish_leaks(script): of each the bytes that a call keeps, if that goes on
sub finish_leaks
{
	my ($script) = @_;
	my @looks = map { [split] } (finish_script($script->{psql}))[1] =~ /^look (\d.*)$/mg;
	my @leaks;

	$calls += $many * @looks;
	while (my @of = splice @looks, 0, 6)
	{
		# what others do to caches comes and goes
		my ($used) = sort { $a <=> $b } map { ($of[$_][0] - $of[ $_ - 1 ][0]) / $many } 2 .. $#of;
		my ($rss) = sort { $a <=> $b } map { 1024 * ($of[$_][1] - $of[ $_ - 1 ][1]) / $many } 2 .. $#of;

		push @leaks, @of < 6 ? 0 : $used > 40 ? $used : $rss > 100_000 ? $rss : 0;
	}
	return @leaks;
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

# start_smith(number): sqlsmith, by turns as one who may read some and as one who may all; it rolls back what it does
sub start_smith
{
	my ($number) = @_;

	$smith = start_process([ 'sqlsmith', '--target=' . $node->connstr('store') . ' user=fuzz_smith' . ($number % 2 ? '_admin' : ''), '--seed=' . ($seed + $number), '--exclude-catalog', '--max-queries=2000' ], $smith{out}, $smith{err});
	return;
}

# run(): sessions until the time has come
sub run
{
	my (%running, $beside);
	my ($number, $smiths, $until, $looked) = (0, $seed % 2, time + $seconds, time);

	start_smith($smiths);
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
		start_smith(++$smiths) if !$smith->pumpable && time < $until;
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

# keepers(script): of its statements those that kept memory, each as a script of its own
sub keepers
{
	my ($script) = @_;
	my @items = @{ $script->{again} };
	my @leaks = finish_leaks($script);

	return map { { %$script, items => [ $items[$_] ] } } grep { $leaks[$_] } 0 .. $#leaks;
}

# look_for_leaks(): all functions as they should be called, and calls that sessions have grown by, many times each
sub look_for_leaks
{
	my $until = time + $seconds / 3;
	my @ordinary = sort { rand() <=> 0.5 } map { my $routine = $_; statement($routine, map { usual($routine, $_) } @{ $routine->{args} }) . ";\n" } grep { $_->{name} !~ /^es_(?:detach_segments|rotate_master_key)$/ } @routines;
	my @some = map { { role => 'fuzz_owner', settings => '', number => 0, items => [$_] } } @ordinary;
	my (%running, @keepers);
	my $looked = 0;

	push @some, @suspects;
	while (@some && time < $until || %running)
	{
		foreach my $slot (1 .. $sessions)
		{
			# some of its statements may wait each time
			$running{$slot}{psql}{handle}->kill_kill if $running{$slot} && time > $until + $seconds / 10;
			push @keepers, keepers(delete $running{$slot}) if $running{$slot} && !$running{$slot}{psql}{handle}->pumpable;
			$running{$slot} = start_leaks(shift @some), $looked++ if !$running{$slot} && @some && time < $until;
		}
		usleep(10_000);
	}
	# what others make and drop fills caches; so once more, with nobody beside
	foreach my $script (@keepers)
	{
		my ($kept) = finish_leaks(start_leaks($script));

		found(sprintf('session %d as %s: each call keeps %d bytes', $script->{number}, $script->{role}, $kept), "$script->{settings}$script->{items}[0]") if $kept;
	}
	diag(sprintf('looked for leaks in %d of %d functions, and in %d of %d sessions that had grown', $looked > @ordinary ? scalar(@ordinary) : $looked, scalar(@ordinary), $looked > @ordinary ? $looked - @ordinary : 0, scalar(@suspects)));
	return;
}

# read_log(): what the server has logged that it should not; sqlsmith has the server's own functions raise what it likes
sub read_log
{
	my $log = slurp_file($node->logfile);
	my $ours = qr/LOCATION: .*\b(?:es_|eventstore)|\/src\//;

	# told to end; psql may not have read that before it saw that the connection was gone
	delete @lost{ $log =~ /^\d+\|fuzz (\d+)\|[^|]*\|FATAL:  57P01/mg };
	found(@{ $lost{$_} }) foreach sort { $a <=> $b } keys %lost;
	found('the server has crashed', $1) if $log =~ /(.*(?:was terminated by signal|TRAP: |\|PANIC: )(?:.*\n){1,8})/;
	while ($log =~ /^(\d+\|[^|]*\|[^|]*\|(?:$internal|$left)(?:\n.*){0,4})/mg)
	{
		my $entry = $1;

		found("the server's log", $entry) if $entry !~ /^\d+\|[^|]*\|fuzz_smith/ || $entry =~ $ours;
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
diag(sprintf('%d calls in %d sessions, %s; errors: %s; sqlsmith: %d', $calls, $number, $preloaded ? 'preloaded' : 'not preloaded', $summary, scalar(() = slurp_file($node->logfile) =~ /\|fuzz_smith\w*\|ERROR/g)));
is(scalar(@findings), 0, 'no crash, no internal error, nothing left over, no session without an answer');
cmp_ok($calls, '>', 100, 'there were calls');
is($states{'00000'} // 0, 0, 'all errors have a code');

# ---- the store afterwards ----

is(digest(), $digest, 'what was there is as it was');
is(gaps($node, 'store'), '', 'versions have no gaps');
is(sql('SELECT * FROM es_verify()'), '', 'the log is as it was sealed');
is(sql(q{SELECT count(bt_index_check(indexrelid, true)) > 20 FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam WHERE indisvalid AND amname = 'btree' AND c.relkind = 'i' AND c.relnamespace = 'eventstore'::regnamespace}), 't', 'indexes have all rows');
$node->restart;
is(digest(), $digest, '... after a restart, too');
is(sql(q{SELECT es_append('new-1', 'T')}), '1', 'the store goes on');

done_testing();
