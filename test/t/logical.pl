# Logical replication of a whole store: made by CREATE EXTENSION and CREATE SUBSCRIPTION
# alone, while appends run; past many segments; through restarts; a follower on the
# subscriber sees each event once, in order.  Then the switch-over.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $conf = "wal_retrieve_retry_interval = 200ms\nlogical_decoding_work_mem = 64kB\nautovacuum = off\nmax_replication_slots = 50\n";

# Half of the servers preload the library: then workers write marks and run projections on the publisher, and must not on the subscriber.
my $preload = "shared_preload_libraries = 'eventstore'\neventstore.settle_interval = 100ms\neventstore.scavenge_rate = 0\n";

# publisher(name): a store of several segments, with holes, and a little of everything.
sub publisher
{
	my ($name, $more) = @_;
	my $node = new_node($name, streaming => 'logical', conf => $conf . $more);

	$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
	$node->safe_psql('postgres', $_) foreach (
		'SELECT es_set_segment_size(100)',
		# a segment of which nothing is left, and one of which little is
		q{SELECT es_append_batch('passed-1', (SELECT jsonb_agg(jsonb_build_object('type', 'P', 'data', jsonb_build_object('i', i))) FROM generate_series(1, 150) i))},
		q{SELECT es_append('passed-2', 'P') FROM generate_series(1, 20)},
		q{SELECT es_truncate_stream('passed-1', 151)}, q{SELECT es_delete_stream('passed-2')}, q{SELECT * FROM es_scavenge()},
		q{SELECT es_create_projection('later', 'count')},
		q{SELECT es_create_projection('states', 'count', 'inline')},
		q{SELECT es_create_projection('gone', 'count', 'inline')},
		q{SELECT es_subscribe('consumer', partitions => 2, categories => '{old}')},
		q{SELECT es_append('old-' || i % 7, 'T', jsonb_build_object('i', i), jsonb_build_object('tags', jsonb_build_array('tag-' || i % 3))) FROM generate_series(1, 150) i},
		q{BEGIN; SELECT es_append('undone-1', 'T') FROM generate_series(1, 5); ROLLBACK},
		q{SELECT es_append('old-' || i % 7, 'T', jsonb_build_object('i', i)) FROM generate_series(1, 200) i},
		q{SELECT es_snapshot('old-1', 'count')}, 'SELECT es_seal()', 'SELECT es_settle()');
	return $node;
}

# subscriber(name): an empty store, and what follows it.
sub subscriber
{
	my ($name, $more) = @_;
	my $node = new_node($name, streaming => 'logical', conf => $conf . $more);

	$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
	$node->safe_psql('postgres', q{
		CREATE TABLE seen (nth bigserial, position bigint, event_id uuid);
		CREATE TABLE tagged (nth bigserial, position bigint);
		CREATE TABLE at (everything bigint, tags bigint);
		INSERT INTO at VALUES (0, 0);
		CREATE PROCEDURE follow(goal bigint) LANGUAGE plpgsql AS $$
		DECLARE
			a at;
			n bigint;
			settled bigint;
		BEGIN
			LOOP
				SELECT * INTO a FROM at;
				INSERT INTO seen (position, event_id) SELECT e.position, e.event_id FROM es_read_all(a.everything, 97) e;
				GET DIAGNOSTICS n = ROW_COUNT;
				IF n > 0 THEN
					a.everything := (SELECT s.position FROM seen s ORDER BY nth DESC LIMIT 1);
				END IF;
				settled := es_settled_position();
				INSERT INTO tagged (position) SELECT e.position FROM es_read_tagged('{tag-1}', after_position => a.tags, max_count => NULL) e WHERE e.position <= settled;
				UPDATE at SET everything = a.everything, tags = greatest(a.tags, settled);
				COMMIT;
				EXIT WHEN a.everything >= goal AND settled >= goal;
				IF n = 0 THEN
					CALL es_wait_for(greatest(a.everything, settled), '100ms', settled);
				END IF;
			END LOOP;
		END $$});
	return $node;
}

