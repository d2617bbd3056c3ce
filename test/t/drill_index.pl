# Drill: an index of a segment is damaged on disk, under a store in use.  amcheck finds it; what reads by it fails, or says
# VE008, rather than give out what is not so, where that can be seen; appends and consumers, who need it no more, go on;
# REINDEX mends it, and all is as it was.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 32MB\n");
if ($node->safe_psql('postgres', 'SHOW data_checksums') eq 'on')
{
	# the server would see it by these, which are the default from 18 on
	$node->stop;
	PostgreSQL::Test::Utils::system_or_bail($node->config_data('--bindir') . '/pg_checksums', '--disable', '-D', $node->data_dir);
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore; CREATE EXTENSION amcheck; SELECT es_set_segment_size(2000)');
$node->safe_psql('postgres', q{SELECT count(es_append('old-' || n % 20, 'T', '{"w": "old", "n": "0", "i": 0, "v": 1}')) FROM generate_series(1, 2000) n});
my $scene = EventstoreScene->start($node, segment_size => 0, feed => 0);

# What may be read of the first segment, and how.
my %reads = (
	'es_read_all' => 'SELECT count(*), md5(string_agg(e::text, \'\' ORDER BY position)) FROM es_read_all(0, 2000) e',
	'es_read_category' => 'SELECT count(*), md5(string_agg(e::text, \'\' ORDER BY position)) FROM es_read_category(\'old\', 0, 2000) e',
	'es_read' => 'SELECT count(*), md5(string_agg(e::text, \'\')) FROM generate_series(0, 19) n, LATERAL es_read(\'old-\' || n) e');
my %sound = map { $_ => $node->safe_psql('postgres', $reads{$_}) } keys %reads;

# damage_leaf(file, how): in a leaf page of the btree, "zero" the page, or send a third of its entries to "others" rows.
sub damage_leaf
{
	my ($file, $how) = @_;

	open my $io, '+<:raw', $file or die $!;
	read $io, my $data, -s $io;
	my $at = 8192 * 2;
	if ($how eq 'zero')
	{
		substr($data, $at, 8192) = "\0" x 8192;
	}
	else
	{
		my $items = (unpack('v', substr $data, $at + 12, 2) - 24) / 4;

		for my $item (int($items / 3) .. int(2 * $items / 3))
		{
			my $tuple = $at + (unpack('V', substr $data, $at + 24 + 4 * $item, 4) & 0x7fff);
			# an entry's row: block, high and low, and number
			substr($data, $tuple + 2, 2) = pack('v', unpack('v', substr $data, $tuple + 2, 2) ^ 1);
		}
	}
	seek $io, 0, 0;
	print $io $data;
	close $io;
}

sub amcheck { return sqlstates($node, 'postgres', "SELECT bt_index_check('eventstore.$_[0]', true)") }

# By default the cases in which the server itself sees nothing; DRILL_ROUNDS=2 has all.
foreach my $case ([ events_0_position => 'others' ], [ events_0_stream => 'others' ], [ events_0_category => 'others' ],
	($ENV{DRILL_ROUNDS} // 1) > 1 ? ([ events_0_position => 'zero' ], [ events_0_stream => 'zero' ], [ events_0_category => 'zero' ]) : ())
{
	my ($index, $how) = @$case;

	$scene->wait_for_appends(20);
	my $file = $node->data_dir . '/' . $node->safe_psql('postgres', "SELECT pg_relation_filepath('eventstore.$index')");
	is(amcheck($index), '', "$index is sound");
	$node->stop('fast');
	damage_leaf($file, $how);
	$node->start;
	$scene->wait_for_appends(20, "$index is damaged ($how): appends go on");
	isnt(amcheck($index), '', 'amcheck finds it');
	my @found;
	foreach my $read (sort keys %reads)
	{
		my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$reads{$read}");

		push @found, "$read " . ($err =~ /ERROR:\s+(\w+)/)[0] if $ret;
		ok($ret || $out eq $sound{$read}, "$read gives what there is, or an error");
	}
	like(join(', ', @found), qr/XX002|VE008/, 'what reads by it says so: ' . join(', ', @found));
	$node->safe_psql('postgres', "REINDEX INDEX CONCURRENTLY eventstore.$index");
	is(amcheck($index), '', 'REINDEX mends it');
	is($node->safe_psql('postgres', $reads{$_}), $sound{$_}, "$_ is as it was") foreach sort keys %reads;
}
$scene->check('after all of that', allow => 'XX002,XX001,VE008');
done_testing();
