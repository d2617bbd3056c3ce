# A router and the shards behind it: stores on clusters of their own.
package EventstoreShards;

use strict;
use warnings;

use Exporter 'import';
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(router_missing start_shards slots_of make_shard);

# router_missing(): why there can be no router here, or nothing.
sub router_missing
{
	my ($share) = run_command([ 'pg_config', '--sharedir' ]);

	return -e "$share/extension/plproxy.control" ? undef : 'PL/Proxy is not installed (tools/setup installs it)';
}

# run_file(node, database, file, variables)
sub run_file
{
	my ($node, $database, $file, @variables) = @_;
	my $path = $node->config_data('--sharedir') . "/eventstore/$file";

	$node->command_ok([ $node->installed_command('psql'), '-XAtq', (map { ('-v', $_) } @variables), '-d', $node->connstr($database), '-f', $path ], "$file is run");
	return;
}

# make_shard(number, conf): a store of that number, on a cluster of its own, that no router knows.
sub make_shard
{
	my ($number, $conf) = @_;
	my $node = new_node("shard$number", conf => $conf);

	new_store($node, 'store');
	run_file($node, 'store', 'shard.sql', "shard=$number");
	return $node;
}

# start_shards(count, started, conf): so many shards of which the first "started" have slots, and a router in database
# "router" of a cluster of its own; (router, shards).
sub start_shards
{
	my ($count, $started, $conf) = @_;
	my @shards = map { make_shard($_, $conf) } 0 .. $count - 1;
	my $router = new_node('router', conf => $conf);

	make_router($router, 'router', @shards);
	$router->safe_psql('router', "SELECT es_start_shards($started)");
	return ($router, @shards);
}

# make_router(node, database, shards): a router that knows no slot yet; in a database of that name, if there is one.
sub make_router
{
	my ($node, $database, @shards) = @_;
	my $user = getpwuid($>);
	my $options = join(', ', "modular_mapping '1'", map { "p$_ 'host=" . $shards[$_]->host . ' port=' . $shards[$_]->port . " dbname=store'" } 0 .. $#shards);

	$node->safe_psql('postgres', "SELECT 'CREATE DATABASE $database' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$database') \\gexec");
	# PL/Proxy tells clients of connections that it makes anew
	$node->safe_psql('postgres', "ALTER DATABASE $database SET client_min_messages = warning");
	$node->safe_psql($database, "CREATE EXTENSION plproxy; CREATE SERVER eventstore FOREIGN DATA WRAPPER plproxy OPTIONS ($options);
		CREATE USER MAPPING FOR PUBLIC SERVER eventstore OPTIONS (user '$user')");
	run_file($node, $database, 'router.sql');
	return;
}

# slots_of(router, shard, count): the first so many slots of a shard, as a SQL array.
sub slots_of
{
	my ($router, $shard, $count) = @_;

	return q{'} . $router->safe_psql('router', "SELECT array_agg(slot) FROM (SELECT slot FROM scaleout.slots WHERE shard = $shard ORDER BY 1 LIMIT $count) s") . q{'::int[]};
}

1;