# writer(publisher, n): appends of each kind, some of which roll back.
sub writer
{
	my ($node, $n) = @_;
	my $sql = '';

	for (1 .. $n)
	{
		my $kind = rand();
		my $stream = 's' . int(rand(3)) . '-' . int(rand(20));
		$sql .= $kind < 0.4 ? qq{SELECT es_append('$stream', 'T', '{}', '{"tags": ["tag-1"]}');\n}
		  : $kind < 0.55 ? qq{BEGIN; SELECT es_append('$stream', 'T') FROM generate_series(1, 3); SELECT pg_sleep(0.002); ROLLBACK;\n}
		  : $kind < 0.7 ? qq{BEGIN; SELECT es_append('$stream', 'T'); SELECT pg_sleep(0.005); SELECT es_append('$stream', 'U'); COMMIT;\n}
		  : $kind < 0.9 ? qq{SELECT es_append_batch('$stream', (SELECT jsonb_agg(jsonb_build_object('type', 'B', 'data', jsonb_build_object('x', repeat('x', 300)))) FROM generate_series(1, 20)));\n}
		  : qq{SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'm-' || i % 9, 'type', 'M', 'data', jsonb_build_object('x', repeat('x', 500)))) FROM generate_series(1, 270) i));\n};
	}
	return start_script($node, 'postgres', $sql);
}

# digest(node): what a subscriber must have alike.
sub digest
{
	my ($node) = @_;

	return join("\n", map { $node->safe_psql('postgres', $_) } (
		"SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM es_events e",
		"SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM eventstore.events e",
		"SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM es_read_all(0, NULL) e",
		"SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM es_read_tagged('{tag-1}', max_count => NULL) e",
		"SELECT count(*), md5(string_agg(s::text, E'\\n' ORDER BY stream)) FROM es_streams s",
		"SELECT string_agg(concat_ws(' ', segment, first_position, last_position, events), E'\\n' ORDER BY segment) FROM es_segments",
		(map { "SELECT '$_', string_agg(s::text, E'\\n' ORDER BY s::text) FROM eventstore.$_ s" } qw(streams segments config indexed_types settled_mark wal_mark subscriptions subscription_partitions
			subscription_members subscription_failures reducers reducer_handlers snapshot_policies snapshots upcasters schemas protections subjects retention retention_skips grants seals seal_tiles scavenged
			projections projection_progress projection_states projection_skips)),
		"SELECT es_settled_position()"));
}

# ready(subscriber): waits until all has been copied.
sub ready
{
	my ($node) = @_;

	return 1 if $node->poll_query_until('postgres', q{SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel});
	diag($_) foreach $node->safe_psql('postgres', q{SELECT srrelid::regclass, srsubstate FROM pg_subscription_rel WHERE srsubstate <> 'r'}),
	  $node->safe_psql('postgres', q{SELECT pid, backend_type, wait_event_type, wait_event, state, query FROM pg_stat_activity}),
	  $node->safe_psql('postgres', q{SELECT pid, locktype, relation::regclass, mode, granted, pg_blocking_pids(pid) FROM pg_locks WHERE NOT granted}),
	  (split /\n/, slurp_file($node->logfile))[-60 .. -1];
	return 0;
}

# refused(node, sql, pattern, name)
sub refused
{
	my ($node, $sql, $pattern, $name) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");

	like($err, $pattern, $name);
}

# subscribes(node, sql): a statement that looks at what is published.  Beside writers that go on faster than it looks,
# it may find tables published that it has not: then it is to be repeated, and says so.
sub subscribes
{
	my ($node, $sql) = @_;

	for my $try (1 .. 20)
	{
		my ($ret, $out, $err) = $node->psql('postgres', $sql);

		return if $ret == 0;
		die $err if $err !~ /relation "eventstore\.events_\d+" does not exist/;
		note "again: $err";
	}
	die "$sql does not get through";
}

