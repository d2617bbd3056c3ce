# Feeds by clients that people use: pg_recvlogical, the replication client of npm,
# the CloudEvents SDK, consumers of pgoutput and of test_decoding.  What they are
# told when something is wrong, and that the server need not keep WAL for a feed
# that has nothing to say.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreFeed;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $tempdir = PostgreSQL::Test::Utils::tempdir();

my $node = new_node('clients', streaming => 'logical',
	conf => "logical_decoding_work_mem = 64kB\nmax_replication_slots = 20\nmax_wal_senders = 20\nwal_receiver_status_interval = 1\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');

# start(file, command): a consumer that writes into a file
sub start { my ($file, @command) = @_; return start_process(\@command, $file, "$file.err"); }

# content(file): what is in it so far
sub content { my ($file) = @_; return -e $file ? slurp_file($file) : ''; }

sub wait_for
{
	my ($file, $pattern) = @_;

	return 1 if wait_until("$pattern in $file", sub { content($file) =~ $pattern });
	diag substr(content($file), -1000);
	return 0;
}

sub lines { my ($file) = @_; return grep { /\n$/ } split /^/, content($file); }
sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }
sub wait_sql { my ($sql) = @_; return $node->poll_query_until('postgres', $sql); }
sub drop_feed { my ($feed) = @_; wait_sql("SELECT NOT active FROM es_feeds WHERE feed = '$feed'"); sql("SELECT es_drop_feed('$feed')"); return; }

# refused(slot, options): what a consumer says that cannot start
sub refused
{
	my ($slot, %options) = @_;
	my $handle = start_consumer($node, $slot, "$tempdir/refused", %options);

	ok(!$handle->finish, "a consumer of $slot with " . join(' ', %options) . ' ends with a failure');
	return content("$tempdir/refused.err");
}

# ---- a feed with nothing to say does not hold WAL
{
	sql("SELECT es_create_feed('$_')") foreach qw(nothing other);
	sql("SELECT es_append('seen-1', 'Seen')");
	my @consumers = (start_consumer($node, 'es_nothing', "$tempdir/nothing", categories => 'absent'),
		start_consumer($node, 'es_other', "$tempdir/other", include_transaction => 'on'));
	my $moved = sub {
		my ($what) = @_;
		my $lsn = $node->lsn('insert');

		ok(wait_sql("SELECT bool_and(confirmed_lsn >= '$lsn') FROM es_feeds"), "the feeds move on past $what");
	};

	sql("SELECT count(es_append('unwanted-' || n % 10, 'Unwanted')) FROM generate_series(1, 2000) n");
	$moved->('events that one of them does not want');
	sql('CREATE TABLE other AS SELECT generate_series(1, 20000) AS a');
	sql('UPDATE other SET a = a + 1');
	$moved->('large changes of other tables');
	$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
	$node->safe_psql('elsewhere', 'CREATE TABLE other AS SELECT generate_series(1, 20000) AS a');
	$moved->('what happens in another database');
	sql("BEGIN; SELECT es_append('unwanted-1', 'Undone'); ROLLBACK");
	$moved->('a rollback');

	# and while others write without a pause
	append_to_file("$tempdir/load", "INSERT INTO other SELECT generate_series(1, 50);\n");
	my $load = start_pgbench($node, "$tempdir/load", '-c', 2, '-T', 6);
	usleep(500_000);
	my $lsn = $node->lsn('insert');
	ok(wait_sql("SELECT bool_and(confirmed_lsn >= '$lsn') FROM es_feeds"), 'the feeds move on under load');
	ok($load->pumpable, 'which went on meanwhile');
	$load->finish;
	$node->safe_psql('postgres', 'CHECKPOINT');
	ok(wait_sql('SELECT bool_and(lag_bytes < 1000000 AND wal_status = \'reserved\' AND safe_wal_size IS NULL) FROM es_feeds'),
		'the view shows it');

	stop($_) foreach @consumers;
	is(content("$tempdir/nothing"), '', 'without a message');
	is(scalar(grep { exists $_->{position} } messages("$tempdir/other")), 2001, 'the other one has its events');
	is(scalar(grep { exists $_->{begin} } messages("$tempdir/other")), 2, 'and no frame of what had no event');
	drop_feed($_) foreach qw(nothing other);
}

