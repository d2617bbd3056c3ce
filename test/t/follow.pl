# Followers under everything that can happen: writers commit, roll back, use
# savepoints, prepare and are terminated at random, the server crashes, a standby
# is promoted.  Every follower sees every committed event exactly once, in order,
# while transactions that append nothing stay open.  ES_SEED repeats a run;
# ES_FOLLOW_TXNS (transactions a writer), ES_FOLLOW_WRITERS and ES_FOLLOW_READERS
# make it longer.
#
# What is true is not asked of the log alone: each append writes a row of the
# table truth in its own (sub)transaction, and writers say which commits were
# acknowledged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

seed();
my $writers = $ENV{ES_FOLLOW_WRITERS} // 4;
my $readers = $ENV{ES_FOLLOW_READERS} // 6;
my $txns = $ENV{ES_FOLLOW_TXNS} // 150;
my $categories = 3;
my $deadline = $PostgreSQL::Test::Utils::timeout_default;

# What may happen to a client; anything else is a failure.
my $terminated = qr/terminating connection due to administrator command/;
my $crashed = qr/terminating connection (due to immediate shutdown|because of crash)|the database system is|connection to server|no connection to the server|server closed the connection/;
my $own_doing = qr/^(deadlock detected|current transaction is aborted|prepared transaction with identifier .* does not exist|savepoint "s" does not exist)/;

my $node = new_node('main', streaming => 1, conf => "max_worker_processes = 20\nshared_buffers = 64MB\nwal_writer_delay = 10s\nwal_writer_flush_after = 1GB\nwal_buffers = 16MB\nhot_standby_feedback = on\neventstore.settle_interval = '100ms'\n");
$node->safe_psql('postgres', 'CREATE TABLE other (n int)');

my $primary = $node;    # where one writes: the standby once it is promoted

# ---- the database ----

my $asynchronous = 0;    # nobody's commit is flushed but for readers

sub create_database
{
	my ($database) = @_;
	new_store($node, $database, $asynchronous ? 1_000_000 : 200 + int(rand(800)));
	$node->safe_psql($database, q{
		CREATE TABLE truth (stamp text, events int);
		CREATE TABLE other (n int);
		-- When writers have ended: the last position there is.
		CREATE TABLE control (ended boolean, upto bigint);
		INSERT INTO control VALUES (false, NULL);
		CREATE TABLE checkpoint (reader int PRIMARY KEY, cursor bigint);
		CREATE TABLE seen (reader int, nth bigserial, position bigint, stream text, version bigint, event_id uuid, stamp text);

		-- A consumer with its checkpoint in a table, as the manual has it: a page, checkpoint, commit, next page.
		CREATE PROCEDURE follow(reader int, kind text, category text, page bigint) LANGUAGE plpgsql AS $$
		DECLARE
			at bigint; settled bigint; rows bigint; last bigint; over boolean;
		BEGIN
			LOOP
				SELECT c.cursor INTO at FROM checkpoint c WHERE c.reader = follow.reader;
				settled := greatest(at, es_settled_position());
				WITH page AS (
					INSERT INTO seen
					SELECT follow.reader, nextval('seen_nth_seq'), e.position, e.stream, e.version, e.event_id, e.data ->> 'stamp'
					FROM es_read_all(at, page) e WHERE kind = 'all'
					UNION ALL
					SELECT follow.reader, nextval('seen_nth_seq'), e.position, e.stream, e.version, e.event_id, e.data ->> 'stamp'
					FROM es_read_category(category, at, page, to_position => settled) e WHERE kind = 'category'
					RETURNING position)
				SELECT count(*), max(position) INTO rows, last FROM page;
				IF kind = 'category' AND rows < page THEN last := settled; END IF;
				IF last > at THEN
					at := last;
					UPDATE checkpoint c SET cursor = at WHERE c.reader = follow.reader;
				END IF;
				SELECT c.ended AND at >= c.upto INTO over FROM control c;
				COMMIT;
				EXIT WHEN over;
				IF rows = 0 THEN
					PERFORM es_wait(greatest(at, settled), '100ms');
					COMMIT;
				END IF;
			END LOOP;
		END
		$$;

		-- Terminates clients at random while writers write.
		CREATE PROCEDURE terminate(seed float8, rest float8) LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM setseed(seed);
			WHILE NOT (SELECT ended FROM control) LOOP
				COMMIT;
				PERFORM pg_sleep(rest * random());
				PERFORM pg_terminate_backend(pid) FROM (
					SELECT pid FROM pg_stat_activity
					WHERE datname = current_database() AND application_name ~ CASE WHEN random() < 0.7 THEN '^writer ' ELSE '^reader ' END
					ORDER BY random() LIMIT 1) victim;
			END LOOP;
		END
		$$;

		CREATE TABLE consumed (reader int, nth bigserial, member text, partition int, attempt int, position bigint, stream text, version bigint, event_id uuid, stamp text);
		CREATE TABLE fenced (reader int, member text);

		-- A member of a subscription.  rest: now and then it sleeps that long over what it got, past its lease.
		CREATE PROCEDURE consume(reader int, category text, member text, page int, lease interval, rest float8) LANGUAGE plpgsql AS $$
		DECLARE
			subscription text := 'subscription ' || reader; got es_delivery[]; detached boolean := random() < 0.5; ready boolean; over boolean;
		BEGIN
			LOOP
				SELECT array_agg(d) INTO got FROM es_poll(subscription, page, CASE WHEN detached THEN '0' ELSE '50ms' END::interval, member, lease) d;
				IF random() < 0.1 THEN got := got[1 : 1 + (random() * cardinality(got))::int]; END IF;
				IF rest > 0 AND random() < least(0.1, 0.01 + page * 0.001) THEN
					COMMIT;
					PERFORM pg_sleep(rest);
				END IF;
				BEGIN
					INSERT INTO consumed SELECT consume.reader, nextval('consumed_nth_seq'), consume.member, d.partition, d.attempt,
						d.position, d.stream, d.version, d.event_id, d.data ->> 'stamp' FROM unnest(got) d;
					PERFORM es_ack(subscription, d.partition, max(d.position), member) FROM unnest(got) d GROUP BY d.partition ORDER BY d.partition;
				EXCEPTION WHEN SQLSTATE 'VE007' THEN
					IF rest = 0 THEN RAISE; END IF;
					INSERT INTO fenced VALUES (reader, member);
				END;
				COMMIT;
				IF got IS NULL THEN
					SELECT c.ended AND (SELECT count(*) FROM consumed e WHERE e.reader = consume.reader)
						>= (SELECT count(*) FROM es_events e WHERE category IN ('', split_part(e.stream, '-', 1))) INTO over FROM control c;
					COMMIT;
					EXIT WHEN over;
					IF detached THEN CALL es_poll_wait(subscription, '50ms', ready); END IF;
				END IF;
			END LOOP;
		END
		$$;
	});
}

