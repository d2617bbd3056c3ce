# A rolling deployment: version 2 of a type is registered while old and new writers and
# an old and a new reader run, and what came of it is checked from the log.  Then copies
# of the store: a standby, a logical subscriber and a dump know what is defined, and a
# session there that is warm learns of changes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "wal_retrieve_retry_interval = 200ms\nmax_prepared_transactions = 5\n";
my $node = new_node('main', streaming => 'logical', conf => $conf);

sub run { return $node->safe_psql('postgres', $_[0]); }

run(q{CREATE EXTENSION eventstore});
run($_) foreach (
	q{SELECT es_set_segment_size(500)},
	q{SELECT es_register_schema('Placed', '{"type": "object", "required": ["sum"]}')},
	q{SELECT es_register_reducer_ops('order', 'Placed', '[{"inc": {"sum": "$.data.sum", "cents": "$.data.cents"}}]')},
	q{SELECT es_snapshot_every('order', 20)},
	q{SELECT es_create_projection('inside', 'order', 'inline', 'order', '$.type'), es_create_projection('beside', 'order', category => 'order', key => '$.type')},
	q{SELECT es_subscribe('consumer', types => '{Placed}')},
	q{CREATE TABLE now (stop boolean, done boolean)}, q{INSERT INTO now VALUES (false, false)},
	q{CREATE TABLE seen (reader text, nth bigserial, position bigint, type_version int, data jsonb)},
	q{CREATE PROCEDURE write(writer text, member text, factor int, type_version int) LANGUAGE plpgsql AS $$
	DECLARE
		i int := 0;
	BEGIN
		WHILE NOT (SELECT stop FROM now) LOOP
			i := i + 1;
			IF i % 5 = 0 THEN
				PERFORM es_append_batch('order-' || i % 7, jsonb_build_array(jsonb_build_object('type', 'Placed', 'type_version', type_version,
					'data', jsonb_build_object(member, i * factor, 'by', writer)), jsonb_build_object('type', 'Other')));
			ELSIF i % 5 = 1 THEN
				INSERT INTO es_events (stream, type, data, type_version) VALUES ('order-' || i % 7, 'Placed', jsonb_build_object(member, i * factor, 'by', writer), type_version);
			ELSE
				PERFORM es_append('order-' || i % 7, 'Placed', jsonb_build_object(member, i * factor, 'by', writer), type_version => type_version);
			END IF;
			COMMIT;
		END LOOP;
	END $$},
	q{CREATE PROCEDURE follow(name text) LANGUAGE plpgsql AS $$
	DECLARE
		at bigint := 0;
		settled bigint;
	BEGIN
		LOOP
			INSERT INTO seen (reader, position, type_version, data) SELECT name, e.position, e.type_version, e.data FROM es_read_all(at, 97, types => '{Placed}') e;
			at := coalesce((SELECT max(s.position) FROM seen s WHERE s.reader = name), 0);
			COMMIT;
			settled := es_settled_position();
			EXIT WHEN (SELECT done FROM now) AND NOT EXISTS (SELECT FROM es_read_all(at, 1, types => '{Placed}'));
			CALL es_wait_for(settled, '100ms', settled);
		END LOOP;
	END $$},
	q{CREATE PROCEDURE consume(name text) LANGUAGE plpgsql AS $$
	DECLARE
		ended boolean;
		polled bigint;
	BEGIN
		LOOP
			ended := (SELECT done FROM now);
			WITH delivered AS MATERIALIZED (SELECT * FROM es_poll('consumer', 50)), noted AS (
				INSERT INTO seen (reader, position, type_version, data) SELECT name, d.position, d.type_version, d.data FROM delivered d ORDER BY d.position RETURNING seen.position)
			SELECT max(position) INTO polled FROM noted;
			IF polled IS NOT NULL THEN
				PERFORM es_ack('consumer', 0, polled);
			END IF;
			COMMIT;
			EXIT WHEN ended AND polled IS NULL;
		END LOOP;
	END $$});

