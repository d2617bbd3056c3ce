# Prepared transactions that outlive a crash, a restart or a promotion hold back what
# follows their own first event, and nothing before it; whether they then commit or roll back,
# no event is skipped.  ES_SEED repeats a run, ES_PREPARED_STEPS makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use List::Util qw(min shuffle);
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $steps = $ENV{ES_PREPARED_STEPS} // 60;

# ---- what is written ----

# The state of one run: the server, who is prepared, with its first event, and who is in flight.
my ($node, $standby, %first, @open, $prepared_so_far);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub last_given { return sql('SELECT last_value FROM eventstore.position_seq'); }

sub append { sql(sprintf(q{SELECT es_append('plain-%d', 'T') FROM generate_series(1, %d)}, int(rand(4)), $_[0] // 1 + int(rand(6)))); }
sub roll_back { sql(q{BEGIN; SELECT es_append('undone-1', 'T') FROM generate_series(1, 2); ROLLBACK}); }

# A writer that will vanish: its positions are a hole.
sub open_writer
{
	push @open, $node->background_psql('postgres');
	$open[-1]->query_safe(sprintf(q{BEGIN; SELECT es_append('vanishing-%d', 'T');}, scalar @open));
}

# What a prepared transaction may have done; each prints the position of its first event, or nothing.
my %contents = (
	one => q{SELECT es_append('%s', 'T'), es_last_position() \gset x
		\echo :xes_last_position},
	many => q{SELECT es_append_batch('%s', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 170))), es_last_position() - 169 AS p \gset x
		\echo :xp},
	released => q{SAVEPOINT a; SELECT es_append('%s', 'T'), es_last_position() \gset x
		SAVEPOINT b; SELECT es_append('%s', 'U') \gset y
		RELEASE a;
		\echo :xes_last_position},
	undone_first => q{SAVEPOINT a; SELECT es_append('undone-p', 'T') \gset y
		ROLLBACK TO a; SELECT es_append('%s', 'T'), es_last_position() \gset x
		\echo :xes_last_position},
	all_undone => q{SAVEPOINT a; SELECT es_append('undone-p', 'T') FROM generate_series(1, 3) \g /dev/null
		ROLLBACK TO a;},
	# more subtransactions than a process keeps in memory; the first event is in one that is not kept
	overflown => (join '', map { "SAVEPOINT s$_; INSERT INTO other VALUES ($_); RELEASE s$_;\n" } (1 .. 100)) . q{SAVEPOINT a; SELECT es_append('%s', 'T'), es_last_position() \gset x
		RELEASE a;
		\echo :xes_last_position},
);

sub prepare
{
	my ($content) = @_;
	my $gid = 'p' . ++$prepared_so_far;
	my $stream = "prepared-$gid";
	my ($first) = sql("BEGIN;\n" . $contents{$content} =~ s/%s/$stream/gr . "\nPREPARE TRANSACTION '$gid';") =~ /(\d+)/;

	$first{$gid} = $first // 'none';
	note "$gid: $content, first event at $first{$gid}";
}

# ---- what is promised ----

# The settled position as prepared transactions let it be.
sub bound { return min(last_given(), map { $_ - 1 } grep { $_ ne 'none' } values %first); }

my (@seen, $at);

# A follower, which each time is a session of its own, or one that lasts.
sub follow
{
	my ($session) = @_;
	my $query = "SELECT coalesce(string_agg(position::text, ' ' ORDER BY position), '') FROM es_read_all($at, NULL)";
	my @got = split / /, $session ? $session->query_safe($query) : sql($query);

	push @seen, @got;
	$at = $got[-1] if @got;
}

# All that is there up to the bound is read, nothing after it, by sessions new and old.
sub check_bound
{
	my ($title, $lasting) = @_;
	my $bound = bound();

	is(sql('SELECT es_settled_position()'), $bound, "$title: settled up to the first prepared event");
	is($lasting->query_safe('SELECT es_settled_position()'), $bound, "$title: so does a session say that was there before") if $lasting;
	is(sql("SELECT es_wait(0, '10s')"), $bound, "$title: es_wait says so");
	is(sql('SELECT string_agg(position::text, $$ $$ ORDER BY position) FROM es_read_all(0, NULL)'),
		sql("SELECT string_agg(position::text, ' ' ORDER BY position) FROM es_events WHERE position <= $bound"), "$title: readers get what is before it");
	is(sql("SELECT count(*) FROM es_read_category('plain', 0, NULL, to_position => $bound)"),
		sql("SELECT count(*) FROM es_events WHERE position <= $bound AND stream LIKE 'plain-%'"), "$title: of a category, too");
}

# ---- runs ----

# Makes the server come back in another way; what was in flight is gone, what was prepared is there.
my %comes_back = (
	crash => sub { $node->stop('immediate'); $node->start; },
	restart => sub { $node->stop('fast'); $node->start; },
	promotion => sub {
		append(3);
		$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
		$node->stop('immediate');
		$standby->promote;
		$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
		$node = $standby;
	});

sub come_back
{
	my ($how) = @_;

	$comes_back{$how}->();
	$_->{run}->kill_kill foreach splice @open;
}

sub begin_run
{
	my ($name, $preloaded, $how) = @_;

	$node = new_node($name, streaming => 1, conf => "autovacuum = off\nmax_prepared_transactions = 60\n");
	preload($node, $preloaded);
	$node->restart;
	%first = @seen = ();
	$at = $prepared_so_far = 0;
	sql($_) foreach ('CREATE EXTENSION eventstore', 'SELECT es_set_segment_size(100)', 'CREATE TABLE other (i int)');
	append(5);

	# It could not start any more with as many subtransactions around as there will be.
	$standby = $how eq 'promotion' ? start_standby($node, undef, "standby_$preloaded") : undef;
}

sub end_run
{
	my ($title) = @_;

	follow();
	is(join(' ', @seen), join(' ', rows($node, 'postgres', 'SELECT position FROM es_events ORDER BY position')),
		"$title: a follower saw each event once, in order");
	is(sql('SELECT es_settled_position()'), last_given(), "$title: in the end all is settled");
	is(gaps($node, 'postgres'), '', "$title: versions have no gap");
	$node->stop;
}

# One of each content, after a hole and before an event; they end in the order of the hash.
sub run_each_content
{
	my ($how, $preloaded) = @_;
	my $title = "$how, " . ($preloaded ? 'preloaded' : 'not preloaded');

	begin_run("each_${how}_$preloaded", $preloaded, $how);
	open_writer();
	append();
	foreach my $content (sort keys %contents)
	{
		prepare($content);
		append();
		roll_back();
	}
	my $before = sql('SELECT es_settled_position()');
	come_back($how);
	check_bound("$title: at once");
	cmp_ok(bound(), '>', $before, "$title: the hole of who has vanished is passed");
	my $lasting = $node->background_psql('postgres');
	foreach my $gid (sort keys %first)
	{
		follow($lasting);
		sql((delete $first{$gid} eq 'none' || rand() < 0.5 ? 'ROLLBACK' : 'COMMIT') . " PREPARED '$gid'");
		append() if rand() < 0.5;
		check_bound("$title: after $gid", $lasting);
	}
	$lasting->quit;
	end_run($title);
}

# Many, at random, and the server comes back more than once.
sub run_at_random
{
	my ($preloaded) = @_;
	my $title = 'at random, ' . ($preloaded ? 'preloaded' : 'not preloaded');
	my @contents = sort keys %contents;

	begin_run("random_$preloaded", $preloaded, 'crash');
	for (1 .. $steps)
	{
		my $kind = rand();
		$kind < 0.3 ? append() : $kind < 0.4 ? roll_back() : $kind < 0.5 ? (@open < 5 && open_writer()) : $kind < 0.9 ? (keys %first < 50 && prepare($contents[ rand @contents ])) : follow();
	}
	my $lasting;
	my @ends = shuffle(sort keys %first);
	my @come_back = map { int(rand(@ends)) } (1, 2);
	foreach my $n (0 .. $#ends)
	{
		my $gid = $ends[$n];
		if ($n == 0 || grep { $_ == $n } @come_back)
		{
			$lasting->quit if $lasting;
			come_back((qw(crash restart))[ rand 2 ]);
			check_bound("$title, $n ended");
			$lasting = $node->background_psql('postgres');
		}
		follow(rand() < 0.5 ? $lasting : undef);
		sql((rand() < 0.5 ? 'ROLLBACK' : 'COMMIT') . " PREPARED '$gid'");
		delete $first{$gid};
		append() if rand() < 0.3;
		open_writer(), follow() if rand() < 0.2 && @open < 5;
		prepare($contents[ rand @contents ]) if rand() < 0.3 && !@open;
		is($lasting->query_safe('SELECT es_settled_position()') <= bound() ? 't' : 'f', 't', "$title: nothing prepared is passed, $gid ended");
	}
	$_->quit foreach splice @open;
	sql("ROLLBACK PREPARED '$_'") foreach keys %first;
	%first = ();
	$lasting->quit;
	end_run($title);
}

# A segment that the prepared transaction has made itself is not there for others.
sub run_own_segment
{
	my ($end) = @_;
	my $title = "in a segment of its own, $end";

	begin_run("own_$end", 0, 'crash');
	$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
	$node->restart;
	open_writer();
	append(1) while sql("SELECT max(last_position) <> (SELECT last_value FROM eventstore.position_seq) FROM es_segments") eq "t";
	my $full = last_given();
	my $segments = sql('SELECT count(*) FROM es_segments');
	prepare('one');
	is($first{p1}, $full + 1, "$title: its first event is in the segment after the last");
	come_back('crash');
	is(sql('SELECT count(*) FROM es_segments'), $segments, "$title: which nobody sees");
	check_bound("$title: at once");
	follow();
	sql("$end PREPARED 'p1'");
	%first = ();
	append(3);
	end_run($title);
}

# What a look has found is kept: for the session, and, preloaded, for all.
sub run_long_log
{
	my ($preloaded) = @_;
	my $title = 'many rows, ' . ($preloaded ? 'preloaded' : 'not preloaded');

	begin_run("long_$preloaded", $preloaded, 'crash');
	open_writer();
	append(3000);
	prepare('one');
	append(100);
	come_back('crash');
	my $scans = q{SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE schemaname = 'eventstore' AND relname LIKE 'events\_%'};
	my $session = $node->background_psql('postgres');
	$session->query_safe('SELECT es_settled_position()');
	$session->query_safe('SELECT pg_stat_force_next_flush()');
	my $found = sql($scans);
	cmp_ok($found, '>', 0, "$title: the log is searched");
	$session->query_safe('SELECT es_settled_position() FROM generate_series(1, 5)');
	$session->query_safe('SELECT pg_stat_force_next_flush()');
	is(sql($scans), $found, "$title: once a session");
	sql('SELECT es_settled_position(); SELECT pg_stat_force_next_flush()');
	$preloaded ? is(sql($scans), $found, "$title: and once in all") : cmp_ok(sql($scans), '>', $found, "$title: and once by the next");
	check_bound($title, $session);
	$session->quit;
	sql(q{COMMIT PREPARED 'p1'});
	%first = ();
	end_run($title);
}

foreach my $preloaded (0, 1)
{
	run_each_content($_, $preloaded) foreach sort keys %comes_back;
	run_at_random($preloaded);
	run_long_log($preloaded);
}
run_own_segment($_) foreach ('COMMIT', 'ROLLBACK');
done_testing();
