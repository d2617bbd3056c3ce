# pg_upgrade carries a store over as it is, with the library preloaded or not,
# and everything goes on: appends, COPY, replay, subscriptions, projections, and
# the guards of the view, whatever session_replication_role says; also where much has
# left the store, and a segment is away.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Cwd qw(getcwd);
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_node('old', conf => "shared_preload_libraries = 'eventstore'\neventstore.scavenge_rate = 0\n");
my $dir = PostgreSQL::Test::Utils::tempdir();

# upgrade(name, conf): a new cluster with what is in the old one, running
sub upgrade
{
	my ($name, $conf) = @_;
	my $new = PostgreSQL::Test::Cluster->new($name);
	my $bin = $old->config_data('--bindir');
	my $back = getcwd;

	$new->init;
	$new->append_conf('postgresql.conf', $conf);
	$old->stop;
	# it leaves its files where it is run
	chdir $dir or die "$dir: $!";
	command_ok([ $old->installed_command('pg_upgrade'), '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin,
			'-s', $old->host, '-p', $old->port, '-P', $new->port ], "$name: pg_upgrade");
	chdir $back or die "$back: $!";
	$old->start;
	$new->start;
	return $new;
}

$old->safe_psql('postgres', 'CREATE DATABASE store');
$old->safe_psql('store', q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(200);
});
$old->safe_psql('store', q{
	SELECT count(es_append('order-' || n % 7, 'OrderPlaced', jsonb_build_object('n', n))) FROM generate_series(1, 700) n;
	SELECT es_append_if('[{"stream": "course-1", "type": "Enrolled", "tags": ["course:db"]}]', after_position => 0, tags => '{course:db}');
	BEGIN;
	SELECT es_append('undone-1', 'Undone');
	ROLLBACK;
	CREATE TYPE totals AS (n numeric, at timestamptz);
	CREATE FUNCTION total(state totals, event es_event) RETURNS totals LANGUAGE plpgsql AS
		$$BEGIN state.n := coalesce(state.n, 0) + 1; state.at := event.recorded_at; RETURN state; END$$;
	SELECT es_create_reducer('totals', state_type => 'totals'), es_register_reducer('totals', '*', 'total(totals, es_event)');
	SELECT es_register_reducer_ops('order', 'OrderPlaced', '{"inc": {"n": "$.data.n"}}');
	SELECT es_register_upcaster_ops('OrderPlaced', 1, '{"inc": {"n": 1}}');
	SELECT es_snapshot('order-1'), es_snapshot('order-1', 'totals');
	SELECT es_subscribe('plain');
	SELECT es_ack('plain', 0, max(position)) FROM es_poll('plain', 50);
	SELECT es_create_projection('orders', 'merge', 'inline', 'order'), es_create_projection('later', 'count');
	SELECT es_append('left-' || i, 'L') FROM generate_series(1, 2) i, generate_series(1, 5);
	SELECT es_snapshot('left-1', 'count'), es_truncate_stream('left-1', 4), es_delete_stream('left-2'), es_set_retention('aged', '30 days', 100);
});
$old->safe_psql('store', 'SELECT es_seal()');
$old->poll_query_until('store', q{SELECT bool_and(lag = 0) FROM es_projections}) or die;
# the worker comes by
$old->poll_query_until('store', q{SELECT bool_and(arrived > 0 AND aged > 0) FROM eventstore.retention}) or die;

my $digest = store_digest($old, 'store');
my $thinned = new_thinned_store($old, 'thinned');

foreach my $case ([ 'plain', '' ], [ 'preloaded', "shared_preload_libraries = 'eventstore'\neventstore.scavenge_rate = 0\n" ])
{
	my ($how, $conf) = @$case;
	my $new = upgrade($how, $conf);

	is(store_digest($new, 'store'), $digest, "$how: equal store");
	is($new->safe_psql('store', 'SELECT count(*), (SELECT count(*) FROM es_seals) FROM es_verify()'), '0|1', "$how: it is what was sealed");
	is($new->safe_psql('store', q{
			SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
			WHERE (c.relnamespace = 'eventstore'::regnamespace OR c.oid = 'es_events'::regclass) AND NOT t.tgisinternal AND t.tgenabled <> 'A'}),
		'0', "$how: the guards are on always");
	is($new->safe_psql('store', q{SELECT es_append('order-1', 'OrderPlaced', '{"n": 1}', expected_version => 100); SELECT es_settled_position()}),
		"101\n714", "$how: a stream goes on with its next version and the next position");
	is($new->safe_psql('store', q{
			SET session_replication_role = replica;
			INSERT INTO es_events (stream, type, data, version) VALUES ('order-1', 'OrderPlaced', '{"n": 2}', 102) RETURNING position;
			COPY es_events (stream, type, data) FROM STDIN;
order-1	OrderPlaced	{"n": 3}
\.
			SELECT es_stream_version('order-1')}), "715\n103", "$how: the view takes events from replicas, too");
	foreach my $statement (q{UPDATE es_events SET type = 'x'}, q{DELETE FROM es_events}, q{DELETE FROM eventstore.events}, q{TRUNCATE eventstore.events})
	{
		is(sqlstates($new, 'store', "SET session_replication_role = replica; $statement"), 'VE002', "$how: refused: $statement");
	}
	is($new->safe_psql('store', q{SELECT state->>'n', (es_replay_as('order-1', NULL::totals, 'totals')).n FROM es_replay('order-1')}),
		'34856|103', "$how: reducers");
	is($new->safe_psql('store', q{SELECT min(position) FROM es_poll('plain', 10)}), '51', "$how: a subscription goes on where it was");
	is($new->safe_psql('store', q{SELECT count(*) FROM es_read_tagged('{course:db}')}), '1', "$how: tags");
	is($new->safe_psql('store', q{SELECT version, state->>'n' FROM es_projection('orders', 'order-1')}), '103|3', "$how: an inline projection goes on");
	is($new->safe_psql('store', q{SELECT count(es_append('roll-' || n % 3, 'R')) FROM generate_series(1, 500) n}), '500', "$how: over to new segments");
	is($new->safe_psql('store', q{SELECT (SELECT array_agg(version) FROM es_read('left-1')), state, (SELECT count(*) FROM es_read('left-2')) FROM es_replay('left-1', 'count')}),
		'{4,5}|{"count": 5}|0', "$how: what was hidden stays so, with the state that it had");
	is(sqlstates($new, 'store', q{SELECT es_append('left-2', 'L')}), 'VE003', "$how: what was deleted, too");
	is(gaps($new, 'store'), '', "$how: versions without gaps");
	check_thinned_store($new, 'thinned', $thinned, $how);
	$new->stop;
}

done_testing();