my $events = sub { my ($n) = @_; return sub { run('SELECT es_settled_position()') >= $n } };

# ---- the deployment ----

my %job = (
	old_1 => start_script($node, 'postgres', q{CALL write('old-1', 'sum', 1, 1);}),
	old_2 => start_script($node, 'postgres', q{CALL write('old-2', 'sum', 1, 1);}),
	old_reader => start_script($node, 'postgres', q{CALL follow('old');}));
ok(wait_until('old events', $events->(200)), 'old writers write');
run(q{
	BEGIN;
	SELECT es_register_upcaster_ops('Placed', 1, '[{"set": {"cents": "$.data.sum * 100"}}, {"unset": ["sum"]}]'),
		es_register_schema('Placed', '{"type": "object", "required": ["cents"], "properties": {"cents": {"type": "integer"}, "sum": false}}', 'none');
	COMMIT;
});
my $registered = run('SELECT es_settled_position()');
$job{new_1} = start_script($node, 'postgres', q{CALL write('new-1', 'cents', 100, 2);});
$job{new_2} = start_script($node, 'postgres', q{CALL write('new-2', 'cents', 100, NULL);});
$job{new_reader} = start_script($node, 'postgres', q{SET eventstore.upcast = on; CALL follow('new');});
$job{new_consumer} = start_script($node, 'postgres', q{SET eventstore.upcast = on; CALL consume('consumer');});
ok(wait_until('new events', sub { run(q{SELECT count(*) > 100 FROM es_events WHERE data ->> 'by' = 'new-1'}) eq 't' && run(q{SELECT count(*) > 100 FROM es_events WHERE data ->> 'by' = 'new-2'}) eq 't' }),
	'new writers write beside them');
ok(wait_until('more events', $events->($registered + 1000)), 'all go on');
is(sqlstates($node, 'postgres', q{SELECT es_append('order-1', 'Placed', '{"sum": 1}');}), 'VE005', 'an old writer that does not say its version is refused');
is(sqlstates($node, 'postgres', q{SELECT es_drop_upcaster('Placed', 1); SELECT es_drop_schema('Placed', 2);}, on_error_stop => 0), '55000 55000', 'there is no way back once new events are there');
run('UPDATE now SET stop = true');
is((finish_script($job{$_}))[1], '', "$_ ends well") foreach (qw(old_1 old_2 new_1 new_2));
run('UPDATE now SET done = true');
is((finish_script($job{$_}))[1], '', "$_ ends well") foreach (qw(old_reader new_reader new_consumer));

# ---- what the log says ----

is(run(q{SELECT string_agg(concat_ws(' ', by, type_version, sums, cents), E'\n' ORDER BY by) FROM (
		SELECT substr(data ->> 'by', 1, 3) AS by, type_version, count(data -> 'sum') = count(*) AS sums, count(data -> 'cents') = count(*) AS cents
		FROM es_events WHERE type = 'Placed' GROUP BY 1, 2) e}),
	"new 2 f t\nold 1 t f", 'each event is of the version that its writer meant');
