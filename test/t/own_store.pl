# A store's very first positions, and one that its own transaction drops and makes
# anew: what a transaction has in flight is never settled, for itself neither.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

foreach my $preload (0, 1)
{
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $node = new_node("node_$preload", conf => "shared_preload_libraries = '" . ($preload ? 'eventstore' : '') . "'\n");

	$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
	is($node->safe_psql('postgres', q{BEGIN; SELECT es_append('a-1', 'A'); SELECT es_settled_position(), es_settle(); COMMIT; SELECT es_settled_position();}),
		"1\n0|0\n1", "$how: the first append of all is in flight until it commits");

	my $session = $node->background_psql('postgres');
	$session->query_safe(q{BEGIN; SELECT es_append('a-1', 'B'); SAVEPOINT s});
	$session->query_safe('SET LOCAL client_min_messages = warning; SET LOCAL eventstore.allow_drop = on; DROP EXTENSION eventstore; CREATE EXTENSION eventstore;');
	is($session->query_safe('SELECT es_settled_position()'), '0', "$how: a store made anew is empty");
	$session->query_safe('ROLLBACK TO s');
	cmp_ok($session->query_safe('SELECT es_settled_position()'), '<', 2, "$how: undone, the own append is in flight as before");
	is($node->safe_psql('postgres', q{SELECT es_settled_position(), (SELECT count(*) FROM es_read_all())}), '1|1', "$how: for others, too");
	$session->query_safe('COMMIT');
	$session->quit;
	is($node->safe_psql('postgres', q{SELECT es_settled_position(), (SELECT count(*) FROM es_read_all())}), '2|2', "$how: until it commits");
	$node->stop;
}
done_testing();
