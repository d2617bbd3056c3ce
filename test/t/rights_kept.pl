# Rights where something goes on for longer than a call: subscriptions, projections and what their functions see, views of
# read models, feeds.  What is revoked stops at once, and what is granted again goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFeed;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 'logical', conf => "eventstore.max_wait = '1h'\nmax_replication_slots = 20\n");
my $dir = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql('postgres', $_[0]) }

# as(role, sql): output, or the SQLSTATEs of what failed
sub as
{
	my ($role, $sql) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET ROLE $role;\n$sql");

	return join(' ', $err =~ /ERROR:\s+(\w+)/g) || $out;
}

# said(role, sql): all that is said beside the output
sub said
{
	my ($role, $sql) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "SET ROLE $role;\n$sql");

	return $err;
}

sql('CREATE EXTENSION eventstore; SELECT es_set_segment_size(100)');
sql("CREATE ROLE $_ LOGIN REPLICATION") foreach qw(maker reader other chief);
sql(q{CREATE ROLE team IN ROLE reader; GRANT CREATE ON SCHEMA public TO maker, reader;
	SELECT es_append(c || '-1', 'T', '{"secret": "plum"}') FROM unnest('{a,b}'::text[]) c;
	SELECT es_grant('maker', 'admin', 'a'), es_grant('maker', 'read', 'a'), es_grant('reader', 'read', 'a'), es_grant('other', 'read', 'a'), es_grant('chief', 'admin', 'a')});