is(run(qq{SELECT count(*) > 0 FROM es_events WHERE type = 'Placed' AND type_version = 1 AND position > $registered}), 't', 'old events came after the registration, too');
is(run(qq{SELECT count(*) FROM es_events WHERE type_version = 2 AND position <= $registered - 4}), '0', 'new ones did not come before');
my $placed = q{SELECT position, type_version, data FROM es_events WHERE type = 'Placed'};
my $newest = q{SELECT position, 2, jsonb_build_object('by', data -> 'by', 'cents', COALESCE((data -> 'cents')::numeric, (data -> 'sum')::numeric * 100)) FROM es_events WHERE type = 'Placed'};
foreach ([ old => $placed ], [ new => $newest ], [ consumer => $newest ])
{
	my ($reader, $expected) = @$_;

	is(run(qq{SELECT count(*) FROM (($expected EXCEPT ALL SELECT position, type_version, data FROM seen WHERE reader = '$reader')
			UNION ALL (SELECT position, type_version, data FROM seen WHERE reader = '$reader' EXCEPT ALL $expected)) d}),
		'0', "reader $reader has seen each event once, in its form");
	is(run(qq{SELECT count(*) FROM (SELECT position < lag(position) OVER (ORDER BY nth) AS back FROM seen WHERE reader = '$reader') s WHERE back}), '0', '... in order');
}
my $total = run(q{SELECT sum(COALESCE((data -> 'cents')::numeric, (data -> 'sum')::numeric * 100)) FROM es_events WHERE type = 'Placed'});
is(run(q{SELECT sum((state -> 'cents')::numeric) FROM es_replay_category('order', 'order')}), $total, 'replays count each event once, in cents');
is(run(q{SELECT sum((r.state -> 'cents')::numeric) FROM (SELECT DISTINCT stream FROM es_events WHERE stream LIKE 'order-%') s, es_replay(s.stream, 'order') r}), $total, '... with snapshots, too');
run(q{SELECT es_rebuild_projection('inside'); SELECT es_run_projection('inside')});
run(q{SELECT es_rebuild_projection('beside'); SELECT es_run_projection('beside')});
is(run(qq{SELECT (state -> 'cents')::numeric = $total FROM es_projection('$_', 'Placed')}), 't', "projection $_, rebuilt, too") foreach (qw(inside beside));
is(run(q{SELECT string_agg(DISTINCT data ->> 'type_version', ' ') FROM (SELECT to_jsonb(h) AS data FROM es_feed_history(max_count => NULL, types => '{Placed}') h) f}), '1 2', 'feeds have events as they are stored');

# ---- prepared transactions ----

run(q{SELECT es_register_upcaster_ops('Prepared', 1, '"ignore"')});
run(q{BEGIN; SELECT es_append('prepared-1', 'Prepared'); PREPARE TRANSACTION 'appended'});
my $drop = start_script($node, 'postgres', q{SELECT es_drop_upcaster('Prepared', 1);});
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%es_drop_upcaster%' AND wait_event_type = 'Lock'}), 'a drop waits for a prepared append');
run(q{COMMIT PREPARED 'appended'});
like((finish_script($drop))[1], qr/there are events that need it/, '... and finds its event');
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT es_register_upcaster_ops('Prepared', 2, '"ignore"'); SELECT es_append('prepared-2', 'Prepared'); PREPARE TRANSACTION 'registered'});
is($session->query_safe(q{SELECT es_append('prepared-3', 'Prepared'); SELECT type_version FROM es_read('prepared-3')}), "1\n2", 'what is prepared is not there yet, not for who prepared it either');
run(q{COMMIT PREPARED 'registered'});
is($session->query_safe(q{SELECT es_append('prepared-3', 'Prepared'); SELECT max(type_version) FROM es_read('prepared-3')}), "2\n3", '... and is, once it is committed');
$session->quit;

# ---- copies ----

# newest(session): the first event of a stream as a session gives it in its newest form
sub newest { return $_[0]->query_safe(q{SET eventstore.upcast = on; SELECT type_version, data FROM es_read('copied-1', 1, 1)}); }

run(q{SELECT es_append('copied-1', 'Copied', '{"n": 1}', type_version => 1)});
run(q{SELECT es_register_schema('Copied', '{"type": "object"}'), es_register_upcaster_ops('Copied', 1, '{"set": {"a": 1}}')});
my $standby = start_standby($node);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $on_standby = $standby->background_psql('postgres');
is(newest($on_standby), '2|{"a": 1, "n": 1}', 'a standby reads in the newest form');