# ---- what consumers are told
{
	sql("SELECT es_create_feed('busy')");
	like(refused('es_absent'), qr/replication slot "es_absent" does not exist/, 'a feed that does not exist');
	like(refused('es_busy', colour => 'red'), qr/unrecognized option "colour".*HINT.*after_position/s, 'an unknown option');
	like(refused('es_busy', types => 'a,,b'), qr/invalid value for option "types": "a,,b"/, 'a bad list');
	like(refused('es_busy', origin => 'some'), qr/invalid value for option "origin".*"any" or "none"/s, 'a bad origin');
	like(refused('es_busy', streaming => 'on'), qr/"streaming" requires option "include_transaction"/, 'streaming without frames');
	is(sql('SELECT count(*) FROM es_feeds WHERE active'), '0', 'none of them has the feed');

	my $consumer = start_consumer($node, 'es_busy', "$tempdir/busy");
	wait_sql("SELECT active FROM es_feeds WHERE feed = 'busy'");
	like(refused('es_busy'), qr/replication slot "es_busy" is active for PID/, 'a feed that is read already');
	my ($result, $stdout, $stderr) = $node->psql('postgres', "SELECT * FROM es_create_feed('busy')");
	like($stderr, qr/replication slot "es_busy" already exists/, 'a feed that exists');
	new_store($node, 'other');
	($result, $stdout, $stderr) = $node->psql('other', "SELECT * FROM es_create_feed('busy')");
	like($stderr, qr/replication slot "es_busy" already exists\nHINT: +The databases of a server share.*pg_replication_slots shows which/, 'one of another database');

	# the slot goes while it is read: the consumer learns of it, and the log has it all
	sql("SELECT es_append('busy-1', 'First')");
	ok(wait_for("$tempdir/busy", qr/First/), 'it is read');
	my $pid = sql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'es_busy'");
	sql("SELECT pg_terminate_backend($pid)");
	ok(!$consumer->finish, 'the consumer ends with a failure');
	drop_feed('busy');
	like(refused('es_busy'), qr/replication slot "es_busy" does not exist/, 'and cannot go on');
	sql("SELECT es_append('busy-1', 'Second')");
	my $head = sql("SELECT head_position FROM es_create_feed('busy')");
	sql("SELECT es_append('busy-1', 'Third')");
	$consumer = start_consumer($node, 'es_busy', "$tempdir/again", after_position => $head);
	ok(wait_for("$tempdir/again", qr/Third/), 'a new feed goes on');
	stop($consumer);
	is(sql("SELECT string_agg(type, ' ') FROM es_read_category('busy', 0, NULL, to_position => $head)") . ' ' . join(' ', map { $_->{type} } messages("$tempdir/again")),
		'First Second Third', 'nothing is lost');
	drop_feed('busy');
}

# ---- WAL that was taken away
{
	sql("SELECT es_create_feed('late')");
	sql("SELECT es_append('late-1', 'Late')");
	sql("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'");
	$node->reload;
	sql('CREATE TABLE filler AS SELECT repeat(md5(n::text), 10) FROM generate_series(1, 150000) n');
	sql('SELECT pg_switch_wal()');
	sql('CHECKPOINT');
	ok(wait_sql("SELECT wal_status = 'lost' FROM es_feeds WHERE feed = 'late'"), 'the view shows that a feed is lost');
	like(refused('es_late'), qr/es_late/, 'its consumer is told');
	sql("SELECT es_drop_feed('late')");
	sql('ALTER SYSTEM RESET max_slot_wal_keep_size');
	$node->reload;
	sql('DROP TABLE filler');
}

