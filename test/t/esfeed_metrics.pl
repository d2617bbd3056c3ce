# esfeed's numbers for Prometheus: what it has delivered, whether it is connected, and that it has ended; a file that cannot
# be written hinders nothing.
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
my $file = "$dir/metrics.prom";

# numbers(): what the file says now, by name.
sub numbers
{
	return {} unless -e $file;
	my $text = slurp_file($file);
	my %found = $text =~ /^esfeed_(\w+)\{feed="told"\} (\d+)$/mg;
	my @kinds = $text =~ /^# TYPE esfeed_(\w+) (?:gauge|counter)$/mg;

	is_deeply([ sort @kinds ], [ sort keys %found ], 'each number has a type') or diag $text;
	return \%found;
}

# said(file): the same, without looking.
sub said { my ($name) = @_; return -e $file && slurp_file($file) =~ /^esfeed_$name\{feed="told"\} (\d+)$/m ? $1 : -1; }

my $before = time;
append($node, 'order-1', ('Placed') x 7);
my ($status) = esfeed($node, '--feed', 'told', '--create', '--until-caught-up', '--to', "file:$dir/events", '--metrics', $file);
is($status, 0, 'it has caught up');
my $now = numbers();
is_deeply([ @$now{qw(up connected connections_total events_total durable_events_total position)} ], [ 0, 0, 1, 7, 7, 7 ], 'it has ended, and has delivered all');
cmp_ok($now->{$_}, '>=', $before, "$_ is a time") foreach qw(last_event_timestamp_seconds written_timestamp_seconds);
ok(!-e "$file.new", 'nothing is left beside the file');

my $run = start_esfeed($node, '--feed', 'told', '--to', "file:$dir/events", '--metrics', $file);
ok(wait_until('connected', sub { said('connected') == 1 }), 'it is connected');
append($node, 'order-1', ('Paid') x 3);
ok(wait_until('counted', sub { said('durable_events_total') == 3 }), 'what it delivers is counted');
is(numbers()->{position}, 10, 'with the position');
ok(wait_until('known', sub { said('complete_position') >= 10 }), 'that all is there up to then is known after a while');
$node->stop;
ok(wait_until('not connected', sub { said('connected') == 0 }), 'it tells that it is not connected');
is(said('up'), 1, 'and runs on');
$node->start;
ok(wait_until('connected', sub { said('connected') == 1 && said('connections_total') == 2 }), 'it is connected again');
is(stop_esfeed($run), 0, 'it ends');
is(numbers()->{up}, 0, 'and says so');

append($node, 'order-1', 'Sent');
($status, undef, my $err) = esfeed($node, '--feed', 'told', '--until-caught-up', '--to', "file:$dir/events", '--metrics', "$dir/none/metrics.prom");
is($status, 0, 'without a place for them it delivers all the same');
is(scalar(() = $err =~ /could not write the metrics to "\Q$dir\E\/none\/metrics.prom": No such file or directory/g), 1, 'and says so once');
is(scalar lines("$dir/events"), 11, 'every event is there');
($status, undef, $err) = esfeed($node, '--feed', 'told', '--metrics', '');
is($status, 1, 'an empty name is refused');

done_testing();