# ---- writers ----

my %acked;     # group of stamps that commit together => what is known of it
my $stamps = 0;
my @left_prepared;

# One statement that appends n events with a stamp, and the truth about it.
sub append_sql
{
	my ($stamp, $stream, $n) = @_;
	my $how = $n > 1 ? rand(0.5) + 0.5 : rand();
	my $truth = "WITH truth AS (INSERT INTO truth VALUES ('$stamp', $n))";
	my $data = qq('{"stamp": "$stamp"}');
	return "$truth SELECT es_append('$stream', 'T', $data);\n" if $how < 0.4;
	return "$truth SELECT es_append('$stream', 'T', $data, event_id => gen_random_uuid());\n" if $how < 0.5;
	return "$truth SELECT es_append('$stream', 'T', $data) FROM generate_series(1, $n);\n" if $how < 0.6;
	return "$truth SELECT es_append_batch('$stream', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', $data\::jsonb)) FROM generate_series(1, $n)));\n" if $how < 0.75;
	return "$truth SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', '$stream', 'type', 'T', 'data', $data\::jsonb)) FROM generate_series(1, $n)));\n" if $how < 0.85;
	return "DO \$\$ BEGIN INSERT INTO truth VALUES ('$stamp', $n); INSERT INTO es_events (stream, type, data) SELECT '$stream', 'T', $data FROM generate_series(1, $n); END \$\$;\n";
}

