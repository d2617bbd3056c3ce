# Transactions that are streamed while in progress or prepared, where the server
# has pitfalls of its own: segments that are made beside a transaction whose
# savepoint is rolled back, and prepared transactions that it streams again.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreFeed;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my @frames = qw(include_transaction on streaming on);
my @two_phase = (@frames, qw(two_phase on));
my $node = new_node('streaming', streaming => 'logical', conf => "logical_decoding_work_mem = 64kB\nautovacuum = off\n");

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }
sub kinds { my %kinds; $kinds{ exists $_->{position} ? $_->{stream} : (keys %$_)[0] }++ foreach @_; return \%kinds; }

# SQL that appends n events of about 1 kB to a stream
sub append
{
	my ($stream, $n) = @_;

	return "SELECT count(es_append('$stream', 'T', jsonb_build_object('pad', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32) i)))) FROM generate_series(1, $n);";
}

# ---- new segments while a savepoint is open that is rolled back
foreach my $size (200, 300, 400)
{
	my $database = "size_$size";
	my $big = "SELECT count(es_append('big-' || n % 7, 'Big', to_jsonb(n))) FROM generate_series(1, 700) n;";

	new_store($node, $database, $size);
	$node->safe_psql($database, "SELECT es_create_feed('undone_$size')");
	$node->safe_psql($database, "BEGIN; $big SAVEPOINT a; $big ROLLBACK TO a; $big COMMIT;") for 1 .. 12;
	my @messages = feed($node, $database, "es_undone_$size", @frames);
	ok(kinds(@messages)->{stream_abort}, "segments of $size events: a savepoint is rolled back in a streamed transaction");
	is_deeply([ map { $_->{position} } final_events(@messages) ], [ rows($node, $database, 'SELECT position FROM es_read_all(max_count => NULL)') ],
		'every committed event is there, in order');
	$node->safe_psql($database, "SELECT es_drop_feed('undone_$size')");
}

# ---- a prepared transaction that was sent is not sent again
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
{
	sql("SELECT es_create_feed('again')");
	my @messages = feed($node, 'postgres', 'es_again', @two_phase);

	# it fits into memory, and is the largest there when others come
	sql('BEGIN; ' . append('prepared-1', 40) . " PREPARE TRANSACTION 'es_again'");
	my @first = feed($node, 'postgres', 'es_again', @two_phase);
	is_deeply(kinds(@first), { begin_prepare => 1, 'prepared-1' => 40, prepare => 1 }, 'a prepared transaction is sent');
	sql(append('other-1', 30));
	my @second = feed($node, 'postgres', 'es_again', @two_phase);
	is(kinds(@second)->{'prepared-1'} // 0, 0, 'and not again when memory is short');
	is(kinds(@second)->{'other-1'}, 30, 'others are sent');
	sql("COMMIT PREPARED 'es_again'");
	my @third = feed($node, 'postgres', 'es_again', @two_phase);
	is_deeply(kinds(@third), { commit_prepared => 1 }, 'its end is sent');
	is_deeply([ sort { $a <=> $b } map { $_->{position} } final_events(@messages, @first, @second, @third) ],
		[ split /\n/, sql('SELECT position FROM es_read_all(max_count => NULL)') ], 'every event once');
	sql("SELECT es_drop_feed('again')");
}

# ---- one that was prepared before the slot was told of two_phase is sent later
{
	my $after = sql('SELECT es_settled_position()');

	sql("SELECT es_create_feed('before')");
	sql('BEGIN; ' . append('before-1', 40) . " PREPARE TRANSACTION 'es_before'");
	my @first = feed($node, 'postgres', 'es_before', @frames);
	is_deeply(\@first, [], 'without two_phase nothing of a prepared transaction is sent');
	sql(append('other-2', 30));
	sql("COMMIT PREPARED 'es_before'");
	my @second = feed($node, 'postgres', 'es_before', @two_phase);
	ok(kinds(@second)->{stream_prepare}, 'with it from then on it is streamed, as memory is short');
	is_deeply([ sort { $a <=> $b } map { $_->{position} } final_events(@second) ],
		[ split /\n/, sql("SELECT position FROM es_read_all(after_position => $after, max_count => NULL)") ], 'every event once');
	sql("SELECT es_drop_feed('before')");
}

done_testing();
