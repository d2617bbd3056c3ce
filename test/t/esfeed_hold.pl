# esfeed and es_scavenge: what is hidden while history is being delivered goes after
# it was delivered, also when a connection is lost on the way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main');
my ($status, $out, $err, $run);

# Has the sink take so many lines in all, and no more.
sub allow
{
	my ($lines) = @_;

	open(my $file, '>', "$dir/limit.new") or die;
	print $file "$lines\n";
	close($file) or die;
	rename("$dir/limit.new", "$dir/limit") or die;
}

# The sessions that hold events, with the position after which they do.
sub holders
{
	return $node->safe_psql('postgres', q(SELECT pid, (classid::bigint << 32) | objid::bigint FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 229 ORDER BY 1));
}

# Waits until esfeed is in the middle of history, and its sink is full: the session, and what it holds.
sub wait_until_full
{
	my ($but) = @_;

	ok($node->poll_query_until('postgres', qq(SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity a USING (pid)
		WHERE locktype = 'advisory' AND objsubid = 229 AND pid <> $but AND a.wait_event = 'ClientWrite')), 'the sink is full');
	return split /\|/, holders();
}

# es_scavenge(): what it says.
sub scavenge
{
	my $err = '';

	is($node->psql('postgres', 'SELECT es_scavenge()', stderr => \$err), 0, 'es_scavenge() runs');
	return $err;
}

# The hidden events that are still there, after a position.
sub hidden_after
{
	my ($position) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM es_read_all($position, NULL) WHERE version < 2000 AND type = 'N'");
}

# ---- es_scavenge() in the middle of history
{
	my $sink = "n=0; read most <$dir/limit; while IFS= read -r line; do n=\$((n+1)); "
	  . "while [ \$n -gt \$most ]; do sleep 0.1; read most <$dir/limit; done; printf '%s\\n' \"\$line\" >>$dir/slow; echo; done";

	append_many($node, 40000, 'long');
	my @stored = stored_messages($node);
	allow(0);
	$run = start_esfeed($node, '--feed', 'slow', '--create', '--to', "exec:$sink");
	my ($pid, $position) = wait_until_full(0);
	$node->safe_psql('postgres', "SELECT es_truncate_stream('long-' || n, 2000) FROM generate_series(0, 9) n");
	my $hidden = hidden_after($position);
	like(scavenge(), qr/NOTICE:  $hidden hidden events .* needed by the session of process $pid, by es_hold_events\(\)/,
		'it says that esfeed holds events');
	is(hidden_after($position), $hidden, 'and leaves them');

	# a connection that is lost
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)");
	is(holders(), '', 'a hold ends with its session');
	allow(9000);
	my ($next, $later) = wait_until_full($pid);
	isnt($next, $pid, 'the next connection holds events again');
	cmp_ok($later, '>', $position, 'those that are still to come');
	$hidden = hidden_after($later);
	like(scavenge(), qr/NOTICE:  $hidden hidden events .* needed by the session of process $next, by es_hold_events\(\)/,
		'es_scavenge() says so');
	is(hidden_after($later), $hidden, 'and leaves them');
	cmp_ok(hidden_after(0), '<', 10 * 1999, 'and no more than that');

	allow(1000000);
	ok(wait_for_line($run->{err}, 'streaming'), 'history is complete');
	is(holders(), '', 'then nothing is held');
	is(stop_esfeed($run), 0, 'a clean end');
	my %seen;
	is_complete([ grep { !$seen{$_}++ } lines("$dir/slow") ], \@stored, 'every event was delivered, also those that were hidden meanwhile');
	is(scavenge(), '', 'es_scavenge() has nothing to leave any more');
	is(hidden_after(0), 0, 'they are removed');
}

# ---- who may not hold events, and a server that does not know how
{
	my @to = ('--feed', 'granted', '--until-caught-up', '--to');
	my $warning = qr/going on without holding hidden events/;

	$node->safe_psql('postgres', "CREATE ROLE consumer LOGIN REPLICATION; SELECT es_create_feed('granted');");
	$node->safe_psql('postgres', q{SELECT es_grant('consumer', 'read'); REVOKE EXECUTE ON FUNCTION es_hold_events(bigint) FROM PUBLIC});
	my $as = $node->connstr('postgres') . ' user=consumer';
	($status, $out, $err) = esfeed($as, @to, "file:$dir/denied");
	is($status, 0, 'without the right history is delivered');
	is(() = $err =~ /$warning.*permission denied for function es_hold_events/g, 1, 'with a warning, once');
	is_complete([ lines("$dir/denied") ], [ stored_messages($node) ], 'all of it');
	$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION es_hold_events(bigint) TO PUBLIC');
	($status, $out, $err) = esfeed($as, @to, "file:$dir/granted");
	is($status, 0, 'with the right it is');
	unlike($err, $warning, 'without a warning');

	$node->safe_psql('postgres', 'ALTER FUNCTION es_hold_events(bigint) RENAME TO es_unheard_of');
	($status, $out, $err) = esfeed($node, @to, "file:$dir/older");
	is($status, 0, 'history of a server that does not know the function');
	is(() = $err =~ /$warning.*es_hold_events.*does not exist/g, 1, 'comes with a warning, once');
	is_complete([ lines("$dir/older") ], [ stored_messages($node) ], 'all of it');
}

done_testing();