# ---- a consumer that is killed in the middle of a transaction that is streamed
{
	my %frames = (include_transaction => 'on', streaming => 'on');
	my $append = sub { my ($stream, $n) = @_; return "SELECT count(es_append('$stream', 'Part', to_jsonb(n))) FROM generate_series(1, $n) n"; };
	# events of transactions that came to their commit
	my $final = sub {
		my ($file) = @_;
		my (%open, @done, $xid);

		foreach my $message (messages($file))
		{
			my ($frame) = exists $message->{position} ? () : keys %$message;

			$xid = $message->{$frame}{xid} if defined $frame;
			push @{ $open{$xid} }, $message->{stream} if !defined $frame;
			push @done, @{ delete $open{$xid} } if ($frame // '') =~ /^(stream_)?commit$/;
			delete $open{$xid} if ($frame // '') eq 'stream_abort';
		}
		my %count;
		$count{$_}++ foreach @done;
		return \%count;
	};

	foreach my $end (qw(COMMIT ROLLBACK))
	{
		my $name = lc $end;
		my $session = $node->background_psql('postgres');

		sql("SELECT es_create_feed('$_')") foreach "cut_$name", "whole_$name";
		my $consumer = start_consumer($node, "es_cut_$name", "$tempdir/cut_$name", %frames);
		my $whole = start_consumer($node, "es_whole_$name", "$tempdir/whole_$name");
		$session->query_safe('BEGIN');
		$session->query_safe($append->("big-$name", 2000));
		ok(wait_for("$tempdir/cut_$name", qr/stream_stop.*\n/), "$end: events come while the transaction is in progress");
		stop($consumer, 'KILL');
		$session->query_safe($append->("big-$name", 1000));
		sql("SELECT es_append('small-$name', 'Small')");
		ok(wait_for("$tempdir/whole_$name", qr/Small/), 'a transaction in progress holds back nothing');
		is(scalar(lines("$tempdir/whole_$name")), 1, 'and nothing of it is there without frames');
		wait_sql("SELECT NOT active FROM es_feeds WHERE feed = 'cut_$name'");
		$consumer = start_consumer($node, "es_cut_$name", "$tempdir/rest_$name", %frames);
		$session->query_safe($end);
		$session->quit;
		sql("SELECT es_append('end-$name', 'End')");
		ok(wait_for("$tempdir/$_", qr/"End".*\n/), 'to the end') foreach "rest_$name", "whole_$name";
		ok(wait_for("$tempdir/rest_$name", qr/"End".*\n.*commit.*\n/), 'with its commit');
		stop($_) foreach $consumer, $whole;
		my $big = $end eq 'COMMIT' ? { "big-$name" => 3000 } : {};
		is_deeply($final->("$tempdir/cut_$name"), {}, 'what the first consumer got is not final');
		is_deeply($final->("$tempdir/rest_$name"), { %$big, "small-$name" => 1, "end-$name" => 1 }, 'the second one has all or nothing');
		is(scalar(grep { $_->{stream} eq "big-$name" } messages("$tempdir/whole_$name")), $big->{"big-$name"} // 0, 'so has one without frames');
		drop_feed($_) foreach "cut_$name", "whole_$name";
	}
}

# ---- consumers of other plugins find all of an event in its row
{
	my @columns = qw(position stream version type type_version data metadata event_id recorded_at);
	my $select = "SELECT string_agg(concat_ws('|', " . join(', ', map { $_ eq 'recorded_at' ? 'extract(epoch FROM recorded_at)::numeric(20, 6)' : $_ } @columns) . "), E'\\n' ORDER BY position)";

	sql('CREATE PUBLICATION events FOR TABLE eventstore.events (' . join(', ', @columns) . ") WITH (publish = 'insert', publish_via_partition_root = true)");
	sql("SELECT pg_create_logical_replication_slot('out', 'pgoutput'), pg_create_logical_replication_slot('test', 'test_decoding')");
	my $after = sql('SELECT es_settled_position()');
	sql(q{SELECT es_append('row-1', 'A', '{"a": "it''s"}', '{"by": "ann"}'), es_append('row-2', 'B', jsonb_build_object('pad', string_agg(md5(n::text), ''))) FROM generate_series(1, 1000) n});
	my $expected = sql("$select FROM es_events WHERE position > $after");

	my (%tables, %names, @rows);
	foreach my $hex (split /\n/, sql("SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('out', NULL, NULL, 'proto_version', '1', 'publication_names', 'events')"))
	{
		my $message = pack('H*', $hex);

		if ($message =~ /^R/)
		{
			my ($relid, $schema, $table, undef, $n, $rest) = unpack('xNZ*Z*Cna*', $message);

			$tables{$relid} = "$schema.$table";
			$names{$relid} = [ map { my (undef, $name, $more) = unpack('CZ*x8a*', $rest); $rest = $more; $name } 1 .. $n ];
		}
		elsif ($message =~ /^I/)
		{
			my ($relid, $n, $rest) = unpack('xNxna*', $message);
			my %row;

			is($tables{$relid}, 'eventstore.events', 'pgoutput names the log, not its segment');
			is_deeply([ sort @{ $names{$relid} } ], [ sort @columns ], 'and has the columns that were published');
			foreach my $name (@{ $names{$relid} })
			{
				my ($kind, $value) = unpack('aN/a', $rest);

				is($kind, 't', "$name is there as text") if $kind ne 't';
				$rest = substr($rest, 5 + length $value);
				$row{$name} = $value;
			}
			push @rows, \%row;
		}
	}
	my $values = join(', ', map { my $row = $_; '(' . join(', ', map { "'" . ($row->{$_} =~ s/'/''/gr) . "'" } @columns) . ')' } @rows);
	is(sql("$select FROM (SELECT position::bigint, stream, version::bigint, type, type_version::int, data::jsonb, metadata::jsonb, event_id::uuid, recorded_at::timestamptz FROM (VALUES $values) v(" . join(', ', @columns) . ")) r"),
		$expected, 'what a consumer of pgoutput gets is the event');

	my $test = sql("SELECT data FROM pg_logical_slot_get_changes('test', NULL, NULL, 'include-xids', 'off') WHERE data LIKE '%events_0%'");
	like($test, qr/^table eventstore\.events_0: INSERT:.* stream\[text\]:'row-1' type\[text\]:'A' data\[jsonb\]:'\{"a": "it''s"\}' metadata\[jsonb\]:'\{"by": "ann"\}'$/m,
		'so is what test_decoding shows');
	sql("SELECT pg_drop_replication_slot('out'), pg_drop_replication_slot('test')");
}

# ---- programs of Node.js
SKIP:
{
	my ($node_js) = grep { -x } map { "$_/node" } split /:/, $ENV{PATH};
	my $folder = 'demo/feed';

	skip 'Node.js is not installed (tools/setup)', 1 unless $node_js;
	if (!-d "$folder/node_modules/cloudevents")
	{
		my ($stdout, $stderr) = run_command([ qw(timeout 120 npm install --silent --no-package-lock --no-audit --no-fund --prefix), $folder ]);
		skip "npm install --prefix $folder failed, without a network perhaps: " . substr($stderr, 0, 200), 1 unless -d "$folder/node_modules/cloudevents";
	}
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	local $ENV{PGUSER} = sql('SELECT current_user');

	# the example
	my $head = sql("SELECT head_position FROM es_create_feed('node')");
	sql("SELECT es_append('node-1', 'First', '{\"text\": \"ä\\n\"}'), es_append('other-1', 'Unwanted')");
	my @command = ($node_js, "$folder/consumer.mjs", 'node', "after_position=$head", 'categories=node');
	my $consumer = start("$tempdir/node", @command);
	ok(wait_for("$tempdir/node", qr/"First".*\n/), 'the client of npm gets an event');
	sql("SELECT count(es_append('node-1', 'More', to_jsonb(n))) FROM generate_series(1, 500) n");
	ok(wait_for("$tempdir/node", qr/"version":501,.*\n/), 'and those that follow');
	my $lsn = $node->lsn('insert');
	ok(wait_sql("SELECT confirmed_lsn >= '$lsn' FROM es_feeds WHERE feed = 'node'"), 'it confirms them, and moves on when idle');
	stop($consumer, 'TERM');
	wait_sql("SELECT NOT active FROM es_feeds WHERE feed = 'node'");
	sql("SELECT es_append('node-1', 'Later')");
	$consumer = start("$tempdir/node2", @command);
	ok(wait_for("$tempdir/node2", qr/"Later".*\n/), 'it goes on where it was stopped');
	stop($consumer, 'TERM');
	is(join(' ', map { $_->{version} } messages("$tempdir/node"), messages("$tempdir/node2")), join(' ', 1 .. 502), 'and has every event once');
	is((messages("$tempdir/node"))[0]{data}{text}, "\x{c3}\x{a4}\n", 'as it was written');
	my $failing = start("$tempdir/node3", $node_js, "$folder/consumer.mjs", 'node', 'colour=red');
	ok(!$failing->finish, 'it fails');
	like(content("$tempdir/node3.err"), qr/unrecognized option "colour"/, 'and says why');
	drop_feed('node');

	# CloudEvents, by their own SDK
	sql("SELECT es_create_feed('cloud')");
	sql(q{SELECT es_append('cloud-"1', 'Type "quoted"', '{"a": [1, "x", null]}', '{"by": {"deep": true}}'), es_append('cloud-2', 'Scalar', '"text"'),
		es_append('cloud-2', 'Number', '1.5'), es_append('cloud-2', 'Nothing', 'null'), es_append('cloud-ä', 'Ünicode', '{"ß": "\u001f"}')});
	my $events = sql("SELECT data FROM pg_logical_slot_get_changes('es_cloud', NULL, NULL, 'format', 'cloudevents')");
	append_to_file("$tempdir/cloud", "$events\n");
	my ($stdout, $stderr) = run_command([ $node_js, 'test/lib/cloudevents.mjs', $folder, "$tempdir/cloud" ]);
	is($stderr, '', 'the CloudEvents SDK accepts all of them');
	my @understood = split /\n/, $stdout;
	is(scalar(@understood), 5, 'there were five');
	is(sql("SELECT count(*) FROM es_events e JOIN (VALUES " . join(', ', map { "('" . (s/'/''/gr) . "'::jsonb)" } @understood) . ") v(j) ON e.event_id::text = j->>0
		WHERE j->>1 = '/eventstore/postgres' AND j->>2 = e.type AND j->>3 = e.stream AND (j->>4)::numeric = floor(extract(epoch FROM e.recorded_at) * 1000)
		AND j->>5 = e.version::text AND j->>6 = e.position::text AND coalesce(j->7, 'null') = e.data"), '5', 'it understands them as they were appended');
	sql("SELECT es_drop_feed('cloud')");
}

done_testing();