# ---- subscriptions ----
{
	is(as('reader', q{SELECT es_subscribe('of_reader', 0, '{a}', max_attempts => 1)}), '', 'a reader subscribes');
	is(as('reader', q{SELECT stream FROM es_poll('of_reader')}), 'a-1', 'and polls');
	is(sql(q{SELECT creator FROM es_subscriptions WHERE subscription = 'of_reader'}), 'reader', 'the view tells whose it is');
	is(as('reader', q{SELECT es_rewind('of_reader', 0), es_alter_subscription('of_reader', NULL, '{T}', 2)}), '|', 'it can do with it what it wants');
	is(as('team', q{SELECT es_rewind('of_reader', 0)}), '', 'as can its members');
	is(as('chief', q{SELECT es_rewind('of_reader', 0)}), '', 'and an admin of the category');
	is(as('reader', q{SELECT es_alter_subscription('of_reader', '{b}', NULL, NULL)}), '42501', 'but not have it be of what it may not read');
	is(as('other', $_), '42501', "others cannot: $_") foreach q{SELECT es_rewind('of_reader', 0)}, q{SELECT es_unsubscribe('of_reader')}, q{SELECT es_alter_subscription('of_reader', NULL, NULL, 1)}, q{SELECT es_discard_parked('of_reader', 1)};

	# a role goes by itself and not by its name
	sql('ALTER ROLE reader RENAME TO lector');
	is(sql(q{SELECT creator FROM es_subscriptions WHERE subscription = 'of_reader'}), 'lector', 'a role that is renamed is still the creator');
	is(as('lector', q{SELECT es_rewind('of_reader', 0)}), '', 'with what it may do');
	sql(q{CREATE ROLE reader LOGIN; SELECT es_grant('reader', 'read', 'a')});
	is(as('reader', q{SELECT es_rewind('of_reader', 0)}), '42501', 'one that has its name is not');
	sql(q{DROP ROLE reader; ALTER ROLE lector RENAME TO reader});

	# revoked between a poll and its acknowledgement
	my $position = as('reader', q{SELECT position FROM es_poll('of_reader')});
	sql(q{SELECT es_revoke('reader', 'read', 'a')});
	is(as('reader', $_), '42501', "revoked: $_") foreach "SELECT es_ack('of_reader', 0, $position)", "SELECT es_nack('of_reader', 0, $position, 'why')", q{SELECT * FROM es_poll('of_reader')}, q{CALL es_poll_wait('of_reader', '0')}, q{SELECT * FROM es_parked('of_reader')}, q{SELECT es_replay_parked('of_reader')};
	is(as('reader', q{SELECT count(*) FROM es_subscriptions}), '0', 'revoked: it is not seen');
	sql(q{SELECT es_grant('reader', 'read', 'a')});
	is(as('reader', "SELECT es_ack('of_reader', 0, $position)"), '', 'granted again');

	# one that waits is told at the next event
	my $wait = start_named($node, 'postgres', 'waiting', q{SET ROLE reader; SELECT stream FROM es_poll('of_reader', wait => '1h')});
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'waiting' AND state = 'active' AND wait_event_type IS NOT NULL AND query LIKE '%es_poll%'}), 'a poll waits');
	sql(q{SELECT es_revoke('reader', 'read', 'a')});
	sql(q{SELECT es_append('a-1', 'T')});
	my ($out, $err) = finish_script($wait);
	is($out, '', 'what comes after a revoke is not delivered');
	like($err, qr/42501/, 'but refused');
	sql(q{SELECT es_grant('reader', 'read', 'a')});
	is(as('reader', q{SELECT es_unsubscribe('of_reader')}), '', 'and it can drop it');

	# what was parked when it was of more
	sql(q{SELECT es_grant('reader', 'read', 'b')});
	as('reader', q{SELECT es_subscribe('wide', 0, '{a,b}', max_attempts => 1)});
	as('reader', q{SELECT count(es_nack('wide', 0, position, 'plum')) FROM es_poll('wide') WHERE stream = 'b-1'});
	is(as('reader', q{SELECT stream FROM es_parked('wide')}), 'b-1', 'an event is parked');
	sql(q{SELECT es_alter_subscription('wide', '{a}', NULL, NULL), es_revoke('reader', 'read', 'b')});
	is(as('reader', q{SELECT count(*) FROM es_parked('wide')}), '0', 'it is not shown to who may not read it any more');
	is(as('reader', q{SELECT es_replay_parked('wide')}), '0', 'nor delivered again');
	is(sql(q{SELECT stream FROM es_parked('wide')}), 'b-1', 'it is there');
	as('reader', q{SELECT count(es_ack('wide', partition, position)) FROM es_poll('wide')});
	my $polled = q{SELECT string_agg(stream || ' ' || data::text, ', ') FROM es_poll('wide')};
	is(sql(q{SELECT es_replay_parked('wide')}) . as('reader', $polled), '0', 'who may read it does not have it delivered to who may not');

	# while its segment is away nobody knows its category
	my $bound = sql(q{SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = 'eventstore.events_0'::regclass});
	sql('ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_0');
	my $shown = q{SELECT stream, reason, attempts FROM es_parked('wide')};
	is(as('reader', $shown), '||1', 'of what is away the reason is not told to who may not read all');
	is(sql($shown), '|plum|1', 'but to who may');
	is(as('reader', q{SELECT es_replay_parked('wide')}), '1', 'it is to be delivered again');
	sql("ALTER TABLE eventstore.events ATTACH PARTITION eventstore.events_0 $bound");
	is(as('reader', q{CALL es_poll_wait('wide', '0')}), 'f', 'once it is there it is no reason to poll');
	is(as('reader', $polled), '', 'and not delivered to who may not read it');
	is(as('reader', $shown), '', 'nor shown');
	is(sql($shown), 'b-1|it is of a category that the subscription is not of any more|0', 'but parked again');
	is(sql($polled . q{; SELECT parked, lag_time FROM es_subscriptions WHERE subscription = 'wide'}), "\n1|", 'and nothing is left to be delivered');
	sql(q{SELECT es_alter_subscription('wide', '{a,b}', NULL, NULL), es_grant('reader', 'read', 'b')});
	is(as('reader', q{SELECT es_replay_parked('wide')}) . ' ' . as('reader', $polled), '1 b-1 {"secret": "plum"}', 'once the subscription is of its category again it can be had');
	# what is to be delivered again as the filter narrows is forgotten
	sql(q{SELECT es_alter_subscription('wide', '{a}', NULL, NULL), es_revoke('reader', 'read', 'b')});
	is(as('reader', $polled) . sql($shown), '', 'until it is not any more');
	sql(q{SELECT es_unsubscribe('wide')});
}

