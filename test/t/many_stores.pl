# More stores of a cluster than shared memory has places for what is settled in them: one that is
# being loaded, by a restore say, is known to be as long as there is another place to be taken.
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

done_testing();
