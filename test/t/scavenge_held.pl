# The worker's scavenging while somebody may still see what was removed: its room cannot be given
# back, so that is not tried each minute anew; but it is once he has gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nmax_worker_processes = 20\n");
my $rounds = 0;

sub query { return $node->safe_psql('postgres', $_[0]); }

# come_by(what, condition): a rule that is made has the worker come by; waits for that, and until no scavenger is at work any more
sub come_by
{
	my ($what, $condition) = @_;

	$rounds++;
	query("SELECT es_set_retention('nothing', max_count => $rounds)");
	return ok($node->poll_query_until('postgres', "SELECT ($condition) AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger')"), $what);
}

# What is written when the segment is vacuumed, and when its row is.
sub traces
{
	return query(q{SELECT (SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'eventstore.events_0'::regclass), (SELECT xmin FROM eventstore.segments WHERE segment = 0)});
}

query('CREATE EXTENSION eventstore');
query('SELECT es_set_segment_size(1000)');
query(q{SELECT es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', CASE n % 2 WHEN 0 THEN 'kept-1' ELSE 'gone-1' END, 'type', 'T',
	'data', jsonb_build_object('pad', repeat('x', 400))) ORDER BY n) FROM generate_series(1, 1000) n))});
query(q{SELECT es_append('other-1', 'T')});
come_by('a segment is sealed', 'SELECT sealed AND events = 1000 FROM eventstore.segments WHERE segment = 0');
my $size = query(q{SELECT pg_table_size('eventstore.events_0')});

query(q{CREATE TABLE prepared (); BEGIN; INSERT INTO prepared DEFAULT VALUES; PREPARE TRANSACTION 'open'});
query(q{SELECT es_truncate_stream('gone-1', 501)});
come_by('events are removed from it', 'SELECT count(*) = 500 FROM eventstore.events_0');
is(query('SELECT sealed AND events IS NULL FROM eventstore.segments WHERE segment = 0'), 't', '... whose room is not given back, as a transaction is open');

# remove_another(n): has the worker remove an event of another segment
sub remove_another
{
	my ($n) = @_;

	query("SELECT count(es_append('short-$n', 'T')) FROM generate_series(1, 2); SELECT es_truncate_stream('short-$n', 2)");
	return come_by("another event is removed, $n", "SELECT count(*) = 1 FROM eventstore.events WHERE stream = 'short-$n'");
}
# what has removed the others may have been started before the transaction, but this has not
remove_another(0);
my $were = traces();
cmp_ok($were =~ s/\|.*//r, '>', 0, 'the segment was vacuumed');
foreach my $n (1, 2)
{
	remove_another($n);
	is(traces(), $were, '... and is not again, nor is its row written');
}
# whoever calls has it tried: there may be room of other snapshots, which have ended
query('SELECT * FROM es_scavenge()');
my ($vacuums, $xmin) = split /\|/, traces();
cmp_ok($vacuums, '>', $were =~ s/\|.*//r, 'it is vacuumed for who calls es_scavenge()');
is($xmin, $were =~ s/.*\|//r, 'but its row, which says the same, is not written');

query(q{COMMIT PREPARED 'open'});
come_by('the room is given back once the transaction has ended', "SELECT events = 500 AND pg_table_size('eventstore.events_0') < 0.7 * $size FROM eventstore.segments WHERE segment = 0");
is(query('SELECT count(*) FROM eventstore.events_0'), 500, 'and all is there that was left');

# ---- a lock is in the way, and somebody who has seen nothing of what was removed ----

# be_held(lock): a lock that puts off that an empty segment is dropped; by the time it goes a snapshot of after the removal is there
sub be_held
{
	my ($what, $segment, $stream, $lock) = @_;
	my $locker = $node->background_psql('postgres');
	my $onlooker = $node->background_psql('postgres');

	$locker->query_safe("BEGIN; $lock");
	query("SELECT es_truncate_stream('$stream', (SELECT max(version) + 1 FROM es_read('$stream')))");
	come_by("$what: a segment loses all its events", "SELECT count(*) = 0 FROM eventstore.events_$segment");
	$onlooker->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	remove_another("$what, looked on");
	is(query("SELECT to_regclass('eventstore.events_$segment') IS NOT NULL"), 't', '... which stays');
	$locker->query_safe('COMMIT');
	come_by('... until the lock goes', "to_regclass('eventstore.events_$segment') IS NULL");
	$onlooker->query_safe('COMMIT');
	$_->quit foreach $locker, $onlooker;
}
be_held('the log is locked', 0, 'kept-1', 'LOCK TABLE ONLY eventstore.events IN ACCESS SHARE MODE');
query(q{SELECT es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'whole-1', 'type', 'T', 'data', jsonb_build_object('pad', repeat('x', 400))) ORDER BY n)
	FROM generate_series((SELECT max(position) + 1 FROM es_events), 3000) n))});
query(q{SELECT es_append('other-1', 'T')});
come_by('another segment is sealed', 'SELECT sealed AND events = 1000 FROM eventstore.segments WHERE segment = 2');
be_held('the segment is locked, too', 2, 'whole-1', 'SELECT count(*) FROM eventstore.events');

$node->stop;
done_testing();
