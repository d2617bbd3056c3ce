# Indexes rebuilt CONCURRENTLY beside appends: an append that waits with the
# segment open goes on when the list of its indexes has changed meanwhile, others
# go on while an index has no pages yet, and no index misses an entry.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "autovacuum = off\n");
my $indexes = "SELECT indexrelid FROM pg_index JOIN pg_class c ON c.oid = indrelid JOIN pg_class i ON i.oid = indexrelid JOIN pg_am a ON a.oid = i.relam AND a.amname = 'btree'
	WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relname ~ '^(events_|streams)'";
my $n = 0;

$node->safe_psql('postgres', $_) foreach (
	'CREATE EXTENSION eventstore', 'CREATE EXTENSION amcheck',
	"SELECT count(es_append('other-' || n, 'T')) FROM generate_series(1, 20) n",
	"SELECT es_append_batch('busy-1', (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, 500)))");

sub waiting
{
	my ($what) = @_;

	return $node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '$what' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()");
}

# One after the other: an append in a transaction, another that waits for it,
# and the rebuild, which waits for both.
sub rebuild
{
	my ($index) = @_;
	my $id = sprintf('0189eeee-0000-7000-8000-%012d', ++$n);
	my $holder = $node->background_psql('postgres');
	my $next = $node->background_psql('postgres', on_error_stop => 0);

	# both have used the indexes before, and know them
	$next->query_safe("SELECT es_append('busy-2', 'T', event_id => gen_random_uuid())");
	$holder->query_safe("BEGIN; SELECT es_append('busy-1', 'T')");
	my $waiter = start_script($node, 'postgres',
		"SELECT es_append('busy-2', 'T');\nSELECT es_append('busy-1', 'Waited', event_id => '$id');\nSELECT es_append_batch('busy-1', (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, 50)));\n");
	ok(waiting("%es_append(''busy-1'', ''Waited''%"), "$index: an append waits for another");
	my $rebuild = start_script($node, 'postgres', "REINDEX INDEX CONCURRENTLY eventstore.$index;\n");
	ok(waiting('REINDEX INDEX%'), '... and the rebuild for both');
	my ($status, $out, $err) = $node->psql('postgres', "SELECT es_append('other-1', 'T', event_id => gen_random_uuid())");
	is($err, '', '... others append meanwhile');
	$next->query("SELECT es_append_batch('busy-2', '[{\"type\": \"T\"}, {\"type\": \"T\"}, {\"type\": \"T\"}, {\"type\": \"T\"}, {\"type\": \"T\"}]')");
	is($node->safe_psql('postgres', "SELECT es_read_category FROM es_read_category('other', 0, 1)") eq '', '', '... and read');
	$holder->query_safe('COMMIT');
	($out, $err) = finish_script($waiter);
	is($err, '', '... who waited goes on');
	(undef, $err) = finish_script($rebuild);
	is($err, '', '... and the rebuild');
	$_->quit foreach ($holder, $next);
	($status, $out, $err) = $node->psql('postgres', "SELECT count(bt_index_parent_check(indexrelid, true, true)) FROM ($indexes) i");
	is($err, '', '... every index has every entry');
	is($node->safe_psql('postgres', "SELECT count(*) = (SELECT count(*) FROM es_events WHERE stream LIKE 'busy-%') FROM es_read_category('busy', 0, NULL)"), 't',
		'... readers of the category find all events');
	is(gaps($node, 'postgres'), '', '... and versions have no gap');
}

rebuild($_) foreach ('events_0_position', 'events_0_stream', 'events_0_category', 'events_0_event_id', 'streams_by_id', 'streams_by_name');

# An index of the user's that could not be built is in nobody's way.
my ($status, $out, $err) = $node->psql('postgres', 'CREATE UNIQUE INDEX CONCURRENTLY twice ON eventstore.events_0 (stream_id)');
like($err, qr/could not create unique index/, 'an index that cannot be built');
is($node->safe_psql('postgres', "SELECT es_append_batch('busy-3', '[{\"type\": \"T\"}]')"), '1', '... does not stop a new stream');
$node->safe_psql('postgres', 'DROP INDEX eventstore.twice');

$node->stop;
done_testing();
