# What would take the store away is refused while it has events, in the first
# statement of a session, with and without preloading; and what a restore with
# --clean needs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @takes_away = (
	'DROP EXTENSION eventstore', 'DROP EXTENSION eventstore CASCADE', 'DROP SCHEMA public CASCADE', 'DROP SCHEMA eventstore CASCADE',
	'DROP TABLE eventstore.events_0', 'DROP TABLE eventstore.streams, eventstore.events CASCADE', 'DROP INDEX eventstore.events_0_stream',
	'DROP INDEX CONCURRENTLY eventstore.streams_by_category', 'DROP INDEX eventstore.events_0_tag',
	'ALTER TABLE eventstore.config DROP COLUMN segment_size', 'DROP TRIGGER guard_statement ON eventstore.events_0',
	'ALTER TYPE es_state DROP ATTRIBUTE state', 'ALTER EXTENSION eventstore DROP TABLE eventstore.streams',
	'ALTER SEQUENCE eventstore.position_seq RESTART', 'ALTER TABLE eventstore.events_0 SET UNLOGGED',
	'DROP OWNED BY boss CASCADE', 'DO $$BEGIN DROP EXTENSION eventstore; END$$', 'SELECT drops()',
	'SET session_replication_role = replica; DROP EXTENSION eventstore');
my @leaves_it = (
	'REINDEX SCHEMA CONCURRENTLY eventstore', 'VACUUM FULL', 'CLUSTER eventstore.events_0 USING events_0_position',
	'DROP TABLE unrelated', 'DROP INDEX eventstore.mine', 'CREATE TEMP TABLE t (i int); DROP TABLE t');

foreach my $preload ('', 'eventstore')
{
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $node = new_node($preload ? 'preloaded' : 'plain', conf => "shared_preload_libraries = '$preload'\n");
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my ($pg_dump, $pg_restore) = map { $node->installed_command($_) } qw(pg_dump pg_restore);
	my $dropped = q{SELECT count(*) FROM pg_extension WHERE extname = 'eventstore'};

	$node->safe_psql('postgres', q{
		CREATE ROLE boss SUPERUSER LOGIN;
		CREATE DATABASE store OWNER boss;
		CREATE DATABASE copy;
	});
	$node->safe_psql('store', q{
		SET ROLE boss;
		CREATE EXTENSION eventstore;
		CREATE TABLE unrelated (i int PRIMARY KEY);
		CREATE FUNCTION drops() RETURNS void LANGUAGE sql AS 'DROP SCHEMA IF EXISTS eventstore, nothing CASCADE';
		SELECT es_append('order-' || n, 'Ordered', jsonb_build_object('n', n)) FROM generate_series(1, 20) n;
		CREATE INDEX mine ON eventstore.events_0 (type);
	});
	my $digest = store_digest($node, 'store');

	foreach my $statement (@takes_away)
	{
		is(sqlstates($node, 'store', $statement), 'VE002', "$how: $statement");
	}
	is(store_digest($node, 'store'), $digest, "$how: nothing is missing");
	foreach my $statement (@leaves_it)
	{
		my ($status, $out, $err) = $node->psql('store', $statement);
		is($status, 0, "$how: $statement") or diag $err;
	}
	is(store_digest($node, 'store'), $digest, "$how: the store is as before");

	# one that waits for a writer
	my $writer = $node->background_psql('copy');
	$node->safe_psql('copy', 'CREATE EXTENSION eventstore');
	$writer->query_safe(q{BEGIN; SELECT es_append('a-1', 'A')});
	my $dropper = start_script($node, 'copy', "\\set VERBOSITY sqlstate\nSELECT pg_backend_pid();\nDROP EXTENSION eventstore;");
	ok($node->poll_query_until('copy', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^DROP EXTENSION' AND cardinality(pg_blocking_pids(pid)) > 0}),
		"$how: a DROP waits for the first append of all");
	$writer->query_safe('COMMIT');
	$writer->quit;
	like((finish_script($dropper))[1], qr/VE002/, "$how: and is refused once that has committed");

	# a restore over the store
	command_ok([ 'sh', '-ec', "$pg_dump -Fc -d \"" . $node->connstr('store') . "\" -f $dir/dump" ], "$how: dumped");
	my $restore = "$pg_restore --clean --if-exists --single-transaction -d \"" . $node->connstr('copy') . "\" $dir/dump";
	command_fails_like([ 'sh', '-ec', $restore ], qr/because the event store has events/, "$how: pg_restore --clean over a store with events is refused");
	is($node->safe_psql('copy', 'SELECT stream, version FROM es_read_all()'), 'a-1|1', "$how: and leaves it as it was");
	command_ok([ 'sh', '-ec', "PGOPTIONS='-c eventstore.allow_drop=on' $restore" ], "$how: with the setting it goes through");
	is(store_digest($node, 'copy'), $digest, "$how: and brings the other store");

	# a setting of the session, of the role or of the database
	$node->safe_psql('postgres', 'ALTER ROLE boss SET eventstore.allow_drop = on');
	is($node->safe_psql('store', "BEGIN; DROP EXTENSION eventstore; $dropped; ROLLBACK", extra_params => [ '-U', 'boss' ]), '0',
		"$how: allowed by a setting of the role, before the library is loaded");
	$node->safe_psql('store', 'SET eventstore.allow_drop = on; DROP SCHEMA public CASCADE');
	is($node->safe_psql('store', $dropped), '0', "$how: the extension is dropped");
	is($node->safe_psql('store', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'eventstore'}), '0', "$how: with all it had");
	unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|XX000/, "$how: nothing broke");
	$node->stop;
}
done_testing();
