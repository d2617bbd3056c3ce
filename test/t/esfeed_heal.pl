# esfeed when its feed is not what it was: a slot that was lost, dropped or made
# anew, a store that was, a standby that was promoted.  With --create a file has
# every event exactly once all the same.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main', "max_slot_wal_keep_size = 2MB\nmin_wal_size = 32MB\nmax_wal_size = 64MB\n");
my ($status, $out, $err, $run);

$node->safe_psql('postgres', 'SELECT es_set_segment_size(1000)');

# Writes WAL until the slot is lost.
sub lose
{
	my ($feed) = @_;

	for (1 .. 20)
	{
		$node->safe_psql('postgres', "CREATE TABLE waste AS SELECT repeat('x', 1000) FROM generate_series(1, 2000); DROP TABLE waste; SELECT pg_switch_wal()");
		$node->safe_psql('postgres', 'CHECKPOINT');
		return 1 if $node->safe_psql('postgres', "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = 'es_$feed'") eq 't';
	}
	return 0;
}

# ---- lost to max_slot_wal_keep_size
my @run = ($node, '--feed', 'lost', '--to', "file:$dir/lost");
{
	append_many($node, 1000, 'old');
	is((esfeed(@run, '--create', '--until-caught-up'))[0], 0, 'history');
	$run = start_esfeed(@run);
	append_many($node, 500, 'new');
	ok(wait_until('the settled position', sub { my %state = state_of("$dir/lost"); $state{low} >= 1500 }),
		'the position that is surely there moves with the stream');
	append_many($node, 300, 'newer');
	ok(wait_until('all', sub { lines("$dir/lost") == stored_messages($node) }), 'it streams');
	is(stop_esfeed($run), 0, 'it ends');
	append_many($node, 200, 'missed');
	ok(lose('lost'), 'the server removes what the feed needs');
	($status, $out, $err) = esfeed(@run);
	is($status, 6, 'a lost feed is told');
	like($err, qr/is lost: the server has removed WAL.*hint: With --create/s, 'with what to do');
	($status, $out, $err) = esfeed(@run, '--create', '--until-caught-up');
	is($status, 0, '--create heals it');
	like($err, qr/history after position 1[5-8]\d\d is read again/, 'from where the file surely has everything');
	is_complete([ lines("$dir/lost") ], [ stored_messages($node) ], 'every event exactly once');
	append($node, 'healed-1', 'Healed');
	is((esfeed(@run, '--until-caught-up'))[0], 0, 'and it goes on');
	is_complete([ lines("$dir/lost") ], [ stored_messages($node) ], 'every event exactly once');
}

# ---- killed again and again while it heals
{
	$node->safe_psql('postgres', "SELECT count(es_append('many-' || n % 100, 'N', to_jsonb(repeat('x', n % 900)))) FROM generate_series(1, 30000) n");
	ok(lose('lost'), 'the server removes what the feed needs');
	for (1 .. 6)
	{
		$run = start_esfeed(@run, '--create');
		usleep(int(rand(350_000)));
		kill_esfeed($run);
	}
	append($node, 'healed-1', 'Again');
	is((esfeed(@run, '--create', '--until-caught-up'))[0], 0, 'killed while it heals, it heals');
	is_complete([ lines("$dir/lost") ], [ stored_messages($node) ], 'every event exactly once');
}

# ---- dropped underneath
{
	my $drop = q{DO $$ BEGIN
		PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender';
		LOOP BEGIN PERFORM pg_drop_replication_slot('es_lost'); EXIT; EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.01); END; END LOOP; END $$};

	$run = start_esfeed(@run);
	ok(wait_for_line($run->{err}, 'streaming'), 'it streams');
	$node->safe_psql('postgres', $drop);
	ok(wait_for_line($run->{err}, 'error:'), 'dropped underneath, without --create it ends');
	$run->{handle}->finish;
	is($run->{handle}->full_result(0) >> 8, 6, 'with exit status 6');
	like(slurp_file($run->{err}), qr/its slot was dropped/, 'and says why');
	append_many($node, 10, 'meanwhile');
	$run = start_esfeed(@run, '--create');
	ok(wait_for_line($run->{err}, 'streaming'), 'with --create it streams');
	append_many($node, 100, 'before');
	$node->safe_psql('postgres', $drop);
	append_many($node, 100, 'behind');
	append($node, 'dropped-1', 'Dropped');
	ok(wait_for_line("$dir/lost", 'Dropped'), 'dropped underneath, it heals itself');
	is(stop_esfeed($run), 0, 'it ends');
	is_complete([ lines("$dir/lost") ], [ stored_messages($node) ], 'every event exactly once');
}

# ---- made anew under the same name
{
	$node->safe_psql('postgres', "SELECT es_drop_feed('lost')");
	append_many($node, 10, 'between');
	$node->safe_psql('postgres', "SELECT es_create_feed('lost')");
	append_many($node, 10, 'later');
	($status, $out, $err) = esfeed(@run);
	is($status, 6, 'a feed made anew under the same name is told');
	like($err, qr/made it anew under the same name/, 'it says so');
	is((esfeed(@run, '--create', '--until-caught-up'))[0], 0, '--create heals it');
	is_complete([ lines("$dir/lost") ], [ stored_messages($node) ], 'every event exactly once');
}

# ---- a sink that keeps nothing
{
	my @out = ($node, '--feed', 'nothing', '--until-caught-up');

	is((esfeed(@out, '--create'))[0], 0, 'history to standard output');
	ok(lose('nothing'), 'its feed is lost');
	is((esfeed(@out))[0], 6, 'it is told');
	($status, $out, $err) = esfeed(@out, '--create');
	is($status, 0, '--create begins again');
	is_deeply([ split /\n/, $out ], [ stored_messages($node) ], 'with everything');
	is((esfeed($node, '--feed', 'nothing', '--drop'))[0], 0, 'dropped');
}

