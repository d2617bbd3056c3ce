# Writers in another database, with a store of their own or without, hold back
# no reader here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
new_store($node, $_) foreach ('here', 'there');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->safe_psql('plain', 'CREATE TABLE t (x int)');
$node->safe_psql('here', q{SELECT es_append('a-1', 'A')});
$node->safe_psql('there', q{SELECT es_append('a-1', 'A')});

my $plain = $node->background_psql('plain');
my $there = $node->background_psql('there');
my $old = $node->background_psql('here');
$plain->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO t VALUES (1);');
$there->query_safe(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT es_append('a-1', 'B'), es_append('b-1', 'B');});
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM es_events; CREATE TEMP TABLE t (x int);');
$node->safe_psql('there', q{BEGIN; SELECT es_append('c-1', 'C'); PREPARE TRANSACTION 'there';});

is($node->safe_psql('here', q{
		SELECT es_append('a-1', 'B', expected_version => 1);
		SELECT es_settled_position() = es_last_position();
		SELECT count(*) FROM es_read_all();
		SELECT count(*) FROM es_read_category('a');
		SELECT es_wait(es_last_position() - 1, '1h') = es_last_position()}),
	"2\nt\n2\n2\nt", 'an open writer, an open append and a prepared append in other databases hold back no reader');
is($node->safe_psql('there', q{SELECT es_settled_position(), count(*) FROM es_read_all()}), '1|1', 'the append there is in flight there');
is($old->query_safe(q{SELECT count(*) FROM es_read_all()}), '2', 'the log is read as it stands, not by an old snapshot');

$there->query_safe('COMMIT');
$node->safe_psql('there', q{COMMIT PREPARED 'there'});
is($node->safe_psql('there', 'SELECT es_settled_position(), count(*) FROM es_read_all()'), '4|4', 'and ends there');
$_->quit foreach ($plain, $there, $old);

# One session that goes from store to store would be two sessions: caches are per database.
is($node->safe_psql('here', q{
		SELECT es_stream_version('b-1');
		SELECT es_append('b-1', 'A', expected_version => 0);
		\c there
		SELECT es_stream_version('b-1');
		SELECT es_append('b-1', 'C', expected_version => 1);}),
	"0\n1\n1\n2", 'streams of the same name in two databases are two streams');

$node->stop;
done_testing();
