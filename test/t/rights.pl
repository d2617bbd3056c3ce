# Rights where sessions, clusters and roles change: they go with a role through renames, dumps,
# standbys and logical subscribers; a session that has been warm for long knows of every
# change, whatever an administrator does to the table; a connection of a pool has the rights of
# whoever has it now; and without preloading a first statement tells no more than a later one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "wal_retrieve_retry_interval = 200ms\nautovacuum = off\n";
my $node = new_node('main', streaming => 'logical', conf => $conf);

sub run { return $node->safe_psql('postgres', $_[0]); }

# as(role, sql, node): what a role gets in a session of its own, or the SQLSTATE
sub as
{
	my ($role, $sql, $on) = @_;
	my ($ret, $out, $err) = ($on // $node)->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", extra_params => [ '-U', $role ]);

	return $err =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}

# said(session, sql): what a warm session gets, or the SQLSTATE
sub said
{
	my ($session, $sql) = @_;
	my $out = $session->query($sql) =~ s/^\s+|\s+$//gr;
	my $err = $session->{stderr};

	$session->{stderr} = '';
	return $err =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}

# warm(role, node): a session of a role
sub warm
{
	my ($role, $on) = @_;
	my $session = ($on // $node)->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', $role ]);

	$session->query("\\set VERBOSITY sqlstate\nSET client_min_messages = warning");
	return $session;
}

my $read = q{SELECT count(*) FROM es_read('order-1')};
my $other = q{SELECT count(*) FROM es_read('pay-1')};
my $append = q{SELECT es_append_batch('order-1', '[]')};
my $seen = q{SELECT string_agg(DISTINCT split_part(stream, '-', 1), ' ') FROM es_events};

run($_) foreach ('CREATE EXTENSION eventstore', 'CREATE ROLE nobody LOGIN', 'CREATE ROLE reader LOGIN', 'CREATE ROLE writer LOGIN', 'CREATE ROLE later LOGIN',
	'CREATE ROLE team', 'CREATE ROLE everything LOGIN',
	q{SELECT count(es_append('order-1', 'Placed')) FROM generate_series(1, 3)}, q{SELECT es_append('pay-1', 'Secret')},
	q{SELECT es_grant('reader', 'read', 'order'), es_grant('writer', 'append', 'order'), es_grant('later', 'read', 'pay'), es_grant('everything', 'read')},
	q{SELECT es_grant('team', 'read', 'pay')});

# ---- without preloading, the first statement of a session ----

# called as a plan is made, so that the library has been loaded for a while as it begins
run(q{CREATE FUNCTION warm() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM es_last_position(); PERFORM FROM pg_class LIMIT 1; RETURN 1; END'});
is(as('nobody', $read), '42501', 'PUBLIC has nothing: the first statement of a session');
is(as('nobody', 'SELECT count(*) FROM es_events'), '0', '... and sees nothing');
is(as('reader', $_), '42501', "the first statement of a session: $_") foreach ("EXPLAIN $seen", "EXPLAIN ANALYZE $seen", "EXPLAIN (ANALYZE, TIMING off) $seen",
	"PREPARE p AS $seen; EXPLAIN EXECUTE p", "EXPLAIN ANALYZE SELECT warm(), s.* FROM ($seen) s", 'SELECT FROM es_events FOR SHARE', 'BEGIN; LOCK TABLE es_events IN ROW EXCLUSIVE MODE', q{DO $$ BEGIN EXECUTE 'EXPLAIN SELECT FROM es_streams'; END $$});
is(as('reader', $seen), 'order', 'a view, as a first statement');
is(as('everything', $seen), 'order pay', '... of one who may read everything');
unlike(as('everything', "SELECT 1; EXPLAIN $seen") . '', qr/42501/, '... who may see plans');
run(q{ALTER ROLE reader SET session_preload_libraries = 'auto_explain'});
$node->append_conf('postgresql.conf', "auto_explain.log_min_duration = 0\nauto_explain.log_analyze = on\n");
$node->reload;
is(as('reader', "SELECT 1; $seen"), "1\norder", 'what auto_explain writes for the server is not explained to anybody');
run(q{ALTER ROLE reader RESET session_preload_libraries});

foreach my $preloaded (0, 1)
{
	my $mode = preload($node, $preloaded);

	$node->restart;
	# ---- a warm session, and what an administrator does ----
	my $session = warm('reader');
	is(said($session, $_), $_ eq $seen ? 'order' : '3', "$mode: warm") foreach ($read, $seen);
	foreach my $ddl ('REINDEX TABLE CONCURRENTLY eventstore.grants', 'VACUUM FULL eventstore.grants', 'ALTER TABLE eventstore.grants ADD COLUMN note text',
		'ALTER TABLE eventstore.grants DROP COLUMN note', 'VACUUM ANALYZE eventstore.grants', 'ALTER TABLE eventstore.grants SET (fillfactor = 50)')
	{
		run($ddl);
		is(said($session, $read), '3', "$mode: $ddl");
		is(said($session, $other), '42501', '... and no more');
		run(q{SELECT es_grant('reader', 'read', 'pay')});
		is(said($session, $other), '1', '... what is given is there');
		run(q{SELECT es_revoke('reader', 'read', 'pay')});
		is(said($session, $other), '42501', '... what is taken is gone');
	}
	run('ALTER TABLE eventstore.grants RENAME TO hidden');
	is(said($session, $read), '55000', "$mode: without the table nobody has anything");
	is(run($read), '3', '... but the owner');
	run('ALTER TABLE eventstore.hidden RENAME TO grants');
	is(said($session, $read), '3', '... and it is back');

	# who owns the database is a member of a role by that alone
	$session->query("PREPARE seen AS $seen; SET plan_cache_mode = force_generic_plan");
	run(q{SELECT es_grant('pg_database_owner', 'read'); ALTER DATABASE postgres OWNER TO reader});
	is(said($session, $_), $_ eq $other ? '1' : 'order pay', "$mode: the database's owner: $_") foreach ($other, $seen, 'EXECUTE seen');
	run('ALTER DATABASE postgres OWNER TO postgres');
	is(said($session, $_), $_ eq $other ? '42501' : 'order', "... who is that no more: $_") foreach ($other, $seen, 'EXECUTE seen');
	run(q{SELECT es_revoke('pg_database_owner', 'read')});
	$session->quit;

	# ---- a pool's connection ----
	my $pooled = warm('postgres');
	foreach my $to (map { my $how = $_; map { [ $how, $_ ] } ('RESET ROLE', 'DISCARD ALL') } ('SET ROLE %s', 'SET SESSION AUTHORIZATION %s'))
	{
		my ($how, $back) = @$to;

		$pooled->query("PREPARE seen AS $seen; SET plan_cache_mode = force_generic_plan");
		foreach my $as ([ everything => 'order pay' ], [ reader => 'order' ], [ nobody => '' ], [ everything => 'order pay' ])
		{
			$pooled->query(sprintf($how, $as->[0]));
			is(said($pooled, 'EXECUTE seen'), $as->[1], "$mode: $how, $as->[0]");
			is(said($pooled, $other), $as->[0] eq 'everything' ? '1' : '42501', '... a function');
			$pooled->query('RESET ROLE');
			$pooled->query('RESET SESSION AUTHORIZATION');
		}
		is(said($pooled, "$back; $other"), '1', "... $back");
		$pooled->query('DEALLOCATE ALL; RESET ALL');
	}
	$pooled->quit;
}

# ---- what a role is called ----

is(run(q{ALTER ROLE later RENAME TO renamed; CREATE ROLE later LOGIN; SELECT string_agg(role || ' ' || privilege || ' ' || category, ', ' ORDER BY role, privilege) FROM es_grants}),
	'everything read *, reader read order, renamed read pay, team read pay, writer append order', 'es_grants has the names of now');
is(as('renamed', $other), '1', 'a role that was renamed keeps its rights');
is(as('later', $other), '42501', '... and another one of its old name has none');
$node->restart;
ok(wait_until('the worker to come by', sub { run(q{SELECT count(*) FROM eventstore.grants WHERE role = 'renamed'}) eq '1' }), 'the worker writes the name anew');
run('DROP ROLE team');
$node->restart;
ok(wait_until('the worker to come by', sub { run(q{SELECT count(*) FROM eventstore.grants WHERE role = 'team'}) eq '0' }), '... and takes away what a dropped role had');

# ---- GRANTs of before ----

my $manual = slurp_file("$FindBin::RealBin/../../doc/eventstore.md");
my ($carry) = $manual =~ /<!-- carried over -->\n```sql\n(.*?)```/s or die 'the manual has no such statement';
run($_) foreach ('CREATE ROLE old_app', 'CREATE ROLE old_reader', 'CREATE ROLE old_importer', 'CREATE ROLE old_nobody',
	'GRANT EXECUTE ON FUNCTION es_append, es_read TO old_app', 'GRANT EXECUTE ON FUNCTION es_read_all TO old_reader', 'GRANT SELECT, INSERT ON es_events TO old_importer',
	'GRANT EXECUTE ON FUNCTION es_settled_position TO old_nobody');
run($carry);
is(run(q{SELECT string_agg(role || ' ' || privilege || ' ' || category, ', ' ORDER BY role, privilege) FROM es_grants WHERE role ~ '^old'}),
	'old_app append *, old_app read *, old_importer append *, old_importer read *, old_reader read *', 'GRANTs by hand are carried over by the manual\'s statement');
run('DROP OWNED BY old_app, old_reader, old_importer, old_nobody; DROP ROLE old_app, old_reader, old_importer, old_nobody');
run(q{SELECT es_revoke('nobody', 'read')});

# ---- a dump, in another cluster ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ $node->installed_command('pg_dump'), '-f', $dump, $node->connstr('postgres') ], 'a dump');
my $copy = new_node('copy', conf => $conf);
$copy->safe_psql('postgres', "CREATE ROLE other_$_") foreach (1 .. 5);	# OIDs are others'
$copy->safe_psql('postgres', "CREATE ROLE $_ LOGIN") foreach ('nobody', 'writer', 'reader');
$copy->safe_psql('postgres', "CREATE DATABASE restored");
$copy->command_ok([ $copy->installed_command('psql'), '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $copy->connstr('restored'), '-f', $dump ], 'restored elsewhere');

# in_copy(role, sql)
sub in_copy
{
	my ($role, $sql) = @_;
	my ($ret, $out, $err) = $copy->psql('restored', "\\set VERBOSITY sqlstate\n$sql", extra_params => [ '-U', $role ]);

	return $err =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}
is(in_copy('reader', $read), '3', 'in another cluster a grant is the role\'s of that name');
is(in_copy('writer', $append), '3', '... each');
is(in_copy('nobody', $read), '42501', '... and nobody else\'s');
is(in_copy(getpwuid($<) // 'postgres', q{SELECT string_agg(role || ' ' || privilege, ', ' ORDER BY role) FROM es_grants}), 'everything read, reader read, renamed read, writer append',
	'es_grants shows those too whose roles are not there yet');
$copy->safe_psql('restored', 'CREATE ROLE renamed LOGIN');
is(in_copy('renamed', $other), '1', '... which have them once they are made');
$copy->safe_psql('restored', q{SELECT es_grant('nobody', 'append', 'none')});
$copy->safe_psql('restored', 'ALTER ROLE reader RENAME TO reader_here; CREATE ROLE reader LOGIN');
is(in_copy('reader_here', $read), '3', 'what has come from elsewhere is the role\'s, by any name, once something was granted here');
is(in_copy('reader', $read), '42501', '... and no other\'s');
$copy->stop;

# ---- a standby ----

my $standby = start_standby($node, '', 'standby');
my $there = warm('reader', $standby);
is(said($there, $read), '3', 'a standby has the rights');
is(said($there, $other), '42501', '... and no others');
is(said($there, $seen), 'order', '... for views');
is(said($there, q{SELECT es_grant('reader', 'read')}), '42501', 'nobody gives rights there');
is(as('postgres', q{SELECT es_grant('reader', 'read')}, $standby), '25006', '... nor does the owner');
run(q{SELECT es_grant('reader', 'read', 'pay')});
$node->wait_for_catchup($standby);
is(said($there, $other), '1', 'a warm session there has what is given');
run(q{SELECT es_revoke('reader', 'read', 'pay'), es_revoke('reader', 'read', 'order')});
$node->wait_for_catchup($standby);
is(said($there, $_), '42501', '... and not what is taken') foreach ($read, $other);
run(q{SELECT es_grant('reader', 'read', 'order')});
$there->quit;
$standby->stop;

# ---- a logical subscriber ----

run('CREATE PUBLICATION store FOR TABLES IN SCHEMA eventstore');
my $subscriber = new_node('subscriber', streaming => 'logical', conf => $conf);
$subscriber->safe_psql('postgres', "CREATE ROLE other_$_") foreach (1 .. 3);
$subscriber->safe_psql('postgres', "CREATE ROLE $_ LOGIN") foreach ('nobody', 'reader');
$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION store");
ok($subscriber->poll_query_until('postgres', q{SELECT count(*) > 5 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel}), 'a subscriber has everything');
my $follower = warm('reader', $subscriber);
is(said($follower, $read), '3', '... grants too, by name');
is(said($follower, $other), '42501', '... and no others');
$subscriber->safe_psql('postgres', q{SELECT es_grant('reader', 'read', 'pay'), es_grant('nobody', 'read', 'order')});
is(said($follower, $other), '1', 'grants of its own are given there');
run(q{SELECT es_grant('reader', 'read', 'pay'), es_grant('nobody', 'read', 'order')});
run(q{SELECT es_revoke('nobody', 'read', 'order')});
$node->wait_for_catchup('s');
is(as('nobody', $read, $subscriber), '3', 'what the publisher gives and takes is another grant than its own');
run(q{SELECT es_revoke('reader', 'read', 'order')});
$node->wait_for_catchup('s');
is(said($follower, $read), '42501', '... and reaches a warm session there');
is(said($follower, $other), '1', '... which keeps what else it has');
run(q{SELECT es_append('order-1', 'Placed')});
$node->wait_for_catchup('s');
is(as('nobody', $read, $subscriber), '4', 'the subscription goes on');
$follower->quit;

$subscriber->stop;
$node->stop;
done_testing();