# ---- a standby that is promoted, without the last events; slots are put there by hand
{
	is((esfeed($node, '--feed', 'lost', '--drop'))[0], 0, 'dropped');
	$node->append_conf('postgresql.conf', "max_slot_wal_keep_size = -1\nwal_keep_size = 256MB\n");
	$node->restart;
	my @from_main = ('--feed', 'moved', '--create', '--until-caught-up', '--to', "file:$dir/moved");
	is((esfeed($node, @from_main))[0], 0, 'history');
	my $standby = start_standby($node);
	append_many($node, 10, 'moved');
	is((esfeed($node, @from_main))[0], 0, 'it streams');
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->wait_for_catchup($standby);
	$standby->stop;
	mkdir $standby->data_dir . '/pg_replslot/es_moved' or die;
	copy($node->data_dir . '/pg_replslot/es_moved/state', $standby->data_dir . '/pg_replslot/es_moved/state') or die;
	append($node, 'gone-1', ('Gone') x 200);
	is((esfeed($node, @from_main))[0], 0, 'it has more than the standby');
	my @gone = stored_messages($node, "stream = 'gone-1'");
	$node->stop('immediate');
	$standby->start;
	$standby->promote;
	append($standby, 'found-1', 'Found', 'Found');
	($status, $out, $err) = esfeed($standby, @from_main);
	is($status, 0, 'it goes on with the new primary');
	like($err, qr/promoted without the last commits/, 'and tells that it misses something');
	is_complete([ lines("$dir/moved") ], [ stored_messages($standby), @gone ], 'the file has all of both');

	# without the slot
	is((esfeed($standby, '--feed', 'moved', '--drop'))[0], 0, 'dropped');
	append($standby, 'found-1', 'FoundLater');
	is((esfeed($standby, @from_main))[0], 0, 'without its slot it heals');
	is_complete([ lines("$dir/moved") ], [ stored_messages($standby), @gone ], 'every event exactly once');

	# ---- a store that has moved, by a dump
	my $other = feed_node('other');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
	$other->safe_psql('postgres', 'DROP EXTENSION eventstore');
	run_log([ $standby->installed_command('pg_dump'), '-f', $dump, $standby->connstr('postgres') ]);
	run_log([ $other->installed_command('psql'), '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $other->connstr('postgres') ], '>', '/dev/null');
	append($other, 'found-1', 'Moved');
	($status, $out, $err) = esfeed($other, @from_main);
	is($status, 6, 'another cluster');
	like($err, qr/the event store of another cluster/, 'is told');
	is((esfeed($other, @from_main, '--moved'))[0], 0, 'said to be the same store it goes on there');
	is_complete([ lines("$dir/moved") ], [ stored_messages($other), @gone ], 'every event exactly once');
	is((esfeed($other, grep { $_ ne '--create' } @from_main, '--moved'))[0], 1, 'which takes a new feed');

	# ---- other stores
	is((esfeed($standby, @from_main))[0], 6, 'from then on the one before is another cluster');
	esfeed($standby, @from_main, '--moved');
	$standby->safe_psql('postgres', "SELECT es_drop_feed('moved'); SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE; CREATE EXTENSION eventstore");
	($status, $out, $err) = esfeed($standby, @from_main);
	is($status, 6, 'a store that was dropped and created anew');
	like($err, qr/an event store that was dropped and created anew/, 'is told');
}

# ---- a server that is put back, from a copy of its disk: no other timeline tells it
{
	my $back = feed_node('back');
	my @from_back = ($back, '--feed', 'back', '--create', '--until-caught-up', '--to', "file:$dir/back");

	append_many($back, 100, 'kept');
	is((esfeed(@from_back))[0], 0, 'history');
	$back->stop;
	system_or_bail('cp', '-a', $back->data_dir, $back->data_dir . '.copy');
	$back->start;
	append_many($back, 3000, 'gone');
	is((esfeed(@from_back))[0], 0, 'it streams');
	my @delivered = lines("$dir/back");
	is(scalar(@delivered), 3100, 'all of it');
	$run = start_esfeed(@from_back[ 0 .. 2 ], '--to', "exec:while read -r line; do echo; done");
	ok(wait_for_line($run->{err}, 'streaming'), 'a sink that keeps nothing streams');
	append($back, 'gone-1', 'Gone');
	my $lsn = $back->lsn('insert');
	ok($back->poll_query_until('postgres', "SELECT confirmed_lsn >= '$lsn' FROM es_feeds WHERE feed = 'back'"), 'and has confirmed');
	$back->stop('immediate');
	rename($back->data_dir, $back->data_dir . '.gone') or die;
	rename($back->data_dir . '.copy', $back->data_dir) or die;
	$back->start;
	my $confirmed = "SELECT confirmed_flush_lsn <= pg_current_wal_flush_lsn() FROM pg_replication_slots WHERE slot_name = 'es_back'";
	ok(wait_for_line($run->{err}, 'error: the server has been put back'), 'put back under a stream it is told') or $run->{handle}->signal('TERM');
	$run->{handle}->finish;
	is($run->{handle}->full_result(0) >> 8, 6, 'with exit status 6');
	append($back, 'new-1', 'New');
	($status, $out, $err) = esfeed(@from_back);
	is($status, 6, 'a file that has more than the server is told, with --create, too');
	like($err, qr/the server has been put back: it is at .*hint: .*begin anew/s, 'with what to do');
	is_deeply([ lines("$dir/back") ], \@delivered, 'the file stays as it was');
	is($back->safe_psql('postgres', $confirmed), 't', 'and nothing is confirmed that the server does not have');
}

done_testing();