# leaves(publisher, subscriber, what): what is hidden and removed there is so here.
sub leaves
{
	my ($publisher, $subscriber, $what) = @_;

	$publisher->safe_psql('postgres', $_) foreach (
		q{SELECT es_append_batch('passed-3', (SELECT jsonb_agg(jsonb_build_object('type', 'P', 'data', jsonb_build_object('i', i))) FROM generate_series(1, 250) i))},
		q{SELECT es_append('passed-1', 'P')},
		q{SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'passed-' || 4 + i % 2, 'type', 'P')) FROM generate_series(1, 20) i))},
		q{SELECT es_truncate_stream('passed-3', 241)}, q{SELECT es_truncate_stream('passed-4', 6)}, q{SELECT es_truncate_stream('old-2', 20)}, q{SELECT es_delete_stream('old-3')}, 'SELECT es_seal()',
		'SELECT es_settle()');
	$publisher->safe_psql('postgres', q{SELECT es_run_projection('later')}) if $publisher->safe_psql('postgres', 'SHOW shared_preload_libraries') eq '';
	$publisher->safe_psql('postgres', q{SELECT es_wait_projection('later', 'old-3', es_stream_version('old-3'), '60s')});
	my ($ret, $out, $err) = $publisher->psql('postgres', 'SELECT category, events > 200 FROM es_scavenge()');
	like("$out $err", qr/^passed\|t\b.*NOTICE: .*are needed by subscription "consumer"/ms, "$what: hidden events go, but for what is needed");
	$publisher->wait_for_catchup('s');
	is(digest($subscriber), digest($publisher), "$what: the stores are alike when events have gone");
	is($subscriber->safe_psql('postgres', q{SELECT version, type FROM es_read('passed-4')}), $publisher->safe_psql('postgres', q{SELECT version, type FROM es_read('passed-4')}), "$what: so is what is left of a stream");
	is($subscriber->safe_psql('postgres', q{SELECT count(*), min(position), max(position) FROM es_read_category('passed', 0, NULL)}),
		$publisher->safe_psql('postgres', q{SELECT count(*), min(position), max(position) FROM es_read_category('passed', 0, NULL)}), "$what: and of a category");
	is($subscriber->safe_psql('postgres', 'SELECT count(*), (SELECT count(*) FROM es_seals) > 1 FROM es_verify()'), '0|t', "$what: what is left is what was sealed");
	$subscriber->safe_psql('postgres', 'VACUUM');
	$subscriber->safe_psql('postgres', 'SELECT * FROM es_scavenge()');
	is(digest($subscriber), digest($publisher), "$what: giving back room there changes nothing");
	my $removed = q{SELECT string_agg(segment::text, ' ' ORDER BY segment) FROM es_segments WHERE state = 'removed'};
	is($subscriber->safe_psql('postgres', $removed), $publisher->safe_psql('postgres', $removed), "$what: segments that were emptied are gone there, too");
	return;
}