# ---- what functions of projections see ----
{
	as('maker', q{CREATE TABLE seen (position bigint, data jsonb);
		CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE sql SET search_path = public AS 'INSERT INTO seen VALUES (e.position, e.data)';
		CREATE FUNCTION add(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = public AS $$SELECT data $$;
		SELECT es_register_reducer('a', 'T', 'add(jsonb, jsonb)');
		SELECT es_create_handler_projection('notes', 'note(es_event)', categories => '{a}');
		SELECT es_create_projection('sums', 'a', category => 'a');
		SELECT es_create_projection('counts', 'count', category => 'a')});
	is(sql(q{SELECT string_agg(projection, ' ' ORDER BY projection) FROM es_projections WHERE creator = 'maker'}), 'counts notes sums', 'an admin who reads makes projections');
	sql("SELECT es_run_projection('$_')") foreach qw(notes sums counts);
	is(sql('SELECT count(*) FROM seen'), '2', 'they run as it');

	sql(q{SELECT es_revoke('maker', 'read', 'a'), es_append('a-1', 'T', '{"secret": "pear"}')});
	foreach my $projection (qw(notes sums))
	{
		like(said('chief', "SELECT es_run_projection('$projection')"), qr/WARNING:  projection "$projection" failed: the error is shown to those who may read its events/, "$projection, whose creator may not read any more, fails");
		is(sql("SELECT status FROM es_projections WHERE projection = '$projection'"), 'failed', 'as the view shows');
		like(sql("SELECT error FROM es_projections WHERE projection = '$projection'"), qr/permission denied for category "a".*Role "maker" does not have the privilege "read"/s, 'with the creator') or diag sql('SELECT * FROM es_projections');
		is(as('chief', "SELECT error IS NULL, status FROM es_projections WHERE projection = '$projection'"), 't|failed', 'who does not read is not told of what');
	}
	is(sql(q{SELECT count(*) FROM seen WHERE data ->> 'secret' = 'pear'}), '0', 'and sees nothing');
	is(sql(q{SELECT es_run_projection('counts')}), '1', 'what operations make of events goes on: it is for its readers');
	is(as('maker', q{SELECT * FROM es_projection('counts')}), '42501', 'and not for its creator');
	sql(q{SELECT es_grant('maker', 'read', 'a')});
	sql("SELECT es_run_projection('$_')") foreach qw(notes sums);
	is(sql(q{SELECT count(*) FROM seen WHERE data ->> 'secret' = 'pear'}), '1', 'granted again, they go on from there');
	is(sql(q{SELECT state FROM es_projection('sums')}), '{"secret": "pear"}', 'by the same state');
	is(sql(q{SELECT count(*) FROM es_projections WHERE status = 'failed'}), '0', 'healed');

	# in an append's transaction: nothing is appended that its projection may not see
	is(as('maker', q{SELECT es_create_handler_projection('at_once', 'note(es_event)', 'inline', '{a}')}), '', 'an inline one');
	sql(q{SELECT es_create_projection('counted', 'count', 'inline', 'a'), es_revoke('maker', 'read', 'a')});
	is(sqlstates($node, 'postgres', q{SELECT es_append('a-2', 'T')}), '42501', 'its function does not see what its creator may not, and the append fails');
	is(sql(q{SELECT es_append('b-2', 'T')}), '1', 'others do not');
	sql(q{SELECT es_grant('maker', 'read', 'a')});
	is(sql(q{SELECT es_append('a-2', 'T')}), '1', 'granted again');
	sql(q{SELECT es_drop_projection('at_once')});
}

# ---- views of read models ----
{
	is(as('maker', q{SELECT es_projection_view('counts', 'counts'); GRANT SELECT ON counts TO other}), '', 'a view of a read model');
	is(as($_, 'SELECT count(*) > 0 FROM counts'), 't', "is its owner's to grant: $_") foreach qw(maker other);
	sql(q{SELECT es_projection_view('counts', 'all_counts'); GRANT SELECT ON all_counts TO other});
	sql(q{SELECT es_index_projection('counts', '((state ->> ''count''))')});
	my $plan = sub { return as($_[0], "SET enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT key FROM $_[1] WHERE state ->> 'count' = '1'") };
	like($plan->('maker', 'counts'), qr/One-Time Filter.*Index Cond: \(\(.*state ->> 'count'/s, 'the planner sees through it, and asks once');
	unlike($plan->('other', 'all_counts'), qr/One-Time Filter/, 'nothing is asked by one of the owner\'s');
	sql(q{SELECT es_revoke('maker', 'read', 'a')});
	is(as($_, 'SELECT count(*) FROM counts'), '42501', "it shows nothing that its owner may not read: to $_") foreach qw(maker other);
	is(as('other', 'SELECT count(*) > 0 FROM all_counts'), 't', 'the store\'s owner\'s does');
	sql(q{SELECT es_grant('maker', 'read', 'a')});
	is(as('other', 'SELECT count(*) > 0 FROM counts'), 't', 'granted again');
}

# ---- feeds ----
{
	my $consume = sub {
		my ($role, $feed, %options) = @_;
		my $end = sql('SELECT pg_current_wal_flush_lsn()');
		my ($out, $err) = run_command([ $node->installed_command('pg_recvlogical'), '-d', $node->connstr('postgres') . " user=$role", '-S', "es_$feed", '--start', '--no-loop',
			'--endpos', $end, '-f', '-', map { ('-o', "$_=$options{$_}") } sort keys %options ]);

		return $err =~ /permission denied/ ? $err : join(' ', map { /"stream":"([^"]+)"/ ? $1 : () } split /\n/, $out);
	};
	my $peek = sub { my ($role, $feed, $options) = @_; return as($role, "SELECT DISTINCT data::jsonb ->> 'stream' FROM pg_logical_slot_peek_changes('es_$feed', NULL, NULL$options) ORDER BY 1") };
	my $denied = qr/permission denied to read the feed.*privilege "read" on "\*".*HINT/s;

	is(as('reader', q{SELECT es_create_feed('own', '{a}')}) ne '42501', 1, 'a reader with REPLICATION makes a feed of what it reads');
	is(as('reader', q{SELECT es_create_feed('more', '{a,b}')}), '42501', 'and none of more');
	sql(q{SELECT es_create_feed('every')});
	sql(q{SELECT pg_create_logical_replication_slot('by_hand', 'eventstore')});
	sql(q{SELECT es_append(c || '-3', 'T') FROM unnest('{a,b}'::text[]) c});
	is($consume->('reader', 'own'), 'a-3', 'and reads it');
	like($consume->('reader', 'every'), $denied, 'one of all is refused at its start');
	is($peek->('reader', 'every', ''), '42501', 'by SQL, too');
	is(as('reader', q{SELECT * FROM pg_logical_slot_peek_changes('by_hand', NULL, NULL)}), '42501', 'as is a slot that is no feed');
	is($peek->('reader', 'every', ", 'categories', 'a'"), 'a-3', 'who asks for less needs less');
	is($peek->('reader', 'every', ", 'stream_prefix', 'a-'"), 'a-3', 'also by a prefix');
	is($peek->('reader', 'every', ", 'stream_prefix', 'a'"), '42501', 'unless that is of more than a category');
	is($peek->('reader', 'every', ", 'categories', 'a', 'stream_prefix', 'b-'"), '', 'nothing is asked for');
	is($peek->('reader', 'every', ", 'categories', 'a,b'"), '42501', 'not all of it may be read');
	is($peek->('maker', 'own', ''), '', 'nothing new');
	sql('CREATE ROLE nobody LOGIN REPLICATION');
	like($consume->('nobody', 'own'), qr/permission denied to read the feed.*category "a"/s, 'a role without rights');
	is(as('nobody', q{SELECT pg_create_logical_replication_slot('made', 'eventstore'); SELECT * FROM pg_logical_slot_get_changes('made', NULL, NULL)}), '42501', 'which makes a slot of its own');
	is(join(' ', sort split / /, $consume->($node->safe_psql('postgres', 'SELECT current_user'), 'every')), 'a-3 b-3', 'a superuser reads everything');

	# the feed becomes more while it is read
	my $consumer = start_consumer($node, 'es_own', "$dir/own");
	my $reading = start_process([ $node->installed_command('pg_recvlogical'), '-d', $node->connstr('postgres') . ' user=reader', '-S', 'es_own', '--start', '--no-loop', '-f', "$dir/kept", '-F', '1' ], "$dir/kept.out", "$dir/kept.err")
	  if stop($consumer) || $node->poll_query_until('postgres', q{SELECT NOT active FROM es_feeds WHERE feed = 'own'});
	ok($node->poll_query_until('postgres', q{SELECT active FROM es_feeds WHERE feed = 'own'}), 'a reader reads its feed');
	sql(q{SELECT es_append('a-4', 'T')});
	ok(wait_until('an event', sub { -e "$dir/kept" && slurp_file("$dir/kept") =~ /a-4/ }), 'and gets what comes');
	is(as('reader', q{SELECT es_alter_feed('own', '{}', NULL, NULL)}), '42501', 'it cannot make it more');
	sql(q{SELECT es_alter_feed('own', '{}', NULL, NULL)});
	sql(q{SELECT es_append(c || '-5', 'T') FROM unnest('{b,a}'::text[]) c});
	ok(!$reading->finish, 'when others do, it ends');
	like(slurp_file("$dir/kept.err"), $denied, 'with the reason');
	unlike(slurp_file("$dir/kept"), qr/"b-/, 'and nothing of it');
	is(as('reader', q{SELECT es_drop_feed('own')}), '42501', 'it cannot drop what is more than it reads');

	# what is revoked counts from the next start on
	sql(q{SELECT es_alter_feed('own', '{a}', NULL, NULL), es_revoke('reader', 'read', 'a')});
	like($consume->('reader', 'own'), qr/permission denied to read the feed/, 'revoked');
	is(as('reader', q{SELECT count(*) FROM es_feeds}), '0', 'revoked: it is not seen');
	sql(q{SELECT es_grant('reader', 'read', 'a')});
	is(as('reader', q{SELECT string_agg(feed, ' ' ORDER BY feed) FROM es_feeds}), 'every own', 'granted: what it can ask for is seen');

	# a database that has no store yet
	$node->safe_psql('postgres', 'CREATE DATABASE bare');
	$node->safe_psql('bare', q{SELECT pg_create_logical_replication_slot('es_bare', 'eventstore'); CREATE TABLE t AS SELECT 1 AS a});
	is($node->safe_psql('bare', q{SELECT count(*) FROM pg_logical_slot_peek_changes('es_bare', NULL, NULL)}), '0', 'without a store a superuser gets nothing');
	is(sqlstates($node, 'bare', q{SET ROLE nobody; SELECT count(*) FROM pg_logical_slot_peek_changes('es_bare', NULL, NULL)}), '42501', 'and others are refused');
}

# ---- segments that somebody brings ----
{
	sql(q{SELECT es_grant('chief', 'admin'), count(es_append('old-1', 'T')) FROM generate_series(1, 200)});
	is(as('chief', q{SELECT min(d) FROM es_detach_segments('infinity') d}), 'eventstore.events_0', 'an admin of all detaches segments');
	sql('CREATE SCHEMA mine AUTHORIZATION chief; GRANT SELECT ON eventstore.events_0 TO chief');
	sql('CREATE TABLE mine.events_0 (LIKE eventstore.events); INSERT INTO mine.events_0 SELECT * FROM eventstore.events_0; ALTER TABLE mine.events_0 OWNER TO chief');
	is(as('chief', q{SELECT es_attach_segment('mine.events_0')}), '42501', 'it cannot bring a table of its own, and with it what is on it');
	is(as('chief', q{SELECT es_attach_segment('eventstore.events_0')}), '', 'but what it has detached');
	isnt(sql('SELECT state FROM es_segments WHERE segment = 0'), 'detached', 'which is there again');
}

done_testing();
