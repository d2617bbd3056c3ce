# What functions tell of the log is on disk, whoever wrote it and however he committed: the disk does not answer after an
# asynchronous commit, and who is to tell of it waits. So it is for rows that VACUUM has frozen before their commit is on
# disk, for calls that append nothing, and for what is taken back by nobody but a crash. And what nobody looks at again, a seal, a
# subject that is shredded, another master key, is on disk before it is seen.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFaults;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

# no other process is to write the WAL before its time; there is no worker, which might wait for the disk with a snapshot that
# keeps rows from being frozen
my $node = new_node('main', conf => "fsync = on\nwal_sync_method = fdatasync\nautovacuum = off\nshared_buffers = 64MB\n"
	  . "wal_writer_delay = '10s'\nwal_writer_flush_after = '1GB'\nbgwriter_lru_maxpages = 0\ncheckpoint_timeout = '1d'\n"
	  . "eventstore.master_key_command = 'cat master_key'\n");
append_to_file($node->data_dir . '/master_key', '1' x 64 . "\n");
my $faults = EventstoreFaults->prepare($node);
my $stream = 0;

sub q_ { return $node->safe_psql('postgres', $_[0]) }

# waits(script): whether a session waits for the disk, and has said nothing yet.
sub waits
{
	my ($script) = @_;

	return wait_until('a session at the disk', sub {
		-s $script->{out} || -s $script->{err} || q_(q{SELECT lower(wait_event) IN ('walwrite', 'walsync') FROM pg_stat_activity WHERE application_name = 'waits'}) eq 't' })
	  && !-s $script->{out} && !-s $script->{err};
}

# freeze(table): has VACUUM freeze its rows, all of them.
sub freeze
{
	my ($table) = @_;

	return wait_until('frozen rows', sub {
		q_("VACUUM (FREEZE, TRUNCATE off) $table");
		q_("SELECT min(age(t.xmin)) > (SELECT age(relfrozenxid) FROM pg_class WHERE oid = '$table'::regclass) FROM $table t") eq 't' });
}

# tells(what, statement, sql, answer, table): a session commits a statement asynchronously, on a stream {S} that has an event;
# the rows of a table, if one is named, are frozen; and who runs the sql then waits for the disk before he answers.
sub tells
{
	my ($what, $statement, $sql, $answer, $table) = @_;
	my $name = 's-' . ++$stream;

	q_("SELECT es_append('$name', 'T', metadata => '{\"tags\": [\"$name\"]}')");
	$faults->set(slow => 1);
	q_('SET synchronous_commit = off; ' . $statement =~ s/\{S\}/$name/gr);
	ok(freeze($table), "$what: frozen") if $table;
	my $waits = start_named($node, 'postgres', 'waits', $sql =~ s/\{S\}/$name/gr);
	ok(waits($waits), "$what waits for the disk");
	$faults->set;
	is(join('', finish_script($waits)) =~ s/.*ERROR: *//r, "$answer\n", '... and tells what is there');
}

q_($_) foreach 'CREATE EXTENSION eventstore', q{SELECT es_register_reducer_ops('kept', '*', '{"inc": {"n": 1}}')}, q{SELECT es_register_schema('Used', '{}')};
my $id = '01990000-0000-7000-8000-000000000001';
my $append = q{SELECT es_append('{S}', 'T', metadata => '{"tags": ["{S}"]}')};
my $segment = 'eventstore.events_0';

# Frozen rows.
tells('es_read of frozen rows', $append, q{SELECT max(version) FROM es_read('{S}')}, '2', $segment);
tells('es_read, backwards, of frozen rows', $append, q{SELECT version FROM es_read('{S}', max_count => 1, backwards => true)}, '2', $segment);
tells('es_read_all of frozen rows', $append, q{SELECT max(version) FROM es_read_all(0, NULL) WHERE stream = '{S}'}, '2', $segment);
tells('es_read_category of frozen rows', $append, q{SELECT max(version) FROM es_read_category('s', 0, NULL) WHERE stream = '{S}'}, '2', $segment);
tells('es_read_tagged of frozen rows', $append, q{SELECT max(version) FROM es_read_tagged(ARRAY['{S}'])}, '2', $segment);
tells('es_stream_version of a frozen row', $append, q{SELECT es_stream_version('{S}')}, '2', $segment);
tells('es_position of a frozen row', $append, q{SELECT es_position('{S}', 2) > 0}, 't', $segment);
tells('es_replay from a frozen snapshot', q{SELECT es_snapshot('{S}', 'kept')}, q{SELECT version FROM es_replay('{S}', 'kept')}, '1', 'eventstore.snapshots');

# Calls that append nothing.
tells('an empty batch', $append, q{SELECT es_append_batch('{S}', '[]')}, '2');
tells('one that expects a version', $append, q{SELECT es_append_batch('{S}', '[]', 2)}, '2');
tells('an empty array', $append, q{SELECT es_append_events('{S}', '{}', -1)}, '2');
tells('es_append_many that only checks', $append, q{SELECT count(*) FROM es_append_many('[{"stream": "{S}", "expected_version": 2}]')}, '0');
tells('what es_try_append has found, in an asynchronous session', qq{SELECT es_append('{S}', 'T', event_id => '$id')},
	qq{SET synchronous_commit = off; SELECT es_try_append('{S}', 'Another', event_id => '$id')}, '(stored,2)');
tells('what es_try_append does not expect', $append, q{SELECT es_try_append('{S}', 'T', expected_version => 1)}, '(conflict,2)');
tells('a truncation of what is not there', $append, q{SELECT es_truncate_stream('{S}', 100)}, '22023');
tells('a truncation that was done', q{SELECT es_truncate_stream('{S}', 2)}, q{SELECT es_truncate_stream('{S}', 2)}, '');

# one that finds that somebody else was faster, as it has kept states
q_($_) foreach q{CREATE FUNCTION hold(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); RETURN '{}'; END $$},
	q{SELECT es_register_reducer('held', '*', 'hold(jsonb, jsonb)')}, q{SELECT es_append('held-1', 'T') FROM generate_series(1, 2)};
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
my $truncation = start_named($node, 'postgres', 'waits', q{SET synchronous_commit = off; SELECT es_truncate_stream('held-1', 2)});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waits' AND wait_event = 'advisory'}), 'a truncation keeps states');
$faults->set(slow => 1);
q_(q{SET synchronous_commit = off; SELECT es_delete_stream('held-1')});
$holder->query_safe('SELECT pg_advisory_unlock(7)');
ok(waits($truncation), '... and waits for the disk, as the stream is deleted meanwhile');
$faults->set;
is(join('', finish_script($truncation)), "\n", '... before it has nothing to do');
$holder->quit;

tells('a schema that is in use', q{SELECT es_append('{S}', 'Used')}, q{SELECT es_drop_schema('Used', 1)}, '55000');
tells('a time before that of the last event', $append, q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('{S}', 'T', '2001-01-01')}, '22023');

