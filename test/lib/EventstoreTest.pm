# What the TAP tests of eventstore share.
package EventstoreTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(new_node new_installation preload new_store start_standby has_allow_list seed rows sqlstates wait_until wait_blocked crash_server
	start_process start_pgbench start_script start_named finish_script store_digest gaps status_of new_thinned_store check_thinned_store);

# A psql that finds the server away may be gone before it has been given its query. That is no answer, so it is asked again.
{
	no warnings 'redefine';
	my $poll = \&PostgreSQL::Test::Cluster::poll_query_until;

	*PostgreSQL::Test::Cluster::poll_query_until = sub {
		my $answer;

		for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
		{
			return $answer if eval { $answer = $poll->(@_); 1 };
			die $@ unless $@ =~ /^ack Broken pipe/;
			usleep(100_000);
		}
		die $@;
	};
}

# new_installation(name): a copy of the server's installation, whose files may be replaced; its folder, which
# new_node takes.
sub new_installation
{
	my ($name) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir() . "/$name";

	foreach my $what (qw(--bindir --pkglibdir --sharedir))
	{
		my ($folder) = run_command([ 'pg_config', $what ]);

		# programs find the rest from where they are, so they are copied
		system('bash', '-c', qq{mkdir -p "$root$folder" && cp } . ($what eq '--bindir' ? '-L' : '-rs') . qq{ "$folder"/* "$root$folder/"}) == 0 or die;
	}
	return $root;
}

# new_node(name, conf, streaming, install, init_only): a running cluster, of an installation of its own if so told, or
# one that is not running yet; ES_PRELOAD=1 in the environment preloads the library.
sub new_node
{
	my ($name, %options) = @_;
	my ($bin) = run_command([ 'pg_config', '--bindir' ]);
	my $node = PostgreSQL::Test::Cluster->new($name, $options{install} ? (install_path => $options{install} . $bin =~ s{/bin$}{}r) : ());

	$node->init(allows_streaming => $options{streaming} // 0);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\n");
	$node->append_conf('postgresql.conf', "max_connections = 60\n");
	$node->append_conf('postgresql.conf', "log_statement = none\n");
	$node->append_conf('postgresql.conf', "eventstore.master_key_command = 'printf %064d 1'\n");
	preload($node, 1) if $ENV{ES_PRELOAD};
	$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, test_decoding, eventstore'\n")
	  if ($options{streaming} // 0) eq 'logical' && has_allow_list($node);
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	$node->start if !$options{init_only};
	return $node;
}

# has_allow_list(node): whether the server knows which plugins are allowed; others refuse to start with that setting.
sub has_allow_list
{
	my ($node) = @_;
	my ($config) = run_command([ $node->installed_command('postgres'), '--describe-config' ]);

	return $config =~ /^output_plugin_libraries\t/m;
}

# preload(node, on): has the library preloaded, or not, from the next start on; says what that is called.
sub preload
{
	my ($node, $on) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . ($on ? 'eventstore' : '') . "'\n");
	return $on ? 'preloaded' : 'not preloaded';
}

# new_store(node, database, segment_size): a store in a database of its own.
sub new_store
{
	my ($node, $database, $segment_size) = @_;

	$node->safe_psql('postgres', qq{CREATE DATABASE "$database"});
	$node->safe_psql($database, 'CREATE EXTENSION eventstore');
	$node->safe_psql($database, "SELECT es_set_segment_size($segment_size)") if $segment_size;
}

# start_standby(node, conf, name): a standby of it, running.
sub start_standby
{
	my ($node, $conf, $name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name // 'standby');

	$node->backup('backup');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->append_conf('postgresql.conf', $conf) if $conf;
	$standby->start;
	return $standby;
}

# seed(): seeds perl's generator from ES_SEED, or anew, and says which it was.
sub seed
{
	my $seed = $ENV{ES_SEED} // int(rand(2**31));

	srand($seed);
	note "ES_SEED=$seed";
	diag "ES_SEED=$seed";
	return $seed;
}

# rows(node, database, sql): the result's lines.
sub rows
{
	my ($node, $database, $sql) = @_;

	return split /\n/, $node->safe_psql($database, $sql);
}

# sqlstates(node, database, sql, options of psql): of what fails; it stops at the first, unless told otherwise.
sub sqlstates
{
	my ($node, $database, $sql, %options) = @_;
	my ($ret, $out, $err) = $node->psql($database, "\\set VERBOSITY sqlstate\n$sql", %options);

	return join(' ', $err =~ /ERROR:\s+(\w+)/g);
}

# wait_until(what, sub): waits until it is true.
sub wait_until
{
	my ($what, $condition) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		usleep(100_000);
	}
	diag "timed out waiting for $what";
	return 0;
}

# wait_blocked(node, pid): waits until the backend waits for a lock.
sub wait_blocked
{
	my ($node, $pid, $database) = @_;

	return $node->poll_query_until($database // 'postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $pid AND cardinality(pg_blocking_pids(pid)) > 0");
}

# crash_server(node, pid): kill -9 of one of its processes, or of the checkpointer, upon which it ends all others; with
# restart_after_crash it recovers, and that is waited for.
sub crash_server
{
	my ($node, $pid) = @_;
	my $checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
	my $former = $node->safe_psql('postgres', $checkpointer);

	kill 'KILL', $pid // $former;
	return $node->poll_query_until('postgres', "SELECT pid <> $former FROM ($checkpointer) c");
}

my @started;

# No process that was started here outlives the test.
END
{
	my $status = $?;

	$_->kill_kill foreach grep { $_->pumpable } @started;
	$? = $status;
}

# start_process(command, out, err): runs it in the background; what it writes goes into files.
sub start_process
{
	my ($command, $out, $err) = @_;

	push @started, IPC::Run::start($command, '<', '/dev/null', '>', $out, '2>', $err);
	return $started[-1];
}

# start_pgbench(node, script, args...): runs pgbench on a file.
sub start_pgbench
{
	my ($node, $script, @args) = @_;

	return start_process([ $node->installed_command('pgbench'), '-n', @args, '-f', $script, $node->connstr('postgres') ],
		"$script.out", "$script.err");
}

# start_script(node, database, sql): runs psql on a script in the background;
# its output goes to a file.  finish_script waits and returns output, errors.
sub start_script
{
	my ($node, $database, $sql, @args) = @_;
	my $base = PostgreSQL::Test::Utils::tempdir();
	my %script = (sql => "$base/sql", out => "$base/out", err => "$base/err");

	append_to_file($script{sql}, $sql);
	$script{handle} = start_process(
		[ $node->installed_command('psql'), '-XAtq', @args, '-d', $node->connstr($database), '-f', $script{sql} ],
		$script{out}, $script{err});
	return \%script;
}

# start_named(node, database, name, sql): the same as an application of that name; errors are SQLSTATEs.
sub start_named
{
	my ($node, $database, $name, $sql) = @_;

	return start_script($node, $database, "\\set VERBOSITY sqlstate\nSET application_name = '$name';\n$sql\n");
}

sub finish_script
{
	my ($script) = @_;

	$script->{handle}->finish;
	return (slurp_file($script->{out}), slurp_file($script->{err}));
}

# store_digest(node, database): all that a copy of a store must have alike.
sub store_digest
{
	my ($node, $database) = @_;

	return join("\n", map { $node->safe_psql($database, $_) } (
		"SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM es_events e",
		"SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM eventstore.events e",
		"SELECT count(*), md5(string_agg(s::text, E'\\n' ORDER BY stream)) FROM es_streams s",
		"SELECT count(*), md5(string_agg(s::text, E'\\n' ORDER BY name)) FROM eventstore.streams s",
		"SELECT string_agg(concat_ws(' ', segment, first_position, last_position, events, from_time, to_time, CASE state WHEN 'sealed' THEN 'full' ELSE state END), E'\\n' ORDER BY segment) FROM es_segments",
		"SELECT s::text FROM eventstore.config s",
		(map { "SELECT string_agg(s::text, E'\\n' ORDER BY s::text) FROM eventstore.$_ s" } qw(subscriptions subscription_partitions subscription_members subscription_failures
			reducers reducer_handlers snapshot_policies snapshots upcasters schemas protections subjects retention retention_skips grants seals seal_tiles scavenged
			projections projection_progress projection_states projection_skips)),
		"SELECT last_value, is_called FROM eventstore.subscription_id_seq",
		"SELECT last_value, is_called FROM eventstore.projection_id_seq",
		"SELECT last_value, is_called FROM eventstore.position_seq",
		"SELECT last_value, is_called FROM eventstore.stream_id_seq",
		"SELECT es_settled_position()"));
}

# gaps(node, database): streams whose versions are not 1, 2, 3, ...
sub gaps
{
	my ($node, $database) = @_;

	return $node->safe_psql($database,
		"SELECT coalesce(s.stream, e.stream), s.first_version, s.version, count(e.version), min(e.version), max(e.version)
		 FROM es_streams s FULL JOIN es_events e ON e.stream = s.stream
		 WHERE e.version IS NULL OR s.version IS NULL OR e.version >= s.first_version
		 GROUP BY e.stream, s.stream, s.first_version, s.version
		 HAVING count(e.version) IS DISTINCT FROM s.version - s.first_version + 1 OR count(e.version) <> count(DISTINCT e.version)
			OR min(e.version) <> s.first_version OR max(e.version) <> s.version");
}

# new_thinned_store(node, database): a store that much has left; its digest, with all that is left in place.  Of its
# segments the first is detached, the second, of which nothing was left, dropped, the third compacted, the fourth has
# lost some events; of a stream events are hidden and not removed.  What would scavenge by itself must not run.
sub new_thinned_store
{
	my ($node, $database) = @_;

	new_store($node, $database, 100);
	$node->safe_psql($database, q{SELECT es_register_reducer_ops('cut', '*', '{"inc": {"n": "$.data.n"}}')});
	$node->safe_psql($database, $_) foreach (
		q{SELECT count(es_append('keep-' || n % 5, 'K', jsonb_build_object('n', n))) FROM generate_series(1, 100) n},
		q{SELECT es_append_batch('gone-1', (SELECT jsonb_agg('{"type": "G"}'::jsonb) FROM generate_series(1, 100)))},
		q{SELECT count(es_append(CASE WHEN n % 5 < 3 THEN 'cut-1' ELSE 'keep-5' END, 'C', jsonb_build_object('n', n))) FROM generate_series(1, 100) n},
		q{SELECT count(es_append(CASE WHEN n % 10 = 1 THEN 'cut-1' ELSE 'keep-5' END, 'C', jsonb_build_object('n', n))) FROM generate_series(1, 110) n},
		q{SELECT es_seal()}, q{SELECT es_truncate_stream('cut-1', 65), es_delete_stream('gone-1')}, q{SELECT es_seal()});
	$node->safe_psql($database, 'SELECT sum(events) FROM es_scavenge()') == 164 or die 'not all is scavenged';
	# if somebody has it open just then, by the next call
	$node->poll_query_until($database, q{WITH s AS (SELECT count(*) FROM es_scavenge()) SELECT state = 'removed' FROM es_segments, s WHERE segment = 1}) or die 'a segment stays';
	$node->safe_psql($database, q{SELECT es_truncate_stream('keep-1', 10)});
	my $digest = store_digest($node, $database);
	$node->safe_psql($database, q{SELECT es_detach_segments((SELECT recorded_at FROM es_read_all(200, 1)))}) eq 'eventstore.events_0' or die 'not one segment is detached';
	return $digest;
}

# thinned_segments(node, database): what has become of each
sub thinned_segments
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, q{SELECT string_agg(concat_ws(' ', segment, CASE WHEN state <> 'detached' THEN events END, CASE state WHEN 'sealed' THEN 'full' ELSE state END), ', ' ORDER BY segment) FROM es_segments WHERE segment < 4});
}

# check_thinned_store(node, database, digest, how): a copy of such a store is like it, gets its segment back, and goes on.
sub check_thinned_store
{
	my ($node, $database, $digest, $how) = @_;

	is(thinned_segments($node, $database), '0 detached, 1 0 removed, 2 40 full, 3 96 full', "$how: segments are detached, removed and thinned out as they were");
	is(sqlstates($node, $database, q{SELECT count(*) FROM es_read_all(0, NULL); SELECT count(*) FROM es_events}, on_error_stop => 0), '55000 55000', "$how: what is away is told to be");
	is($node->safe_psql($database, 'SELECT count(*) FROM es_read_all(100, NULL)'), '147', "$how: what is left can be read");
	$node->safe_psql($database, q{SELECT es_attach_segment('eventstore.events_0')});
	is(store_digest($node, $database), $digest, "$how: with what was away it is the same");
	is($node->safe_psql($database, 'SELECT count(*), (SELECT count(*) FROM es_seals) FROM es_verify()'), '0|2', "$how: and is what was sealed");
	is($node->safe_psql($database, q{SELECT es_append('cut-1', 'C', '{"n": 1}', expected_version => 71), es_append('keep-1', 'K', expected_version => 20), es_last_position(), es_stream_version('gone-1')}),
		'72|21|413|101', "$how: versions and positions go on");
	is(sqlstates($node, $database, q{SELECT es_append('gone-1', 'G')}), 'VE003', "$how: what was deleted stays so");
	is($node->safe_psql($database, q{SELECT version, state -> 'n' = to_jsonb((SELECT sum(n) FROM generate_series(1, 100) n WHERE n % 5 < 3) + (SELECT sum(n) FROM generate_series(1, 110) n WHERE n % 10 = 1) + 1) FROM es_replay('cut-1')}),
		'72|t', "$how: states go on from what was kept");
	is($node->safe_psql($database, q{SELECT sum(events) FROM es_scavenge()}), '9', "$how: what is hidden can be removed");
	is($node->safe_psql($database, q{SELECT count(es_append('roll-' || n % 3, 'R')) FROM generate_series(1, 300) n}), '300', "$how: over to new segments");
	is(gaps($node, $database), '', "$how: streams are whole from their first version on");
}

# status_of(pid, name): a value of /proc/PID/status, in kB.
sub status_of
{
	my ($pid, $name) = @_;

	open my $in, '<', "/proc/$pid/status" or return;
	my ($value) = map { /^$name:\s+(\d+) kB/ ? $1 : () } <$in>;
	return $value;
}

1;