my $subscriber = new_node('subscriber', streaming => 'logical', conf => $conf);
$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
run('CREATE PUBLICATION store FOR TABLES IN SCHEMA eventstore');
$subscriber->safe_psql('postgres', 'CREATE SUBSCRIPTION store CONNECTION ' . "'" . $node->connstr('postgres') =~ s/'/''/gr . "'" . ' PUBLICATION store');
ok($subscriber->poll_query_until('postgres', q{SELECT count(*) > 10 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel}), 'a subscriber has all');
my $on_subscriber = $subscriber->background_psql('postgres');
is(newest($on_subscriber), '2|{"a": 1, "n": 1}', '... and reads in the newest form');

foreach (
	[ q{SELECT es_register_upcaster_ops('Copied', 2, '{"set": {"b": 1}}')}, '3|{"a": 1, "b": 1, "n": 1}', 'another upcaster' ],
	[ q{SELECT es_register_upcaster_ops('Copied', 2, '{"set": {"b": 2}}')}, '3|{"a": 1, "b": 2, "n": 1}', 'one in its place' ],
	[ q{SELECT es_drop_upcaster('Copied', 2)}, '2|{"a": 1, "n": 1}', 'one dropped' ])
{
	my ($change, $expected, $what) = @$_;

	run($change);
	my $lsn = $node->lsn('insert');
	$node->wait_for_catchup($standby, 'replay', $lsn);
	is(newest($on_standby), $expected, "a warm session of the standby learns of $what");
	$node->wait_for_catchup('store', 'replay', $lsn);
	is(newest($on_subscriber), $expected, '... and one of the subscriber');
}

# what else is kept by session and changed in place
run($_) foreach (q{SELECT es_register_reducer_ops('copied', 'Copied', '{"inc": {"n": 1}}')});
my $replay = q{SELECT state FROM es_replay('copied-1', 'copied')};
$node->wait_for_catchup('store', 'replay', $node->lsn('insert'));
is($on_subscriber->query_safe($replay), '{"n": 1}', 'a warm session of the subscriber replays');
run(q{SELECT es_register_reducer_ops('copied', 'Copied', '{"inc": {"n": 2}}')});
$node->wait_for_catchup('store', 'replay', $node->lsn('insert'));
is($on_subscriber->query_safe($replay), '{"n": 2}', '... and learns of another handler');
is(sqlstates($subscriber, 'postgres', q{SELECT es_register_schema('Copied', 'true'); SELECT es_drop_schema('Copied', 1); SELECT es_drop_upcaster('Copied', 1);}, on_error_stop => 0), '55000 55000 55000',
	'a subscriber changes nothing itself');
is(sqlstates($standby, 'postgres', q{SELECT es_register_schema('Copied', 'true'); SELECT es_drop_schema('Copied', 1); SELECT es_drop_upcaster('Copied', 1);}, on_error_stop => 0), '25006 25006 25006', '... nor does a standby');
$_->quit foreach ($on_standby, $on_subscriber);
my $defined = q{SELECT s::text FROM eventstore.schemas s UNION ALL SELECT u::text FROM eventstore.upcasters u ORDER BY 1};
is($subscriber->safe_psql('postgres', $defined), run($defined), 'the subscriber has what is defined');

run('CREATE DATABASE restored');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
command_ok([ $node->installed_command('pg_dump'), '-d', $node->connstr('postgres'), '--no-publications', '-f', $dump ], 'the store is dumped');
command_ok([ $node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], '... and restored');
is($node->safe_psql('restored', $defined), run($defined), 'a restored store has what is defined');
is($node->safe_psql('restored', q{SELECT es_append('copied-1', 'Copied', '{}'); SELECT max(type_version) FROM es_read('copied-1')}), "2\n2", '... and goes by it');
is(sqlstates($node, 'restored', q{SELECT es_append('copied-1', 'Copied', '7', type_version => 1); SELECT es_append('copied-1', 'Copied', type_version => 3); SELECT es_drop_upcaster('Copied', 1);
	SELECT es_drop_upcaster('Placed', 1);}, on_error_stop => 0), 'VE005 22023 55000 55000', '... in all ways');

done_testing();
