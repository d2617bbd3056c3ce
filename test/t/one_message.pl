# Consumers that acknowledge, commit, begin and poll in one message: what is there while the poll
# waits, after a kill on either side of the commit, after an error, and by pipelines.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nrestart_after_crash = on\neventstore.max_wait = '60s'\n");
my $folder = PostgreSQL::Test::Utils::tempdir();

sub q_ { return $node->safe_psql('postgres', $_[0]); }
sub code { return sqlstates($node, 'postgres', $_[0], on_error_stop => 0); }
sub add { my ($name, @types) = @_; q_('SELECT ' . join(', ', map { "es_append('$name-1', '$_')" } @types)); return; }
sub at { my ($name, $type) = @_; return q_("SELECT max(position) FROM es_events WHERE stream = '$name-1' AND type = '$type'"); }
sub done { return q_("SELECT coalesce(string_agg(type, ' ' ORDER BY nth), '') FROM done WHERE subscription = '$_[0]'"); }
sub acked { return q_("SELECT position >= " . at($_[0], 'A') . " FROM es_subscriptions WHERE subscription = '$_[0]'"); }
sub delivered { return q_("SELECT coalesce(string_agg(type || attempt, ' ' ORDER BY position), '') FROM es_poll('$_[0]')"); }
sub waits { return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'consumer' AND wait_event " . $_[0]); }

# begin_turn(name): a consumer of its own that has been delivered A, in a transaction.
sub begin_turn
{
	my ($name) = @_;

	q_("SELECT es_subscribe('$name', NULL, '{$name}')");
	add($name, 'A');
	return "BEGIN \\; SELECT type FROM es_poll('$name');";
}

# turn(name, type, poll): work, and then in one message the acknowledgement and the next poll.
sub turn
{
	my ($name, $type, $poll) = @_;

	return "INSERT INTO done (subscription, type) VALUES ('$name', '$type');\n"
	  . "SELECT es_ack('$name', 0, " . at($name, $type) . ") \\; COMMIT \\; BEGIN \\; SELECT type FROM $poll;";
}

# waiting(name): that consumer, which waits for B after it has done A.
sub waiting
{
	my ($name) = @_;
	my $begin = begin_turn($name);
	my $script = start_named($node, 'postgres', 'consumer', "$begin\n" . turn($name, 'A', "es_poll('$name', wait => '60s')"));

	waits("IN ('EventstoreWait', 'Extension')");
	return $script;
}

# strike(): the consumer's session dies at once, and the server starts anew.
sub strike
{
	my ($script) = @_;

	my $offset = -s $node->logfile;

	kill 'KILL', q_(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'consumer'});
	finish_script($script);
	$node->wait_for_log(qr/ready to accept connections/, $offset);
	return;
}

q_(q{
	CREATE EXTENSION eventstore;
	CREATE TABLE done (nth bigserial, subscription text, type text);
	CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER held AFTER INSERT ON done DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.subscription = 'struck') EXECUTE FUNCTION held();
});

# ---- the poll waits ----
{
	my $script = waiting('waits');
	is(done('waits') . acked('waits'), 'At', 'while the poll waits, work and acknowledgement are committed');
	add('waits', 'B');
	my ($out, $err) = finish_script($script);
	is($out =~ s/\n+/ /gr . $err, 'A B ', 'what is appended then is delivered');
	is(delivered('waits'), 'B1', 'and again after a rollback, as for the first time');
}

# ---- the session dies ----
{
	my $script = waiting('after');
	strike($script);
	is(done('after') . acked('after'), 'At', 'struck as the next poll waits, what was acknowledged stays');
	add('after', 'B');
	is(delivered('after'), 'B1', 'and what follows is delivered, alone');

	my $begin = begin_turn('struck');
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	$script = start_named($node, 'postgres', 'consumer', "$begin\n" . turn('struck', 'A', q{es_poll('struck')}));
	waits("= 'advisory'");
	strike($script);
	eval { $holder->quit };
	is(done('struck') . acked('struck'), 'f', 'struck in the commit, neither work nor acknowledgement is there');
	is(delivered('struck'), 'A1', 'and the event is delivered again');
}

# ---- errors ----
{
	my $begin = begin_turn('fenced');
	my $turn = turn('fenced', 'A', q{es_poll('fenced')}) =~ s/es_ack\(([^)]*)\)/es_ack($1, 'late')/r;
	is(code("$begin\n$turn\nSELECT 1;\nROLLBACK \\; BEGIN \\; SELECT 1 / (count(*) - 1) FROM es_poll('fenced') WHERE type = 'A';"),
		'VE007 25P02 22012', 'after a failed acknowledgement nothing runs; rolled back, the event is there');
	is(done('fenced') . acked('fenced'), 'f', 'its work is undone');

	my $script = waiting('cancelled');
	q_(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'consumer'});
	my ($out, $err) = finish_script($script);
	like($err, qr/ERROR:  57014/, 'a poll that is cancelled fails');
	is(done('cancelled') . acked('cancelled'), 'At', 'and takes nothing back of what it came with');
}

# ---- pipelines of the extended protocol ----
{
	q_(q{SELECT es_subscribe('piped', NULL, '{piped}'); CREATE TABLE taken (nth bigserial, position bigint);
		SELECT count(es_append('piped-' || n % 7, 'P')) FROM generate_series(1, 100) n});
	my $take = q{INSERT INTO taken (position) SELECT position FROM es_poll('piped', 10);};
	my $turn = "\\startpipeline\nSELECT es_ack('piped', 0, max(position)) FROM taken HAVING count(*) > 0;\nCOMMIT;\nBEGIN;\n$take\n\\endpipeline\n";
	append_to_file("$folder/piped.sql", "BEGIN;\n$take\n" . $turn x 11 . "COMMIT;\n");
	foreach my $mode (qw(extended prepared))
	{
		q_(q{TRUNCATE taken; SELECT es_rewind('piped', 0)});
		$node->command_ok([ 'pgbench', '-n', '-M', $mode, '-t', 1, '-f', "$folder/piped.sql", 'postgres' ], "a consumer by pipelines, $mode");
		is(q_(q{SELECT count(*), count(DISTINCT position), bool_and(position > before) FROM (SELECT position, lag(position, 1, 0::bigint) OVER (ORDER BY nth) AS before FROM taken) t}) . q_(q{SELECT lag FROM es_subscriptions WHERE subscription = 'piped'}),
			'100|100|t0', 'has every event once, in order');
	}
}

done_testing();
