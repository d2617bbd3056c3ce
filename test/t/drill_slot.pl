# Drill: a feed's consumer stays away until the server removes WAL that its slot needs (max_slot_wal_keep_size).  Appends
# never wait for it; it is told that the feed is lost, by es_feeds and by esfeed's exit status; and it begins anew without
# a loss: esfeed --create, and a consumer of one's own by es_feed_head and es_read_all.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreScene;
use EventstoreTest;
use Test::More;

seed();
my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 32MB\nmax_slot_wal_keep_size = 16MB\nmin_wal_size = 32MB\nmax_wal_size = 48MB\n");
my $scene = EventstoreScene->start($node);

# lose_slot(slot): WAL goes on until the slot's is gone.
sub lose_slot
{
	my ($slot) = @_;

	$node->safe_psql('postgres', 'CREATE TABLE IF NOT EXISTS ballast AS SELECT 1 AS n');
	return wait_until('a lost slot', sub {
		$node->safe_psql('postgres', "SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 8000000)); SELECT pg_switch_wal(); CHECKPOINT");
		$node->safe_psql('postgres', "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '$slot'") eq 'lost';
	});
}

# ---- esfeed ----
$scene->wait_for_appends(60);
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM es_feeds WHERE feed = 'scene' AND active"), 'the feed streams');
$scene->remove_program('feed');
ok(lose_slot('es_scene'), 'its consumer is away, and its slot is lost');
$scene->wait_for_appends(60, 'nobody waits for it: appends go on');
is($node->safe_psql('postgres', "SELECT wal_status, active FROM es_feeds WHERE feed = 'scene'"), 'lost|f', 'es_feeds says so');
is((esfeed($node, '--feed', 'scene', '--to', "file:$scene->{dir}/feed", '--until-caught-up', '-q'))[0], 6, 'so does esfeed: exit status 6');
is((esfeed($node, '--feed', 'scene', '--create', '--to', "file:$scene->{dir}/feed", '--until-caught-up', '-q'))[0], 0, 'with --create it begins anew');
$scene->start_feed;
$scene->wait_for_appends(60);

# ---- a consumer of one's own: a slot, where it is in the log, and a new seam ----
my ($head) = split /\|/, $node->safe_psql('postgres', "SELECT head_position, slot_name FROM es_create_feed('mine', '{account}')");
my %got;
my $take = sub {
	my ($options) = @_;
	my $count = 0;

	foreach my $line (rows($node, 'postgres', "SELECT data FROM pg_logical_slot_get_changes('es_mine', NULL, NULL$options)"))
	{
		my ($position) = $line =~ /"position":\s*(\d+)/;
		$got{$position}++;
		$count++;
	}
	return $count;
};
ok($node->poll_query_until('postgres', "SELECT es_settled_position() >= $head"), 'history is final up to the seam');
$got{$_}++ foreach rows($node, 'postgres', "SELECT position FROM es_read_all(0, NULL, '{account}', to_position => $head)");
$scene->wait_for_appends(100);
cmp_ok($take->(", 'after_position', '$head'"), '>', 0, 'a consumer of its own has history and a stream');
$scene->wait_for_appends(60);
ok(lose_slot('es_mine'), 'its slot is lost, too');
my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT data FROM pg_logical_slot_get_changes('es_mine', NULL, NULL)");
like($err, qr/ERROR:\s+55000/, 'it is told, and given nothing');
$node->safe_psql('postgres', "SELECT es_drop_feed('mine')");
my ($last) = sort { $b <=> $a } keys %got;
($head) = split /\|/, $node->safe_psql('postgres', "SELECT head_position, slot_name FROM es_create_feed('mine', '{account}')");
ok($node->poll_query_until('postgres', "SELECT es_settled_position() >= $head"), 'a new seam');
# In commit order nothing says that all before the last position were there: what it has is told by position.
foreach (rows($node, 'postgres', "SELECT position FROM es_read_all(0, NULL, '{account}', to_position => $head)")) { $got{$_} //= 1 }
$scene->wait_for_appends(60);
$scene->stop_programs('^writer');
$take->(", 'after_position', '$head'");
my %stored = map { $_ => 1 } rows($node, 'postgres', "SELECT position FROM es_read_all(0, NULL, '{account}')");
is_deeply(\%got, \%stored, 'it has every event once');
$node->safe_psql('postgres', "SELECT es_drop_feed('mine')");
$scene->check('after all of that');
done_testing();
