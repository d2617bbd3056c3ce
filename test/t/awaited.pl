# Who waits for a projection, or for something to poll, while others are at work: the
# wait ends with what it is for, or with what makes it vain, and not with its timeout.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Timeouts here are longer than the test may take, so what a wait answers is not about time.
my $node = new_node('main', conf => "eventstore.max_wait = '1h'\neventstore.retry_delay = '5min'\n");
new_store($node, 'here');

sub run { return $node->safe_psql('here', $_[0]) }
sub session { my $session = $node->background_psql('here'); $session->query_safe($_) foreach @_; return $session }
sub start { return start_named($node, 'here', 'waiter', "$_[0];") }
sub ends { my ($out, $err) = finish_script($_[0]); is($out . $err, "$_[1]\n", $_[2]) }

# Waits until the session that start() began has looked and sleeps.
sub sleeps
{
	return $node->poll_query_until('here', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'
		AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')});
}

run(q{CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN IF e.type = 'Bad' THEN RAISE 'bad event'; END IF; END$$});

foreach my $preload (0, 1)
{
	my $how = preload($node, $preload);
	# what the worker does, where there is one
	my $catch_up = sub { run("SET client_min_messages = error; SELECT es_run_projection('$_[0]')") unless $preload };
	my ($counts, $inline, $s) = map { "$_$preload" } qw(counts inline s);

	$node->restart;
	run("SELECT es_create_projection('$counts', 'count', category => '$s'), es_create_projection('$inline', 'count', 'inline', '$s')");

	# ---- an event that is not there yet, or not taken in yet ----
	foreach my $what ([ $counts, 'asynchronous' ], [ $inline, 'inline' ])
	{
		my ($projection, $mode) = @$what;
		my $writer = session("BEGIN; SELECT es_append('$s-$projection', 'A')");
		my $waiter = start("SELECT es_wait_projection('$projection', '$s-$projection', 2, '1h')");
		ok(sleeps(), "$how, $mode: an event that is not there is waited for");
		$writer->query_safe('COMMIT');
		run("SELECT es_append('$s-$projection', 'B')");
		$catch_up->($projection) if $mode ne 'inline';
		ends($waiter, 't', "$how, $mode: and is there");
		$writer->quit;
	}

	# ---- an event that is hidden as it comes ----
	foreach my $what ([ $counts, 'asynchronous' ], [ $inline, 'inline' ])
	{
		my ($projection, $mode) = @$what;
		my $stream = "$s-gone-$projection";
		my $wait = "SELECT es_wait_projection('$projection', '$stream', 2, %s)";
		my $waiter = start(sprintf($wait, q{'1h'}));
		ok(sleeps(), "$how, $mode: an event of a stream to come is waited for");
		run("BEGIN; SELECT es_append('$stream', 'A'), es_append('$stream', 'B'); SELECT es_delete_stream('$stream'); COMMIT");
		if ($mode ne 'inline')
		{
			is(run(sprintf($wait, q{'10ms'})), 'f', "$how, $mode: as it is deleted at once it is not taken in") unless $preload;
			$catch_up->($projection);
		}
		ends($waiter, 't', "$how, $mode: and is taken in with the deletion");
	}

	# ---- an inline one has what is committed, whoever is in flight below ----
	{
		my $low = session("BEGIN; SELECT es_append('low-1', 'Low')");
		run("SELECT es_append('$s-high', 'High')");
		is(run("SELECT es_settled_position() < es_position('$s-high', 1), es_wait_projection('$inline', '$s-high', 1, '1h'),
			es_wait_projection('$inline', es_position('$s-high', 1), '1h')"), 't|t|t', "$how: an inline projection has what is committed, settled or not");
		my $writer = session("BEGIN; SELECT es_append('$s-late', 'Late')");
		is(run("SELECT es_wait_projection('$inline', '$s-late', 1, '10ms')"), 'f', "$how: and not what is in flight");
		my $waiter = start("SELECT es_wait_projection('$inline', last_value, '1h') FROM eventstore.position_seq");
		sleeps();
		$writer->query_safe('COMMIT');
		ends($waiter, 't', "$how: until it commits");
		$waiter = start("SELECT es_wait_projection('$counts', '$s-high', 1, '1h')");
		sleeps();
		$low->query_safe('ROLLBACK');
		$catch_up->($counts);
		ends($waiter, 't', "$how: an asynchronous one waits for who is in flight below");
		$_->quit foreach $low, $writer;
	}

	# ---- a failure during the wait ends it, whatever it waits for ----
	foreach my $n (1 .. 3)
	{
		my ($fails, $bad) = ("fails${preload}_$n", "bad${preload}_$n");
		my $wait = ('', "'$bad', 3", "es_position('$bad', 2)", "'$bad', 100")[$n];
		run("SELECT es_create_handler_projection('$fails', 'note(es_event)', categories => '{$bad}')");
		# while somebody else runs it nobody does
		my $runner = session("BEGIN; SELECT es_run_projection('$fails')");
		run("SELECT es_append('$bad', type) FROM unnest('{Good,Bad,Good}'::text[]) type");
		my $waiter = start("SELECT es_wait_projection('$fails', $wait, '1h')");
		ok(sleeps(), "$how: waits for $wait");
		$runner->query_safe('COMMIT');
		$catch_up->($fails);
		ends($waiter, 'f', "$how: the projection fails, and the wait is over");
		is(run("SELECT es_wait_projection('$fails', '$bad', 1, '1h'), es_wait_projection('$fails', $wait, '1h')"), 't|f', "$how: what comes before it has, and no wait for more begins");
		$runner->quit;
	}

	# ---- what there is to poll, and who keeps it ----
	run("SELECT es_subscribe('$s', NULL, '{${s}_p}')");
	my $append = "SELECT es_append('${s}_p-1', 'P')";
	my $ack = "SELECT count(es_ack('$s', partition, position, 'ann')) FROM es_poll('$s', member => 'ann', lease => '1h')";
	run("$append; SELECT count(*) FROM es_poll('$s', member => 'bob', lease => '2s')");
	my $waiter = start("CALL es_poll_wait('$s', '1h', member => 'ann')");
	ends($waiter, 't', "$how: another member's lease ends");
	is(run($ack), '1', "$how: and what it had can be polled");

	run($append);
	my $poller = session("BEGIN; $ack");
	$waiter = start("CALL es_poll_wait('$s', '1h', member => 'ann')");
	ok(sleeps(), "$how: what a member is at in another transaction is not to be polled");
	$poller->query_safe('ROLLBACK');
	ends($waiter, 't', "$how: until that is undone");
	$poller->query_safe("BEGIN; $ack");
	$waiter = start("CALL es_poll_wait('$s', '1h', member => 'ann')");
	ok(sleeps(), "$how: again");
	$poller->query_safe('COMMIT');
	ok(sleeps(), "$how: nor what is acknowledged");
	run($append);
	ends($waiter, 't', "$how: what comes then is");
	is(run("BEGIN; SELECT count(*) FROM es_poll('$s', member => 'ann', lease => '1h'); CALL es_poll_wait('$s', '1h', member => 'ann'); COMMIT"), "1\nt", "$how: one that the transaction itself is at is, too");
	$poller->quit;
}

$node->stop;
done_testing();
