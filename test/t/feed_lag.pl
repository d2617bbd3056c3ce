# es_feeds.lag_events: how many events a consumer is behind, by marks in the WAL.
use strict;
use warnings;
use lib 'test/lib';
use EsfeedTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = feed_node('lag');
my $lag = q{SELECT lag_events FROM es_feeds WHERE slot_name = '%s'};
my $marks = 'FROM eventstore.wal_mark, unnest(lsns, positions) WITH ORDINALITY AS m(lsn, position, n)';

sub value { return $node->safe_psql('postgres', sprintf $_[0], @_[ 1 .. $#_ ]); }

# Twenty events, and a mark.
sub append_and_mark
{
	return value(q{SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'a-' || i, 'type', 'T')) FROM generate_series(1, 20) i));
		SELECT es_settle()});
}

# a mark that is not of this server's WAL, as the copy of a table would bring it
value(q{COPY eventstore.wal_mark FROM STDIN;
{FFFFFF/0}	{7}
\.
});
value(q{SELECT pg_create_logical_replication_slot('by_hand', 'eventstore')});
append_and_mark();
is(value($lag, 'by_hand'), '', 'of WAL older than the first mark nothing is known');
is(value("SELECT n, position $marks"), '1|20', 'and a mark of other WAL has gone');
value(q{SELECT pg_drop_replication_slot('by_hand')});

# far more marks than are kept
value(q{SELECT es_create_feed('part')});
append_and_mark() foreach 1 .. 150;
my $seen = value('SELECT pg_current_wal_insert_lsn()');
append_and_mark() foreach 1 .. 50;
is(value(q{SELECT count(*) BETWEEN 32 AND 64, bool_and(rises) FROM (SELECT coalesce(lsn > lag(lsn) OVER w AND position > lag(position) OVER w, true) AS rises %s WINDOW w AS (ORDER BY n)) r},
		$marks), 't|t', 'old marks get rarer, and all rise');
cmp_ok(abs(value($lag, 'es_part') - 4000), '<=', 40, 'a feed that nobody reads is behind by all');

# between marks the estimate is near
is(value(q{SELECT count(*) FROM pg_logical_slot_get_changes('es_part', '%s', NULL)}, $seen), 3000, 'a consumer takes a part');
my $estimate = value($lag, 'es_part');
cmp_ok(abs($estimate - 1000), '<=', 40, 'and is about as far behind as it is') or diag "estimate: $estimate";

# a crash forgets nothing that the slot has kept
value('CHECKPOINT');
$node->stop('immediate');
$node->start;
is(value($lag, 'es_part'), $estimate, 'the same after a crash');
value(q{SELECT count(*) FROM pg_logical_slot_get_changes('es_part', NULL, NULL)});
is(value($lag, 'es_part'), 0, 'none when all is taken');

# what is in flight does not count until it is there
my $session = $node->background_psql('postgres', on_error_die => 1);
$session->query(q{BEGIN; SELECT count(*) FROM generate_series(1, 100) i, es_append('open-' || i, 'T')});
is(value($lag, 'es_part'), 0, 'nobody is behind an append in flight');
$session->query('COMMIT');
$session->quit;
cmp_ok(value($lag, 'es_part'), '>', 50, 'but behind what it has committed');
cmp_ok(value($lag, 'es_part'), '<=', 100, 'and no more');

done_testing();
