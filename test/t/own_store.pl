# A store's very first positions, one that its own transaction drops and makes anew, and one in
# a database that is put back from a copy under the same OID, its tables with the OIDs and files of
# before: what a transaction has in flight is never settled, for itself neither.
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

	# a database that is put back from a copy, under its OID: what was known of it is not known of the next one
	my $leases = q{SELECT bool_and(s.lease_until = p.lease_until) FROM es_subscriptions s JOIN eventstore.subscriptions d ON d.name = s.subscription JOIN eventstore.subscription_partitions p USING (subscription_id)};
	$node->safe_psql('postgres', 'CREATE DATABASE model');
	$node->safe_psql('model', $_) foreach ('CREATE EXTENSION eventstore', q{SELECT es_subscribe('reads'), es_append('a-1', 'A')},
		q{SELECT count(*) FROM es_poll('reads', member => 'm', lease => '1h')}, q{SELECT es_ack('reads', 0, 1, 'm')}, q{SELECT es_append('a-1', 'B'), es_append('a-1', 'C')});
	$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE model');
	is($node->safe_psql('model', q{SELECT count(es_append('a-1', 'D')) FROM generate_series(1, 5); SELECT es_settled_position()}), "5\n8", "$how: a store that was copied goes on");
	is($node->safe_psql('model', q{SELECT count(*) FROM es_poll('reads', member => 'm', lease => '1h')}), '7', "$how: and delivers");
	is($node->safe_psql('model', $leases), $preload ? 'f' : 't', "$how: ... which its rows tell of without preload only");
	my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'model'});
	$node->safe_psql('postgres', 'DROP DATABASE model');
	$node->safe_psql('postgres', "CREATE DATABASE model OID = $oid TEMPLATE copy");
	is($node->safe_psql('model', $leases), 't', "$how: put back from the copy under the same OID its leases are those of its rows");
	$session = $node->background_psql('model');
	$session->query_safe(q{BEGIN; SELECT es_append('b-1', 'B')});
	$node->safe_psql('model', q{SELECT es_append('c-1', 'C')});
	is($node->safe_psql('model', q{SELECT es_settled_position() <= 3, (SELECT count(*) FROM es_read_all(3))}), 't|0', "$how: and what is in flight is not taken for settled");
	$session->query_safe('COMMIT');
	$session->quit;
	is($node->safe_psql('model', q{SELECT es_settled_position(), (SELECT count(*) FROM es_read_all(3))}), '5|2', "$how: until it has ended");
	is($node->safe_psql('model', q{SELECT es_append('a-1', 'D', expected_version => 3); SELECT count(*) FROM es_read('a-1')}), "4\n4", "$how: streams go on from its own events");
	$node->stop;
}
done_testing();