# A store is replicated from the first event on, and for ever.
sub replicates
{
	my ($nth, $what, $publication, $subscription) = @_;
	my $preloads = $nth % 2 == 0;
	my ($publisher, $subscriber) = (publisher("publisher$nth", $preloads ? $preload : ''), subscriber("subscriber$nth", $preloads ? $preload : ''));

	note $what;
	$publisher->safe_psql('postgres', "CREATE PUBLICATION p $publication");
	$subscriber->safe_psql('postgres', 'SELECT es_set_segment_size(1000)') if $nth == 2;
	my @writers = map { writer($publisher, 60) } 1 .. 3;
	my $follower = start_script($subscriber, 'postgres', 'CALL follow(9000000);');
	subscribes($subscriber, "CREATE SUBSCRIPTION s CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION p WITH ($subscription)");
	finish_script($_) foreach @writers;

	refused($subscriber, $_, qr/55000: .* is a logical subscriber/, "$what: refused on the subscriber: $_")
	  foreach (q{SELECT es_append('a-1', 'T')}, q{INSERT INTO es_events (stream, type, data) VALUES ('a-1', 'T', '{}')}, q{SELECT es_snapshot('old-1', 'count')},
		q{SELECT es_create_projection('p', 'count')}, q{SELECT * FROM es_poll('consumer', member => 'me')}, q{SELECT es_subscribe('other')},
		q{SELECT es_delete_stream('a-1')}, q{SELECT es_truncate_stream('a-1', 1)}, q{SELECT es_set_retention('a', '1 day')}, q{SELECT es_seal()});

	# not before: a worker that is ended just as it has dropped its slot, and not yet said so, is stuck for good (the server's own fault)
	ok(ready($subscriber), "$what: all is copied");
	# tables come and go with projections
	$publisher->safe_psql('postgres', q{SELECT es_create_projection('fresh', 'count', 'inline'); SELECT es_drop_projection('gone')});
	@writers = map { writer($publisher, 40) } 1 .. 2;
	$subscriber->restart;
	finish_script($follower);
	$follower = start_script($subscriber, 'postgres', 'CALL follow(9000000);');
	finish_script($_) foreach @writers;

	$publisher->restart if $subscription !~ /disable_on_error/;
	@writers = map { writer($publisher, 40) } 1 .. 2;
	subscribes($subscriber, 'ALTER SUBSCRIPTION s REFRESH PUBLICATION' . ($subscription =~ /two_phase/ ? ' WITH (copy_data = false)' : ''));
	finish_script($_) foreach @writers;
	ok(ready($subscriber), "$what: what REFRESH found first is copied");
	# types that are to be indexed come by themselves, indexes by asking here, too
	$publisher->safe_psql('postgres', q{SELECT es_index_type('L')});
	$publisher->wait_for_catchup('s');
	$subscriber->safe_psql('postgres', q{SELECT es_index_type('L')});
	refused($subscriber, q{SELECT es_index_type('other')}, qr/55000: .* is a logical subscriber/, "$what: another type is refused on the subscriber");
	ok($_->poll_query_until('postgres', 'SELECT segments = indexed FROM es_indexed_types'), "$what: a type is indexed") foreach $publisher, $subscriber;
	# streams leave, of which a session of the subscriber knows already
	$publisher->safe_psql('postgres', q{SELECT es_append('left-' || i, 'T') FROM generate_series(1, 2) i, generate_series(1, 5); SELECT es_snapshot('left-1', 'count'), es_settle()});
	$publisher->wait_for_catchup('s');
	my $warm = $subscriber->background_psql('postgres');
	my $left = q{SELECT (SELECT array_agg(version) FROM es_read('left-1')), (SELECT array_agg(version) FROM es_read('left-2')), state FROM es_replay('left-1', 'count')};
	is($warm->query_safe($left), '{1,2,3,4,5}|{1,2,3,4,5}|{"count": 5}', "$what: streams are read");
	$publisher->safe_psql('postgres', q{SELECT es_truncate_stream('left-1', 4), es_delete_stream('left-2'), es_set_retention('aged', '30 days', 100), es_settle()});
	$publisher->wait_for_catchup('s');
	is($warm->query_safe($left), '{4,5}||{"count": 5}', "$what: what is hidden there is hidden here");
	$warm->quit;
	# one large transaction goes past several segments
	$publisher->safe_psql('postgres', q{SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'large-' || i % 3, 'type', 'L', 'data', jsonb_build_object('x', repeat('x', 200)))) FROM generate_series(1, 700) i))});
	my $last = $publisher->safe_psql('postgres', 'SELECT max(position) FROM es_events');
	refused($publisher, $_, qr/VE002/, "$what: refused on the publisher: $_") foreach (q{UPDATE eventstore.events_1 SET version = 1}, q{DELETE FROM eventstore.events}, q{DELETE FROM eventstore.settled_mark});
	$publisher->safe_psql('postgres', $preloads ? "SELECT es_wait_projection('later', $last, '60s')" : q{SELECT es_run_projection('later')});
	$publisher->safe_psql('postgres', 'SELECT es_settle()');
	$publisher->wait_for_catchup('s');
	finish_script($follower) if !$follower->{handle}->pumpable;
	my $second = start_script($subscriber, 'postgres', "DO \$\$ BEGIN IF (SELECT es_settled_position()) < $last THEN RAISE EXCEPTION 'behind'; END IF; END \$\$;");
	my (undef, $errors) = finish_script($second);
	is($errors, '', "$what: the settled position is there with the mark");
	is($subscriber->safe_psql('postgres', q{SELECT count(*), md5(string_agg(e::text, E'\n')) FROM es_read_query('[{"types": ["L"]}, {"tags": ["tag-1"]}]', 0, NULL, true) e}),
		$publisher->safe_psql('postgres', q{SELECT count(*), md5(string_agg(e::text, E'\n')) FROM es_read_query('[{"types": ["L"]}, {"tags": ["tag-1"]}]', 0, NULL, true) e}), "$what: queries find the same");

	ok($subscriber->poll_query_until('postgres', "SELECT everything >= $last FROM at"), "$what: the follower gets to the end");
	$follower->{handle}->kill_kill;
	$subscriber->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE query LIKE 'CALL follow%' AND pid <> pg_backend_pid()");
	is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM (SELECT position, lag(position) OVER (ORDER BY nth) AS before FROM seen) s WHERE before >= position'),
		'0', "$what: in order, none twice");
	is($subscriber->safe_psql('postgres', q{SELECT count(*), md5(string_agg(position || ' ' || event_id, ',' ORDER BY position)) FROM seen}),
		$publisher->safe_psql('postgres', q{SELECT count(*), md5(string_agg(position || ' ' || event_id, ',' ORDER BY position)) FROM es_events}), "$what: none skipped");
	$subscriber->safe_psql('postgres', "CALL follow($last)");
	is($subscriber->safe_psql('postgres', q{SELECT count(*), md5(string_agg(position::text, ',' ORDER BY nth)) FROM tagged}),
		$publisher->safe_psql('postgres', q{SELECT count(*), md5(string_agg(position::text, ',' ORDER BY position)) FROM es_read_tagged('{tag-1}', max_count => NULL)}),
		"$what: none skipped by a follower of a tag");
	is(digest($subscriber), digest($publisher), "$what: the stores are alike");
	leaves($publisher, $subscriber, $what);
	my $tables = q{SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'eventstore.projection_states'::regclass};
	is($subscriber->safe_psql('postgres', $tables), $publisher->safe_psql('postgres', $tables), "$what: each projection has its table of states");
	$subscriber->safe_psql('postgres', q{SELECT es_projection_view('fresh', 'fresh'), es_index_projection('fresh', '((state->>''count''))')});
	is($subscriber->safe_psql('postgres', 'SELECT count(*), sum(version) FROM fresh'), $publisher->safe_psql('postgres', q{SELECT count(*), sum(version) FROM es_projection('fresh')}),
		"$what: a view reads them on the subscriber");
	$publisher->safe_psql('postgres', q{SELECT es_append('late-1', 'T'); SELECT es_drop_projection('fresh')});
	$publisher->wait_for_catchup('s');
	is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM fresh'), '0', "$what: a view of a projection that is dropped there is empty");
	$publisher->safe_psql('postgres', 'SELECT es_settle()');
	$publisher->wait_for_catchup('s');
	$last = $publisher->safe_psql('postgres', 'SELECT max(position) FROM es_events');
	# a worker that begins anew may come before the one that it follows has gone; the server has it try again
	my @failed = grep { /\[\d+\] (ERROR|FATAL):/ && !/terminating|publisher: connection|shut(ting)? down|receive data from WAL stream|end-of-streaming|replication origin with ID \d+ is already active/ } split /\n/, slurp_file($subscriber->logfile);
	is("@failed", '', "$what: no worker failed");
	return ($publisher, $subscriber, $last);
}