# A projection has an event.
q_(q{SELECT es_create_projection('inline', reducer => 'kept', key => '$.stream', mode => 'inline')});
tells('es_wait_projection', $append, q{SELECT es_wait_projection('inline', (SELECT max(position) FROM eventstore.events WHERE stream = '{S}'), '1h')}, 't');
q_(q{SELECT es_drop_projection('inline')});

# What is told to others, who keep it for good, or what is destroyed for it, is seen by nobody before it is on disk, however it is made.
q_(q{SELECT es_protect('card', '{$.data.number}', '$.data.owner')});
q_(qq{SELECT es_append('card-1', 'T', '{"owner": "$_", "number": 1}')}) foreach qw(gone stays);
my $fingerprint = q_('SELECT DISTINCT fingerprint FROM eventstore.subjects');
foreach ([ 'SELECT es_seal() > 0', 't', 'SELECT count(*) FROM es_seals' ],
	[ q{SELECT es_shred('gone')}, '', 'SELECT count(*) FROM eventstore.subjects WHERE wrapped IS NULL' ],
	[ q{SELECT es_rotate_master_key('cat former_key')}, '', "SELECT count(*) FROM eventstore.subjects WHERE subject = 'stays' AND fingerprint <> $fingerprint" ])
{
	my ($statement, $answer, $seen) = @$_;

	is(q_($seen), '0', "before $statement");
	if ($statement =~ /rotate/)
	{
		rename $node->data_dir . '/master_key', $node->data_dir . '/former_key';
		append_to_file($node->data_dir . '/master_key', '2' x 64 . "\n");
	}
	$faults->set(slow => 1);
	my $script = start_named($node, 'postgres', 'waits', "SET synchronous_commit = off; $statement");
	ok(waits($script), '... which waits for the disk, whatever synchronous_commit is');
	is(q_($seen), '0', '... and nobody has seen what it does');
	$faults->set;
	is(join('', finish_script($script)), "$answer\n", '... which is there');
	is(q_($seen), '1', '... for everybody');
}

# A crash takes back what nobody was told of.
q_(q{SELECT es_append('crash-1', 'T')});
$faults->set(held => 1);
q_(q{SET synchronous_commit = off; SELECT es_append('crash-1', 'T')});
ok(freeze($segment), 'an event is frozen that is in memory only');
my @told = map { start_named($node, 'postgres', 'waits', $_) } q{SELECT max(version) FROM es_read('crash-1')}, q{SELECT es_stream_version('crash-1')}, q{SELECT es_append_batch('crash-1', '[]')};
ok(wait_until('sessions at the disk', sub { q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits' AND lower(wait_event) IN ('walwrite', 'walsync')}) == @told || grep { -s $_->{out} } @told }), 'who asks for it waits');
$node->stop('immediate');
$faults->set;
$faults->start;
is(q_(q{SELECT es_stream_version('crash-1')}), '1', 'a crash takes it back');
is(join('', map { (finish_script($_))[0] } @told), '', '... and nobody was told of it');
$node->stop;
done_testing();
