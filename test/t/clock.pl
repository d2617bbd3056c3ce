# The clock is set back by a day.  What was put off, or is done now and then, does not wait for it: a projection that had
# failed, an event that was refused, the mark that standbys read by, seals.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFaults;
use EventstoreTest;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\neventstore.settle_interval = '100ms'\neventstore.seal_interval = '100ms'\n");
my $faults = EventstoreFaults->prepare($node);
sub q_ { return $node->safe_psql('postgres', $_[0]) }
sub wait_for { return $node->poll_query_until('postgres', $_[0]) }

q_(q{
	CREATE EXTENSION eventstore;
	CREATE TABLE trouble (n int);
	CREATE FUNCTION clumsy(e es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM trouble) THEN RAISE 'trouble'; END IF; END $$;
	SELECT es_create_handler_projection('clumsy', 'clumsy(es_event)');
	SELECT es_subscribe('sub');
	SELECT es_append('a-1', 'T');
});
ok(wait_for(q{SELECT lag = 0 FROM es_projections}), 'the worker is there');

$faults->set(clock => 86400);
q_('INSERT INTO trouble VALUES (1)');
q_(q{SELECT es_append('a-1', 'T')});
ok(wait_for(q{SELECT attempts > 0 AND next_retry > clock_timestamp() FROM es_projections}), 'a projection has failed, and waits');
is(q_(q{SELECT count(*) FROM es_poll('sub'); SELECT es_nack('sub', 0, 1, 'no'); SELECT count(*) FROM es_poll('sub')}), "2\n\n0", 'an event was refused, and waits');
ok(wait_for(q{SELECT max(sealed_at) > clock_timestamp() - '1 min'::interval FROM es_seals}), 'the worker seals');

$faults->set;
q_('DELETE FROM trouble');
ok(wait_for(q{SELECT lag = 0 AND status = 'running' FROM es_projections}), 'the clock is set back: the projection goes on');
is(q_(q{SELECT string_agg(position || ':' || attempt, ' ') FROM es_poll('sub', wait => '10s')}), '1:2 2:1', 'the event is delivered again');
q_(q{BEGIN; SELECT es_append('a-2', 'T'); ROLLBACK; SELECT es_append('a-1', 'T')});
ok(wait_for(q{SELECT max(position) >= (SELECT max(position) FROM es_events) FROM es_seals}), 'the log is sealed');
ok(wait_for(q{SELECT position >= (SELECT max(position) FROM es_events) FROM eventstore.settled_mark}), 'the mark that standbys read by is written');
$node->stop;
done_testing();