my @ways = (
	[ 'schema', 'FOR TABLES IN SCHEMA eventstore', 'streaming = off' ],
	[ 'schema, by the root', 'FOR TABLES IN SCHEMA eventstore WITH (publish_via_partition_root = true)', 'streaming = on, disable_on_error = true' ],
	[ 'all tables', 'FOR ALL TABLES', 'streaming = on, binary = true, disable_on_error = true' ],
	[ 'all tables, by the root', 'FOR ALL TABLES WITH (publish_via_partition_root = true)', 'streaming = off, two_phase = on' ]);
my ($publisher, $subscriber, $last);

foreach my $nth ($ENV{ONLY} // 0 .. $#ways)
{
	if ($publisher)
	{
		$subscriber->stop;
		$publisher->stop;
	}
	($publisher, $subscriber, $last) = replicates($nth + 1, @{ $ways[$nth] });
}

# The switch-over: the publisher is gone.
my $session = $subscriber->background_psql('postgres');
is($session->query_safe('SELECT es_settled_position() >= ' . $last), 't', 'a session that lives through the switch-over');
$publisher->stop('immediate');
my $versions = $subscriber->safe_psql('postgres', q{SELECT es_stream_version('old-1')});
my $streams = $subscriber->safe_psql('postgres', 'SELECT max(stream_id) FROM eventstore.streams');
my $settled = $subscriber->safe_psql('postgres', 'SELECT es_settled_position()');
$subscriber->safe_psql('postgres', $_) foreach ('ALTER SUBSCRIPTION s DISABLE', 'ALTER SUBSCRIPTION s SET (slot_name = NONE)');
refused($subscriber, q{SELECT es_append('old-1', 'T')}, qr/55000: .* is a logical subscriber/, 'a disabled subscription may be enabled again');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
cmp_ok($subscriber->safe_psql('postgres', 'SELECT es_settled_position()'), '>=', $settled, 'the settled position does not go back');
is($subscriber->safe_psql('postgres', q{SELECT es_append('old-1', 'after')}), $versions + 1, 'versions go on');
is($session->query_safe(q{SELECT es_append('old-1', 'after')}), $versions + 2, 'in the other session too');
is($subscriber->safe_psql('postgres', q{SELECT es_append('new-1', 'after')}), 1, 'and new streams begin');
is($subscriber->safe_psql('postgres', q{SELECT min(position) > (SELECT max(last_position) FROM eventstore.segments WHERE first_position <= } . $last . q{) FROM es_events WHERE type = 'after'}),
	't', 'positions go on past the segments that the publisher used');
cmp_ok($subscriber->safe_psql('postgres', q{SELECT stream_id FROM eventstore.streams WHERE name = 'new-1'}), '>', $streams, 'stream ids, too');
is($subscriber->safe_psql('postgres', "SELECT string_agg(stream, ' ' ORDER BY position) FROM es_read_all($last)"), 'old-1 old-1 new-1', 'a follower goes on');
is($subscriber->safe_psql('postgres', q{SELECT es_subscribe('third'); SELECT es_create_projection('more', 'count', 'inline'); SELECT count(*) FROM es_events WHERE false}) =~ s/\n//gr, '0', 'subscriptions and projections can be made');
finish_script($_) foreach map { writer($subscriber, 30) } 1 .. 2;
is(gaps($subscriber, 'postgres'), '', 'no stream has a gap');
$session->quit;

done_testing();
