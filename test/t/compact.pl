# What compacting a segment makes of its rows: those older than a column, columns that were
# dropped, values out of line, runs that were cut, rows that an old snapshot still sees.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

new_store($node, 'store', 1000);

# sql(statement): what it returns.
sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('store', $statement);
}

# What is not hidden, with the column that was added; where runs begin changes as they are cut.
my $kept = q{SELECT count(*) || ' ' || md5(string_agg((position, stream, version, type, data, metadata, event_id, recorded_at, note)::text, '' ORDER BY position))
	FROM eventstore.events WHERE version > 250 OR stream = 'large'};

# append(first, last): events to ten streams, in runs, and some whose values are out of line
sub append_some
{
	my ($first, $last) = @_;

	sql("SELECT count(es_append_batch('long-' || n % 10, jsonb_build_array(
			jsonb_build_object('type', 'A', 'data', jsonb_build_object('n', n)), jsonb_build_object('type', 'B'), jsonb_build_object('type', 'C'))))
		FROM generate_series($first, $last) n");
	sql(q{SELECT count(es_append('large', 'L', to_jsonb((SELECT string_agg(md5(n || '.' || i), '') FROM generate_series(1, 300) i))))
		FROM generate_series(1, 5) n});
}

# Files of complete segments: they change when a segment is compacted.
sub files
{
	return sql(q{SELECT string_agg(segment || ' ' || pg_relation_filenode(('eventstore.events_' || segment)::regclass), ' ' ORDER BY segment)
		FROM es_segments WHERE state = 'sealed'});
}

# ---- rows of all ages
append_some(1, 400);
sql(q{ALTER TABLE eventstore.events ADD COLUMN gone text DEFAULT 'gone'});
append_some(401, 700);
sql(q{ALTER TABLE eventstore.events ADD COLUMN note text DEFAULT 'noted'});
append_some(701, 900);
sql(q{ALTER TABLE eventstore.events DROP COLUMN gone});
sql(q{CREATE INDEX ON eventstore.events (note)});
append_some(901, 1400);
$node->poll_query_until('store', q{SELECT count(*) = 4 AND min(es_settled_position()) >= 4200 FROM es_segments WHERE last_position <= 4000});
sql('SELECT es_scavenge()');
my $before = sql($kept);
my $was = files();
my $reader = $node->background_psql('store', on_error_stop => 1);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $all = $reader->query_safe(q{SELECT count(*) || ' ' || md5(string_agg(e::text, '' ORDER BY position)) FROM eventstore.events_3 e});

sql(q{SELECT es_truncate_stream('long-' || n, 251) FROM generate_series(0, 9) n});
is(sql(q{SELECT sum(events) FROM es_scavenge()}), 2500, 'what is hidden is removed');
is($reader->query_safe(q{SELECT count(*) || ' ' || md5(string_agg(e::text, '' ORDER BY position)) FROM eventstore.events_3 e}), $all,
	'a snapshot of before sees what it saw');
$reader->query_safe('COMMIT');
$reader->quit;
sql('SELECT es_scavenge()');
isnt(files(), $was, 'segments have other files');
is(sql($kept), $before, 'what is left is as it was, also in columns that were added');
is(sql('SELECT count(*) FROM eventstore.events'), sql(q{SELECT 4200 - 2500 + 20}), 'and nothing else');

# ---- indexes
is(sql(q{SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM eventstore.events WHERE note = 'noted'}),
	sql('SELECT count(*) FROM eventstore.events'), 'an index has what rows had before it by default');
sql('CREATE EXTENSION amcheck');
is(sql(q{SELECT count(bt_index_check(i.indexrelid, true)) > 10 FROM pg_inherits JOIN pg_index i ON indrelid = inhrelid JOIN pg_class c ON c.oid = indexrelid
	JOIN pg_am a ON a.oid = relam WHERE inhparent = 'eventstore.events'::regclass AND amname = 'btree' AND indisvalid}), 't', 'indexes have all rows');
is(sql(q{SELECT string_agg(inhrelid::regclass || ' ' || v.msg, ', ') FROM pg_inherits, verify_heapam(inhrelid::regclass, check_toast => true) v
	WHERE inhparent = 'eventstore.events'::regclass}), '', 'tables are sound, and so are values out of line');

# ---- indexes that could not be made
$node->psql('store', q{CREATE UNIQUE INDEX CONCURRENTLY failed ON eventstore.events_3 (category_key)});
is(sql(q{SELECT count(*) FROM pg_index WHERE indexrelid = 'eventstore.failed'::regclass AND NOT indisvalid}), 1, 'an index has failed');
$was = files();
sql(q{SELECT es_truncate_stream('long-' || n, 380) FROM generate_series(0, 9) n});
is(sql(q{SELECT sum(events) FROM es_scavenge()}), 1290, 'more is removed beside an index that failed');
isnt(files(), $was, 'its segment has other files');
isnt($node->psql('store', q{REINDEX INDEX eventstore.failed}), 0, 'it can be tried again, with the same end');
sql(q{DROP INDEX eventstore.failed});

# ---- what is said about it is in the database's encoding, whatever one is set for clients
sql(q{ALTER DATABASE store SET client_encoding = 'latin1'});
$node->psql('store', qq{SET client_encoding = 'utf8'; SELECT es_subscribe('s\xc3\xbcb'); SELECT es_truncate_stream('long-1', 382)});
$node->psql('store', q{SET client_encoding = 'utf8'; SELECT es_scavenge()}, stderr => \my $said);
like($said, qr/2 hidden events are left because they are needed by subscription "s\xc3\xbcb"/, 'a notice can be read');

# ---- a segment that is left empty
new_store($node, 'empty', 100);
$node->safe_psql('empty', q{SELECT es_append('one', 'A'); SELECT count(es_append('many', 'A')) FROM generate_series(1, 150);
	SELECT es_truncate_stream('one', 2); SELECT es_truncate_stream('many', 110)});
is($node->safe_psql('empty', 'SELECT sum(events) FROM es_scavenge()'), 110, 'all events of a segment are removed');
# if somebody has it open just then, by the next call
ok($node->poll_query_until('empty', q{WITH s AS (SELECT count(*) FROM es_scavenge()) SELECT state = 'removed' FROM es_segments, s WHERE segment = 0}), 'so it is removed');
is($node->safe_psql('empty', q{SELECT count(*) FROM es_read('one')}), 0, 'a stream that had nothing else is empty');
is($node->safe_psql('empty', q{SELECT count(*) FROM es_read('one', backwards => true)}), 0, 'backwards, too');
is($node->safe_psql('empty', q{SELECT min(version) || ' ' || count(*) FROM es_read('many')}), '110 41', 'another one has the rest');
is($node->safe_psql('empty', q{SELECT es_append('one', 'B')}), 2, 'and versions go on');

done_testing();