# One transaction of a writer: its script.  A line "ack GROUP FAILED" follows what may have committed.
sub transaction
{
	my ($writer, $txn) = @_;
	my $kind = rand();
	my $prepare = $kind > 0.85 && !$asynchronous;
	my $group = "$writer->{database} $writer->{nr} $txn";
	my $sql = '';
	my $events = 0;
	# What is prepared stays on streams of this transaction's own: nobody else must wait for it.
	my $stream = sub { 'c_' . int(rand($categories)) . '-' . ($prepare ? "p-$writer->{nr}-$txn" : rand() < 0.2 ? 'shared' : "$writer->{nr}-" . int(rand(5))) };
	my $append = sub {
		my ($group) = @_;
		my $n = rand() < 0.6 ? 1 : 1 + int(rand(6));
		my $stamp = ++$stamps;
		$events += $n;
		push @{ $acked{$group}{$_[1] ? 'never' : 'stamps'} }, $stamp;
		return append_sql($stamp, $stream->(), $n);
	};
	my $nap = sub { rand() < 0.4 ? sprintf("SELECT pg_sleep(%.4f);\n", rand(0.01)) : '' };
	$acked{$group} = { writer => $writer, stamps => [], never => [] };
	if ($kind < 0.3) { $sql = $append->($group) . "\\echo ack $group :ERROR\n"; }
	else
	{
		my $commit = rand() < ($prepare ? 0.6 : 0.75);
		my $lost = !$commit && !$prepare;
		$sql = rand() < 0.2 ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\n" : "BEGIN;\n";
		# The transaction may be older than its first append, and have an xid.
		$sql .= "INSERT INTO other VALUES (1);\n" . $nap->() if rand() < 0.2;
		for (0 .. int(rand(3)))
		{
			my $sub = rand();
			if ($sub < 0.35)
			{
				my $undo = $sub < 0.25;
				$sql .= "SAVEPOINT s;\n" . $append->($group, $undo || $lost) . $nap->() . ($undo ? "ROLLBACK TO s;\n" . $nap->() : "RELEASE s;\n");
			}
			elsif ($sub < 0.42)
			{
				my $undone = $append->($group, 1) =~ s/;\n$//r;
				$sql .= "DO \$do\$ BEGIN EXECUTE \$undo\$$undone\$undo\$; RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END \$do\$;\n";
			}
			else { $sql .= $append->($group, $lost) . $nap->(); }
		}
		# After an error this one fails too.
		$sql .= "SELECT 1;\n\\set failed :ERROR\n";
		if ($prepare)
		{
			my $id = "follow $group";
			my $between = "$group between";
			# Should the writer not live to do it, whoever finds it prepared decides.
			$acked{$group}{rolls_back} = !$commit;
			$acked{$between} = { writer => $writer, stamps => [], never => [] };
			$sql .= "PREPARE TRANSACTION '$id';\n" . $nap->();
			if (rand() < 0.5)
			{
				push @{ $acked{$between}{stamps} }, ++$stamps;
				$events++;
				$sql .= append_sql($stamps, "c_0-$writer->{nr}-0", 1) . "\\echo ack $between :ERROR\n" . $nap->();
			}
			$sql .= ($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$id';\n";
		}
		else { $sql .= $commit ? "COMMIT;\n" : "ROLLBACK;\n"; }
		$sql .= "\\echo ack $group :failed:ERROR\n";
	}
	$acked{$group}{sql} = $sql;
	return { sql => "$sql\\echo txn $txn\n", events => $events, prepared => $prepare ? "follow $group" : undef };
}

# A writer, and what starts and judges its scripts.
sub writer
{
	my ($database, $nr, $count) = @_;
	my $writer = { name => "writer $nr", database => $database, nr => $nr, next => 0, async => $asynchronous || rand() < 0.4 };
	$writer->{txns} = [ map { transaction($writer, $_) } (0 .. $count - 1) ];
	$writer->{start} = sub {
		return start_script($primary, $database,
			"SET application_name = 'writer $nr';\n" . ($writer->{async} ? "SET synchronous_commit = off;\n" : '')
			. join('', map { $_->{sql} } @{ $writer->{txns} }[ $writer->{next} .. $count - 1 ]));
	};
	$writer->{judge} = sub {
		my ($out, $err) = @_;
		while ($out =~ /^(?:ack (.*?) ([a-z]+)|txn (\d+))$/mg)
		{
			if (defined $3) { $writer->{next} = $3 + 1; next; }
			$acked{$1}{acked} = $2 =~ /true/ ? 'failed' : 'committed';
		}
		foreach ($err =~ /ERROR:  (.*)/g)
		{
			fail("$writer->{name} failed: $_") unless $_ =~ $own_doing;
			$writer->{errors}{ s/\d+/N/gr }++;
		}
		return 1 if $writer->{next} == $count;
		# What it was at is neither repeated nor known; what it may have left prepared is ended a little later.
		my $left = $writer->{txns}[ $writer->{next}++ ]{prepared};
		push @left_prepared, { at => time + rand(0.3), database => $database, sql => (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$left'" } if $left;
		return $writer->{next} == $count;
	};
	return $writer;
}

sub events_of { my $n = 0; foreach my $w (@_) { $n += $_->{events} foreach @{ $w->{txns} }; } return $n; }

# ---- readers ----

my $pages = sub { (3, 20, 200)[ int(rand(3)) ] };
my $isolation = sub { rand() < 0.3 ? "SET default_transaction_isolation = 'repeatable read';\n" : '' };
my $commit = sub { $asynchronous || rand() < 0.4 ? "SET synchronous_commit = off;\n" : '' };

# A follower with its checkpoint in a table.
sub table_reader
{
	my ($database, $nr, $kind) = @_;
	my $category = $kind eq 'category' ? 'c_' . int(rand($categories)) : '';
	my ($page, $set) = ($pages->(), $isolation->() . $commit->());
	$node->safe_psql($database, "INSERT INTO checkpoint VALUES ($nr, 0)");
	return { name => "reader $nr ($kind $category, checkpoint in a table)", nr => $nr, kind => $kind, category => $category, in_table => 1,
		start => sub { start_script($primary, $database, "SET application_name = 'reader $nr';\n${set}CALL follow($nr, '$kind', '$category', $page);\n\\echo end\n", '-v', 'ON_ERROR_STOP=1') },
		judge => sub { return $_[0] =~ /^end$/m; } };
}

# One that keeps its position itself: each line that it prints is an event, or where its cursor is.
sub client_reader
{
	my ($on, $database, $nr, $kind) = @_;
	my $category = $kind eq 'category' ? 'c_' . int(rand($categories)) : '';
	my ($page, $set) = ($pages->(), $isolation->());
	my $reader = { name => "reader $nr ($kind $category)", nr => $nr, kind => $kind, category => $category, cursor => 0, seen => [] };
	my $read = $kind eq 'all' ? 'es_read_all(:cursor, :page)' : "es_read_category('$category', :cursor, :page, to_position => :settled)";
	my $next = $kind eq 'all' ? 'coalesce(max(position), :cursor)' : 'CASE WHEN count(*) < :page THEN :settled ELSE max(position) END';
	my $base = PostgreSQL::Test::Utils::tempdir();
	my $wait = rand() < 0.5 ? 'CALL es_wait_for(:settled, \'100ms\') \\gset' : 'SELECT es_wait(:settled, \'100ms\') AS settled \\gset';
	append_to_file("$base/step", <<"SQL");
SELECT greatest(:cursor, es_settled_position()) AS settled \\gset
SELECT $next AS cursor, count(*) AS rows, count(*) > 0 AS any, count(*) = 0 AS none,
	coalesce(string_agg(concat_ws(' ', position, stream, version, event_id, data ->> 'stamp'), E'\\n'), '') AS got
FROM $read \\gset
\\if :any
\\echo :got
\\endif
\\echo cursor :cursor
SELECT ended AND :cursor >= upto AS over FROM control \\gset
\\if :none
$wait
\\endif
SQL
	$reader->{start} = sub {
		return start_script($on->(), $database,
			"SET application_name = 'reader $nr';\n$set\\set page $page\n\\set cursor $reader->{cursor}\n"
			. "\\i $base/step\n\\if :over\n\\echo end\n\\q\n\\endif\n" x 3000, '-v', 'ON_ERROR_STOP=1');
	};
	$reader->{judge} = sub {
		my ($out, $err) = @_;
		my @lines = split /\n/, $out;
		my $over = @lines && $lines[-1] eq 'end';
		pop @lines if $over;
		foreach (@lines)
		{
			if (/^cursor (\d+)$/) { $reader->{cursor} = $1; }
			elsif (/^(\d+) /) { push @{ $reader->{seen} }, $_; $reader->{cursor} = $1; }
			else { fail("$reader->{name} said: $_"); }
		}
		return $over;
	};
	return $reader;
}

# The members of a subscription.
sub members
{
	my ($database, $nr) = @_;
	my $sleepy = rand() < 0.5;
	my $category = rand() < 0.3 ? 'c_' . int(rand($categories)) : '';
	# Who sleeps over its lease may do so as often as it likes.
	$node->safe_psql($database, "SELECT es_subscribe('subscription $nr', partitions => 4" . ($category ? ", categories => '{$category}'" : '') . ($sleepy ? ', max_attempts => NULL' : '') . ')');
	return map {
		my ($page, $set, $member) = ($pages->(), $isolation->() . $commit->(), "m$_");
		my $how = $sleepy ? "'400ms', 0.6" : "'60s', 0";
		{ name => "reader $nr, member $member", nr => $nr, kind => 'poll', category => $category,
			start => sub { start_script($primary, $database, "SET application_name = 'reader $nr $member';\n${set}CALL consume($nr, '$category', '$member', $page, $how);\n\\echo end\n", '-v', 'ON_ERROR_STOP=1') },
			judge => sub { return $_[0] =~ /^end$/m; } }
	} (1 .. 3);
}

sub readers_of
{
	my ($database) = @_;
	return map {
		my $kind = $_ % 2 ? 'all' : 'category';
		$_ % 3 == 0 ? members($database, $_) : $_ % 3 == 1 ? table_reader($database, $_, $kind) : client_reader(sub { $node }, $database, $_, $kind)
	} (1 .. $readers);
}

# What terminates writers and readers at random.
sub terminator
{
	my ($on, $database) = @_;
	my $seed = rand();
	return { name => 'terminator',
		start => sub { start_script($on, $database, "CALL terminate($seed, 0.25);\n\\echo end\n", '-v', 'ON_ERROR_STOP=1') },
		judge => sub { return $_[0] =~ /^end$/m; } };
}

# ---- running them ----

# Clients that run; run(clients, tick) goes on until all are through, starts again those that were interrupted.
sub run_clients
{
	my ($clients, $goes_on, $crash_allowed, $tick) = @_;
	my $since = time;
	while (grep { $goes_on->($_) && !$_->{over} } @$clients)
	{
		foreach (grep { !$_->{over} } @$clients)
		{
			if ($_->{script})
			{
				next if $_->{script}{handle}->pumpable;
				look_at_end($_, $crash_allowed);
			}
			$_->{script} = $_->{start}->() unless $_->{over};
		}
		$primary->psql($_->{database}, $_->{sql}, stderr => \my $not_there) foreach grep { $_->{at} <= time } @left_prepared;
		@left_prepared = grep { $_->{at} > time } @left_prepared;
		$tick->() if $tick;
		usleep(10_000);
		if (time - $since > $deadline)
		{
			foreach (grep { !$_->{over} && $goes_on->($_) } @$clients)
			{
				fail("$_->{name} is through in time") unless $_->{late}++;
				$_->{script}{handle}->kill_kill if $_->{script};
				$_->{over} = 1;
			}
			# A procedure does not see that its client is gone.
			$primary->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^(reader|writer) '});
		}
	}
}

# A client's script ended.
sub look_at_end
{
	my ($client, $crash_allowed) = @_;
	my ($out, $err) = finish_script(delete $client->{script});
	my $refused = $client->{txns} ? 'FATAL' : 'FATAL|ERROR';
	my @unexpected = grep { !/$terminated/ && !($crash_allowed && /$crashed/) } $err =~ /(?:$refused):  (.*)/g;
	$client->{starts}++;
	$client->{over} = $client->{judge}->($out, $err);
	if (@unexpected || !$client->{over} && $err !~ /$terminated/ && !($crash_allowed && $err =~ /$crashed/) && $err ne '')
	{
		fail("$client->{name} failed") or diag $err;
		$client->{over} = 1;
	}
}

# Sessions that append nothing but have written, open for long: in this database and in another.
sub open_idle
{
	my ($database) = @_;
	my @sessions = map { $primary->background_psql($_) } ($database, 'postgres');
	$_->query_safe("SET application_name = 'idle'; BEGIN; INSERT INTO other VALUES (1);") foreach @sessions;
	return @sessions;
}

sub close_idle { $_->{run}->kill_kill foreach @_; }

# Readers are through, while those sessions are still there.
sub check_at_end
{
	my ($title, @clients) = @_;
	is(join(', ', map { $_->{name} } grep { $_->{late} } @clients), '', "$title: readers reach the end");
	is($primary->safe_psql('postgres', q{SELECT count(*), count(backend_xid) FROM pg_stat_activity WHERE application_name = 'idle' AND state = 'idle in transaction'}),
		'2|2', "$title: with other transactions open");
}

# After the writers: nothing is left prepared, and readers know what to reach.
sub end_writing
{
	my ($database, $on) = @_;
	# Who was terminated may not be gone yet.
	$on->poll_query_until($database, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'writer %'});
	@left_prepared = ();
	$on->safe_psql($database, (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_'")
	  foreach rows($on, $database, 'SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid');
	$on->safe_psql($database, 'UPDATE control SET (ended, upto) = (SELECT true, coalesce(max(position), 0) FROM es_events)');
}

# ---- checks ----

# The log, as the lines that readers print.
sub log_lines
{
	my ($on, $database, $where) = @_;
	return rows($on, $database,
		"SELECT concat_ws(' ', position, stream, version, event_id, data ->> 'stamp') FROM es_events WHERE " . ($where // 'true') . ' ORDER BY position');
}

sub of_category { my ($reader) = @_; return $reader->{category} eq '' ? 'true' : "split_part(stream, '-', 1) = '$reader->{category}'"; }

# What a follower must have seen, and what it saw, are the same lines in the same order.
sub check_lines
{
	my ($title, $expected, $got) = @_;
	my ($n, %seen) = (0);
	$n++ while $n < @$expected && $n < @$got && $expected->[$n] eq $got->[$n];
	ok($n == @$expected && $n == @$got, "$title: " . @$expected . ' events') or do
	{
		my %want = map { $_ => 1 } @$expected;
		$seen{$_}++ foreach @$got;
		diag "saw " . @$got . "; first difference: expected '" . ($expected->[$n] // 'end') . "', saw '" . ($got->[$n] // 'end') . "'";
		my %wrong = (missed => [ grep { !$seen{$_} } @$expected ], twice => [ grep { $seen{$_} > 1 } sort keys %seen ], 'not in the log' => [ grep { !$want{$_} } @$got ]);
		diag "$_: " . join(', ', splice @{ $wrong{$_} }, 0, 10) foreach sort keys %wrong;
	};
}

sub check_readers
{
	my ($title, $on, $database, @clients) = @_;
	my %polled;
	foreach my $reader (@clients)
	{
		my @expected = log_lines($on, $database, of_category($reader));
		if ($reader->{kind} eq 'poll')
		{
			next if $polled{ $reader->{nr} }++;
			check_lines("$title: subscription $reader->{nr} consumed every event once", \@expected,
				[ rows($on, $database, "SELECT concat_ws(' ', position, stream, version, event_id, stamp) FROM consumed WHERE reader = $reader->{nr} ORDER BY position, nth") ]);
			is($on->safe_psql($database, qq{
					SELECT count(*) FROM (SELECT version, lag(version, 1, 0::bigint) OVER (PARTITION BY stream ORDER BY nth) AS before FROM consumed WHERE reader = $reader->{nr}) c
					WHERE version <> before + 1}), '0', "$title: subscription $reader->{nr} consumed each stream in order");
			is($on->safe_psql($database, "SELECT count(*) FROM (SELECT FROM consumed WHERE reader = $reader->{nr} GROUP BY stream HAVING min(partition) <> max(partition)) c"),
				'0', "$title: subscription $reader->{nr} had each stream in one partition");
			is($on->safe_psql($database, "SELECT count(*), sum(parked) FROM es_subscriptions WHERE subscription = 'subscription $reader->{nr}'"),
				'4|0', "$title: subscription $reader->{nr} parked nothing");
			is($on->safe_psql($database, "SELECT count(*) FROM unnest('{m1,m2,m3}'::text[]) m, es_poll('subscription $reader->{nr}', member => m)"),
				'0', "$title: subscription $reader->{nr} has nothing left");
			note "$title: subscription $reader->{nr}: " . join ', ', rows($on, $database, "SELECT member || ' ' || count(*) FROM consumed WHERE reader = $reader->{nr} GROUP BY member ORDER BY member"),
			  $on->safe_psql($database, "SELECT count(*) FROM fenced WHERE reader = $reader->{nr}") . ' fenced';
			next;
		}
		my @got = $reader->{in_table}
		  ? rows($on, $database, "SELECT concat_ws(' ', position, stream, version, event_id, stamp) FROM seen WHERE reader = $reader->{nr} ORDER BY nth")
		  : @{ $reader->{seen} };
		check_lines("$title: $reader->{name} saw every event once, in order", \@expected, \@got);
	}
}

# The log and the truth about it; crashed: asynchronous commits may be lost.
sub check_log
{
	my ($title, $on, $database, $crashed) = @_;
	my %stored = map { split /\|/ } rows($on, $database, q{SELECT stamp, events FROM truth});
	my (@lost, @taken_back, @partly, @undone);
	is($on->safe_psql($database, q{
			SELECT count(*) FROM truth t FULL JOIN (SELECT data ->> 'stamp' AS stamp, count(*) FROM es_events GROUP BY 1) e USING (stamp)
			WHERE t.events IS DISTINCT FROM e.count}), '0', "$title: the log has what was committed, and nothing else");
	foreach my $name (sort grep { /^$database / } keys %acked)
	{
		my $group = $acked{$name};
		my $there = grep { $stored{$_} } @{ $group->{stamps} };
		my $known = $group->{acked} // '';
		push @undone, $name if grep { $stored{$_} } @{ $group->{never} };
		push @undone, $name if $there && ($known eq 'failed' || $known eq 'committed' && $group->{rolls_back});
		push @partly, $name if $there && $there < @{ $group->{stamps} };
		next unless $known eq 'committed' && !$group->{rolls_back} && $there < @{ $group->{stamps} };
		push @{ $crashed && $group->{writer}{async} ? \@taken_back : \@lost }, $name;
	}
	note "$title: " . @taken_back . ' asynchronous commits are lost' if $crashed;
	is("@lost", '', "$title: nothing acknowledged is lost");
	is("@partly", '', "$title: each transaction is there as a whole or not at all");
	is("@undone", '', "$title: nothing undone is there");
	diag join ' ', $_, 'said', $acked{$_}{acked} // 'nothing', ', there are', (grep { $stored{$_} } @{ $acked{$_}{stamps} }, @{ $acked{$_}{never} }), 'of', $acked{$_}{sql} // ''
	  foreach splice @{ [ @lost, @partly, @undone ] }, 0, 3;
	is(gaps($on, $database), '', "$title: versions have no gap");
	is($on->safe_psql($database, q{SELECT count(*) - count(DISTINCT position) FROM es_events}), '0', "$title: no position twice");
}

sub all_settled
{
	my ($title, $on, $database) = @_;
	is($on->safe_psql($database, 'SELECT es_settled_position() = (SELECT last_value FROM eventstore.position_seq)'), 't',
		"$title: all is settled with other transactions open");
}

# Nothing in the server's log but what clients did.
sub check_server
{
	my ($server) = @_;
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP|terminated by signal|\] ERROR:/, 'no background process failed on ' . $server->name);
}

sub say_how_it_went
{
	my ($title, $on, $database, @clients) = @_;
	my %errors;
	foreach my $writer (grep { $_->{txns} } @clients) { $errors{$_} += $writer->{errors}{$_} foreach keys %{ $writer->{errors} // {} }; }
	note "$title: " . $on->safe_psql($database, q{SELECT count(*) || ' events, ' || max(position) - count(*) || ' holes, ' || (SELECT count(*) FROM es_segments) || ' segments' FROM es_events});
	note "$title: " . join ', ', map { "$_->{name}: " . ($_->{starts} // 0) . ' starts' } @clients;
	note "$title: $errors{$_} × $_" foreach sort keys %errors;
}

# Tells, now and then, whether the log has come to a position.
my $looked = 0;
sub has_come_to
{
	my ($database, $position) = @_;
	return 0 if time - $looked < 0.1;
	$looked = time;
	return $primary->safe_psql($database, 'SELECT last_value FROM eventstore.position_seq') >= $position;
}

# ---- phase 1: with and without the library preloaded; phase 2: the server crashes ----

sub phase
{
	my ($title, $database, $crashes) = @_;
	my $began = time;
	create_database($database);
	my @idle = open_idle($database);
	my @writers = map { writer($database, $_, $txns) } (1 .. $writers);
	my @readers = readers_of($database);
	my $killer = terminator($node, $database);
	my @crash_at = map { (0.1 + 0.35 * ($_ - 1) + rand(0.3)) * 0.8 * events_of(@writers) } (1 .. $crashes);
	run_clients([ @writers, @readers, $killer ], sub { $_[0]->{txns} }, $crashes, sub {
		return unless @crash_at && has_come_to($database, $crash_at[0]);
		shift @crash_at;
		$node->stop('immediate');
		close_idle(@idle);
		look_at_end($_, 1) foreach grep { $_->{script} } (@writers, @readers, $killer);
		my $how = preload($node, rand() < 0.5);
		$node->start;
		# Before anything else is written.
		my %stored = map { $_ => 1 } log_lines($node, $database);
		my @seen = map { @{ $_->{seen} // [] } } @readers;
		is(scalar(grep { !$stored{$_} } @seen), 0, "$title: after a crash all that readers saw is there (" . @seen . ", now $how)");
		is($node->safe_psql($database, q{SELECT count(*) FROM seen s LEFT JOIN es_events e USING (position, stream, version, event_id) WHERE e.data ->> 'stamp' IS DISTINCT FROM s.stamp}),
			'0', "$title: and all that they have in tables");
		check_log("$title, after a crash", $node, $database, 1);
		@idle = open_idle($database);
	});
	is(scalar @crash_at, 0, "$title: the server crashed while writers were at it") if $crashes;
	end_writing($database, $node);
	all_settled($title, $node, $database);
	run_clients([ @readers, $killer ], sub { 1 }, $crashes);
	check_at_end($title, @readers);
	close_idle(@idle);
	check_log($title, $node, $database, $crashes);
	check_readers($title, $node, $database, @readers);
	say_how_it_went($title, $node, $database, @writers, @readers);
	note sprintf('%s: %.1f s', $title, time - $began);
}

foreach my $on (0, 1)
{
	my $title = preload($node, $on);
	$node->restart;
	phase($title, "phase_1_$on", 0);
}
phase('crashes', 'phase_2', 2);
$asynchronous = 1;
phase('asynchronous commits, crash', 'phase_2_async', 1);
$asynchronous = 0;

# ---- phase 3: a hot standby, which is promoted ----

sub standby_phase
{
	my $database = 'phase_3';
	my $began = time;
	preload($node, 1);
	$node->restart;
	create_database($database);
	my $standby = start_standby($node);
	my @idle = open_idle($database);
	my @on_standby = map { client_reader(sub { $standby }, $database, 100 + $_, $_ % 2 ? 'all' : 'category') } (1 .. $readers);
	my @on_primary = (table_reader($database, 1, 'all'), members($database, 2));
	my @readers = (@on_standby, @on_primary);
	my @writers = map { writer($database, $_, $txns) } (1 .. $writers);
	my @killers = (terminator($node, $database), terminator($standby, $database));
	run_clients([ @writers, @readers, @killers ], sub { $_[0]->{txns} });
	end_writing($database, $node);
	all_settled('standby', $node, $database);
	run_clients([ @readers, @killers ], sub { 1 });
	check_at_end('standby', @readers);
	ok($standby->poll_query_until($database, 'SELECT es_settled_position() = ' . $node->safe_psql($database, 'SELECT last_value FROM eventstore.position_seq')),
		'standby: the worker writes the mark to the very end');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	check_log('standby', $standby, $database, 0);
	check_readers('standby', $standby, $database, @on_standby);
	check_readers('primary', $node, $database, @on_primary);
	say_how_it_went('standby', $standby, $database, @writers, @readers);

	# The same readers go on, in sessions that live through the promotion, which happens among writers.
	$node->safe_psql($database, 'UPDATE control SET ended = false');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	my $terminator = terminator($standby, $database);
	my $head = $node->safe_psql($database, 'SELECT last_value FROM eventstore.position_seq');
	my @more = map { writer($database, $writers + $_, $txns) } (1 .. $writers);
	my $promote_at = $head + (0.1 + rand(0.6)) * events_of(@more);
	$_->{over} = 0 foreach @readers;

	run_clients([ @more, @readers, $terminator ], sub { $_[0]->{txns} }, 1, sub {
		return unless $promote_at && has_come_to($database, $promote_at);
		$promote_at = 0;
		close_idle(@idle);
		# The standby gets all that was written.
		$node->stop('fast');
		$standby->promote;
		$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
		$primary = $standby;
		@idle = open_idle($database);
	});
	is($promote_at, 0, 'promotion: it came while writers were at it');
	end_writing($database, $standby);
	all_settled('promotion', $standby, $database);
	run_clients([ @readers, $terminator ], sub { 1 }, 1);
	check_at_end('promotion', @readers);
	close_idle(@idle);
	check_log('promotion', $standby, $database, 0);
	check_readers('promotion', $standby, $database, @readers);
	say_how_it_went('promotion', $standby, $database, @more, @readers);
	note sprintf('standby and promotion: %.1f s', time - $began);
	$standby->stop;
	check_server($_) foreach ($node, $standby);
}
standby_phase();
done_testing();
