# The checker of drills sees what it is for: notes of a scene in which nothing was broken are changed, one thing at a
# time, and each change is found.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use Test::More;

seed();
my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 32MB\n");
my $scene = EventstoreScene->start($node, writers => 2, pace => 60);

$scene->wait_for_appends(150);
$scene->check('nothing is broken');

sub changed { return $scene->changed(@_) }
sub finds { return EventstoreScene::finds(@_) }

finds('an acknowledged event that is not there', changed('log/w-*', sub { s/^I\t(\d+)\tb\t(\d+)$/"I\t$1\tb\t" . ($2 + 1)/me }), 'was acknowledged with');
finds('an acknowledgement of what never was', changed('log/w-*', sub { $_ .= "I\t900000\ts\t1\nA\t900000\torder-1\t5\t5\n" }), 'was acknowledged with 1 events, 0 are there');
finds('a version that was not told', changed('log/w-*', sub { s/^(A\t\d+\torder-\d+\t)(\d+)/$1 . ($2 + 1)/me }), 'was told version');
finds('an event of a refused append', changed('log/w-*', sub { s/^A\t(\d+)\t(order-.*)$/R\t$1\tVE001/m }), 'was refused .VE001., and');
finds('half of an append of unknown outcome', changed('log/w-*', sub { s/^I\t(\d+)\tb\t(\d+)\nA\t\1\t.*$/"I\t$1\tb\t" . ($2 + 1) . "\nU\t$1\tlost"/me }), 'of unknown outcome');
finds('an event that a follower skipped', changed('log/f-all.bin', sub { substr($_, 800, 16) = '' }), 'follower all: \d+ events up to position \d+, of');
finds('one that it had twice', changed('log/f-all.bin', sub { substr($_, 800, 0) = substr($_, 784, 16) }), 'comes after');
finds('one that came back with other content', changed('log/f-all.bin', sub { substr($_, 808, 8) = 'otherone' }), 'is another one in the log');
finds('a follower that stays away', changed('log/f-all.bin', sub { substr($_, 800) = '' }), 'follower all stays at');
finds('a filtered follower that passed an event', changed('log/f-some@order.bin', sub { s/\A(.{160}(?:.{8}\0{8})*)(?!.{8}\0{8}).{16}/$1/s }), 'follower some@order: ');
finds('an event that a feed did not bring', changed('feed', sub { s/^.*\n(?=.*\z)//m; }), 'the feed (?:does not bring|: )|comes after');
finds('one that it brought twice', changed('feed', sub { s/^(.*\n)/$1$1/ }), 'comes twice');
finds('an error that nobody expects', changed('log/f-all.bin', sub { open my $err, '>', "$_[0]/log/x.err"; print $err "XX000\toops\n"; close $err }), 'XX000 oops');

# what is in the database is changed there
foreach my $case ([ 'a delivery that was lost' => 'DELETE FROM drill.deliveries WHERE id = (SELECT min(id) FROM drill.deliveries WHERE subscription = \'everything\')', 'subscription everything: ' ],
	[ 'a read model that is wrong' => 'UPDATE drill.ledger SET amount = amount + 1 WHERE position = (SELECT min(position) FROM drill.ledger)', 'handler projection ledger: ' ])
{
	my ($name, $sql, $finding) = @$case;

	$node->safe_psql('postgres', $sql);
	finds($name, $scene->{dir}, $finding);
}
done_testing();
