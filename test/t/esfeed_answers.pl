# esfeed and answers that are lost with a connection, while its feed is made: whatever the server
# has done by then, history comes whole, and no slot is left that keeps WAL.
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
my $keeper = $node->background_psql('postgres');
my $other = $node->background_psql('postgres');
my $esfeed = "application_name = 'esfeed' AND backend_type = 'client backend'";
my $run;

# Has the keeper change a feed, in a transaction: nobody else does until it ends.
sub keep_feeds
{
	$keeper->query_safe('BEGIN');
	$keeper->query_safe("SELECT es_alter_feed('spare', NULL, NULL, 'json')");
}

# Waits until esfeed waits for whoever changes feeds, in a function.
sub wait_for_esfeed
{
	my ($function) = @_;

	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity
		WHERE $esfeed AND query LIKE '%$function%' AND cardinality(pg_blocking_pids(pid)) > 0"), "esfeed waits in $function");
}

# Ends esfeed's connection for statements, and waits until it has ended.
sub cut_esfeed
{
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $esfeed");

	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)"), 't', 'its connection is lost');
}

# Starts it; its sink acknowledges nothing before it may.
sub start
{
	my ($feed) = @_;

	$run = start_esfeed($node->connstr('postgres') . ' application_name=esfeed', '--feed', $feed, '--create', '--to',
		"exec:while read -r line; do until [ -e $dir/$feed.go ]; do sleep 0.1; done; printf '%s\\n' \"\$line\" >>$dir/$feed; echo; done");
}

# Lets the sink go on.
sub release
{
	my ($feed) = @_;

	append_to_file("$dir/$feed.go", '');
}

# Sees that all comes, and what comes later, once, and that there is the feed alone.
sub check
{
	my ($feed) = @_;

	ok(wait_for_line($run->{err}, 'streaming'), 'history is complete');
	append($node, "$feed-1", 'Later');
	ok(wait_for_line("$dir/$feed", qq("stream":"$feed-1".*\}\$)), 'and what comes is delivered') or diag slurp_file($run->{err});
	is_complete([ lines("$dir/$feed") ], [ stored_messages($node) ], 'every event once');
	is($node->safe_psql('postgres', "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots WHERE slot_name LIKE 'es_$feed%'"),
		"es_$feed", 'no slot is left');
	is($node->safe_psql('postgres', "SELECT string_agg(feed, ' ') FROM es_feeds WHERE feed LIKE '$feed%'"), $feed, 'nor a definition');
	unlike(slurp_file($run->{err}), qr/is lost|counts as delivered|error:/, 'and nothing is told that is not so');
	is(stop_esfeed($run), 0, 'it ends');
}

append_many($node, 50, 'old');
$node->safe_psql('postgres', "SELECT es_create_feed('spare')");

# ---- the feed has been made under its other name
{
	keep_feeds();
	start('made');
	release('made');
	wait_for_esfeed('es_create_feed');
	$other->query_until(qr/asked/, "\\echo asked\nSELECT pg_advisory_lock(hashtextextended('esfeed made', 0));\n\\echo locked\n");
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'whoever asks after it');
	cut_esfeed();
	$other->query_until(qr/locked/, '');
	$keeper->query_safe('COMMIT');
	$node->safe_psql('postgres', "SELECT es_create_feed('made_unfinished')");
	$other->query_safe("SELECT pg_advisory_unlock_all()");
	check('made');
}

# ---- it has got its own name
{
	start('named');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'es_named_unfinished'"), 'history is being delivered');
	keep_feeds();
	release('named');
	wait_for_esfeed('es_share_feed');
	$node->safe_psql('postgres', "SELECT pg_copy_logical_replication_slot('es_named_unfinished', 'es_named', false)");
	cut_esfeed();
	$keeper->query_safe('COMMIT');
	check('named');
}

# ---- the other name is to be dropped
{
	start('dropped');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'es_dropped_unfinished'"), 'history is being delivered');
	keep_feeds();
	release('dropped');
	wait_for_esfeed('es_share_feed');
	# the next one in the queue is not esfeed
	my $next = $other->query_safe('SELECT pg_backend_pid()');
	$other->query_safe('BEGIN');
	$other->query_until(qr/asked/, "\\echo asked\nSELECT es_alter_feed('spare', NULL, NULL, 'json');\n\\echo locked\n");
	ok(wait_blocked($node, $next), 'somebody changes feeds after it');
	$keeper->query_safe('COMMIT');
	$other->query_until(qr/locked/, '');
	wait_for_esfeed('es_drop_feed');
	cut_esfeed();
	$other->query_safe('COMMIT');
	check('dropped');
}

$keeper->quit;
$other->quit;
done_testing();
