# More stores of a cluster than shared memory has places for what is settled in them: one that is
# being loaded, by a restore say, is known to be as long as there is another place to be taken. And
# more databases than workers can be started for, of which one has a store.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nfsync = off\n");
my $loading = q{SELECT value FROM es_metrics() WHERE name = 'eventstore_loading'};
my $load = 'INSERT INTO eventstore.retention SELECT * FROM eventstore.retention WHERE false';

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql($_, q{CREATE EXTENSION eventstore; SELECT es_append('a-1', 'T')}) foreach 'postgres', 'other';
$node->safe_psql('postgres', $load);
is($node->safe_psql('postgres', $loading), '1', 'a store is being loaded');

# A store is known by its sequence; each of these is loaded, and used then.
$node->safe_psql('other', join(";\n", map { (
	"ALTER SEQUENCE eventstore.position_seq RENAME TO hidden_$_",
	'CREATE SEQUENCE eventstore.position_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE', $load, 'SELECT es_settle()') } 1 .. 130));
is($node->safe_psql('other', $loading), '0', 'others have come and gone');
is($node->safe_psql('postgres', $loading), '1', 'it still is');
is($node->safe_psql('postgres', 'SELECT es_settle()'), '1', 'until it is used');
is($node->safe_psql('postgres', $loading), '0', '... and is not any more');

# Where all are being loaded there is no other place.
$node->safe_psql('postgres', $load);
$node->safe_psql('other', join(";\n", map { (
	"ALTER SEQUENCE eventstore.position_seq RENAME TO loaded_$_",
	'CREATE SEQUENCE eventstore.position_seq AS bigint INCREMENT 1 MINVALUE 1 START 1 CACHE 1 NO CYCLE', $load) } 1 .. 260));
is($node->safe_psql('postgres', $loading), '0', 'more than there are places: the first is forgotten');
is($node->safe_psql('other', $loading), '1', 'the last is known');

# ---- databases without a store ----

# Each database has a place on a roster until it is known to have no store. They share their files, which nobody writes.
my $crowd = new_node('crowd', conf => "shared_preload_libraries = ''\nautovacuum = off\nfsync = off\nallow_system_table_mods = on\nmax_worker_processes = 12\n");
my $base = $crowd->data_dir . '/base';
$crowd->safe_psql('postgres', 'CREATE DATABASE blank');
$crowd->safe_psql('blank', 'VACUUM (FREEZE)');
my $blank = $crowd->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'blank'});
$crowd->safe_psql('postgres', q{INSERT INTO pg_database SELECT (r).* FROM (SELECT jsonb_populate_record(d, jsonb_build_object('oid', 100000 + n, 'datname', 'blank' || n)) AS r
	FROM pg_database d, generate_series(1, 1100) n WHERE d.datname = 'blank') x});
symlink($blank, "$base/" . (100000 + $_)) or die foreach 1 .. 1100;
$crowd->safe_psql('postgres', q{CREATE EXTENSION eventstore; SELECT es_append('a-1', 'A')});
$crowd->append_conf('postgresql.conf', "shared_preload_libraries = 'eventstore'\n");
$crowd->restart;
$crowd->safe_psql('postgres', 'CREATE DATABASE late');
$crowd->safe_psql('late', q{CREATE EXTENSION eventstore; SELECT es_append('a-1', 'A')});
ok($crowd->poll_query_until('late', q{SELECT looked_after FROM eventstore.worker_state()}), 'a store is looked after, however many databases have none');
ok($crowd->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'eventstore worker'}), '... and none of those is');

# Where no worker is free, those that wait to be looked at are no more than a few, so a store that comes then has a place.
my $offset = -s $crowd->logfile;
$crowd->append_conf('postgresql.conf', "eventstore.max_workers = 1\n");
$crowd->restart;
ok($crowd->poll_query_until('postgres', q{SELECT workers = 1 AND looked_after FROM eventstore.worker_state()}), 'one worker is all there is room for');
$crowd->wait_for_log(qr/no background worker is free to look after an event store/, $offset);
$crowd->safe_psql('postgres', 'CREATE DATABASE later');
$crowd->safe_psql('later', q{CREATE EXTENSION eventstore; SELECT es_append('a-1', 'A')});
is($crowd->safe_psql('later', q{SELECT wanted, looked_after, eventstore.is_left_out() FROM eventstore.worker_state()}), 't|f|f', 'a store has its place also while no worker is free to look at those without one');
unlike(slurp_file($crowd->logfile, $offset), qr/more databases have an event store than can be looked after/, '... and nobody is told otherwise');
$crowd->append_conf('postgresql.conf', "eventstore.max_workers = 3\n");
$crowd->reload;
ok($crowd->poll_query_until('later', q{SELECT looked_after FROM eventstore.worker_state()}), '... and is looked after once one is');
ok($crowd->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND datname = 'late'}), '... as is one that nobody has used since');
$crowd->stop;

done_testing();
