# A consumer that takes events before they are on disk (eventstore.read_durable off), and does all of
# its work in the transaction of its poll and its acknowledgement.  A crash that takes events back takes
# back what it did of them, and its checkpoint: whatever comes in their places is dealt with, once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# the WAL writer is to leave a tail that a crash can take
my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nsynchronous_commit = off\nwal_writer_delay = '10s'\n" .
	  "wal_writer_flush_after = '1GB'\neventstore.read_durable = off\neventstore.max_wait = '60s'\n");

sub q_ { return $node->safe_psql('postgres', $_[0]); }

# which has nothing of this
q_(q{
	SET synchronous_commit = on;
	CREATE EXTENSION eventstore;
	CREATE TABLE done (nth bigserial, position bigint, event_id uuid);
	SELECT es_subscribe('tail', partitions => 2);
	CREATE PROCEDURE write() LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			PERFORM es_append('tail-' || (random() * 20)::int, 'T');
			IF random() < 0.2 THEN ROLLBACK; ELSE COMMIT; END IF;
			PERFORM pg_sleep(0.001 * random());
		END LOOP;
	END
	$$;
	CREATE PROCEDURE consume(me text) LANGUAGE plpgsql AS $$
	DECLARE
		n int;
	BEGIN
		LOOP
			WITH delivery AS MATERIALIZED (SELECT * FROM es_poll('tail', 20, '100ms', me, '1h')),
				work AS (INSERT INTO done (position, event_id) SELECT d.position, d.event_id FROM delivery d)
			SELECT count(es_ack('tail', d.partition, d.last, me)) INTO n FROM (SELECT partition, max(position) AS last FROM delivery GROUP BY partition) d;
			COMMIT;
		END LOOP;
	END
	$$;
});

my $undone = q{SELECT count(*) FROM done d LEFT JOIN es_events e USING (position) WHERE e.event_id IS DISTINCT FROM d.event_id};
my $twice = q{SELECT count(*) - count(DISTINCT position) FROM done};
my ($lost, $lost_events) = (0, 0);

for my $round (1 .. 20)
{
	my @clients = map { start_script($node, 'postgres', $_) } ('CALL write();', 'CALL write();', q{CALL consume('m1');}, q{CALL consume('m2');});
	my $before = q_('SELECT count(*) FROM done');
	my ($seen, $events);

	$node->poll_query_until('postgres', "SELECT count(*) > $before + 300 FROM done") or die 'nothing is consumed';
	($seen, $events) = split /\|/, q_('SELECT (SELECT count(*) FROM done), (SELECT count(*) FROM es_events)');
	$node->stop('immediate');
	finish_script($_) foreach @clients;
	$node->start;
	is(q_($undone), '0', "round $round: what was done is of events that there are");
	is(q_($twice), '0', 'once each');
	is(q_(q{SELECT count(*) FROM es_events e LEFT JOIN done d USING (position) JOIN es_subscriptions s ON s.partition = 0 AND e.position <= least(s.position, (SELECT o.position FROM es_subscriptions o WHERE o.partition = 1))
		WHERE d.position IS NULL}), '0', 'and all up to the checkpoint was done');
	$lost += q_('SELECT count(*) FROM done') < $seen;
	$lost_events += q_('SELECT count(*) FROM es_events') < $events;
	last if $lost && $lost_events && $round >= 3;
}
cmp_ok($lost, '>', 0, 'a crash took something back that had been done');
cmp_ok($lost_events, '>', 0, 'and events');

# What is left is done, too.
q_("INSERT INTO done (position, event_id) SELECT position, event_id FROM es_poll('tail', NULL, member => '$_')") foreach 'm1', 'm2';
is(q_($undone), '0', 'in the end, too');
is(q_($twice), '0', 'once each');
is(q_(q{SELECT count(*) FROM es_events e LEFT JOIN done d USING (position) WHERE d.position IS NULL}), '0', 'all events are done');
$node->stop;
done_testing();
