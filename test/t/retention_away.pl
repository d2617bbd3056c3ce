# Retention where a segment is away, or a rule fails: the others are carried out, what is hidden is
# removed, and once the segment is back it is as if it had never been away.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# first_versions(category): of its streams, each once, in order
sub first_versions
{
	return sql("SELECT string_agg(DISTINCT first_version::text, ' ') FROM es_streams WHERE category = '$_[0]' AND NOT deleted");
}

# ---- a segment is away ----

sql($_) foreach (
	'CREATE EXTENSION eventstore', 'SELECT es_set_segment_size(100)',
	q{SELECT es_register_reducer_ops('need', '*', '{"inc": {"n": 1}}')},
	q{SELECT count(es_append('old-1', 'T')) FROM generate_series(1, 80)},
	q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['mix', 'need']) s, generate_series(1, 5)},
	q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('aged-1', 'T', '2001-01-01 UTC'), ('aged-2', 'T', '2001-01-01 UTC')},
	q{SELECT count(es_append('old-1', 'T')) FROM generate_series(1, 8)},
	q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('aged-1', 'T', '2001-02-01 UTC'), ('aged-1', 'T', '2002-01-01 UTC')},
	q{SELECT count(es_append(s, 'T')) FROM unnest(ARRAY['aged-1', 'aged-2']) s},
	q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['mix', 'need']) s, generate_series(1, 5)},
	q{SELECT count(es_append('c-' || i, 'T')) FROM generate_series(1, 50) i, generate_series(1, 3)});
my $behind = sql(q{SELECT max(recorded_at) + interval '1 us' FROM es_events WHERE position <= 100});
is(sql("SELECT es_detach_segments('$behind')"), 'eventstore.events_0', 'a segment goes');
sql(q{SELECT es_set_retention('c', max_count => 1), es_set_retention('mix', max_count => 7), es_set_retention('need', max_count => 2), es_set_retention('old', max_count => 10),
	es_set_retention('aged', max_age => '10 years'), es_set_retention('*', max_count => 1000), es_delete_stream('c-1')});
is(sqlstates($node, 'postgres', 'SELECT es_scavenge()'), '', 'es_scavenge does not need it');
is(first_versions('c'), '3', 'what has nothing there is carried out');
is(sql(q{SELECT count(*) FROM es_read_category('c', 100, NULL)}), '50', '... and removed, what was hidden by hand, too');
is(first_versions('mix'), '4', 'versions tell how long a stream is of which a part is away');
is(sql(q{SELECT string_agg(stream || ' ' || first_version, ', ' ORDER BY stream) FROM es_streams WHERE category = 'aged'}), 'aged-1 4, aged-2 1', 'what is here tells what is too old, and nothing else is hidden');
is(sql(q{SELECT skipped, error ~ 'events_0' FROM es_retention WHERE category = 'need'}), '1|t', 'a stream whose state cannot be kept is passed over');
is(sql(q{SELECT sum(skipped) FROM es_retention WHERE category <> 'need'}), '0', '... no other');
is(sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM eventstore.streams WHERE has_hidden}), 'aged-1 mix-1', 'what is hidden there is still to be removed');

# who changes a rule is waited for by who attaches, and told that it is himself
is(sqlstates($node, 'postgres', q{BEGIN; SELECT es_set_retention('c', max_count => 1); SELECT es_attach_segment('events_0')}), '55000', 'a segment is not attached in a transaction that has changed a rule');
my $rules = $node->background_psql('postgres');
$rules->query_safe(q{BEGIN; SELECT es_set_retention('c', max_count => 1)});
is(sqlstates($node, 'postgres', q{SET lock_timeout = '100ms'; SELECT es_attach_segment('events_0')}), '55P03', '... and waits for one, as long as lock_timeout says');
my $attaching = start_script($node, 'postgres', q{SELECT es_attach_segment('events_0')});
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore archiver' AND wait_event_type = 'Lock'}), '... else to its end');
is(sql(q{SELECT es_append('new-1', 'T') > 0, count(*) > 0 FROM es_read_all(100)}), 't|t', '... without keeping others off');
$rules->query_safe('COMMIT');
$rules->quit;
is(join('', (finish_script($attaching))[1]), '', '... which it then is');

is(sqlstates($node, 'postgres', 'SELECT es_scavenge()'), '', 'once it is back');
is(first_versions('old'), '79', '... rules are carried out there');
is(first_versions('need'), '9', '... what was passed over is come back to');
is(sql(q{SELECT version, state FROM es_replay('need-1', 'need')}), '10|{"n": 10}', '... and its state is kept');
is(sql(q{SELECT string_agg(stream || ' ' || first_version, ', ' ORDER BY stream) FROM es_streams WHERE category = 'aged'}), 'aged-1 4, aged-2 2', '... what is too old is hidden');
is(sql(q{SELECT string_agg(category || ' ' || n, ', ' ORDER BY category) FROM (SELECT split_part(stream, '-', 1) AS category, count(*) AS n FROM es_read_all(0, NULL) GROUP BY 1) c}),
	'aged 2, c 50, mix 7, need 2, new 1, old 10', '... and all that is hidden is removed');
is(sql(q{SELECT count(*) FROM eventstore.streams WHERE has_hidden}), '0', '... so that nothing is left to do');

# ---- a rule fails ----

my $failing = q{ALTER TABLE eventstore.retention DISABLE TRIGGER guard_rows; UPDATE eventstore.retention SET max_age = '9000 years' WHERE category = 'c'};
sql($failing);
sql(q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['mix', 'need', 'old']) s});
my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT category, events FROM es_scavenge() ORDER BY 1");
like($err, qr/WARNING:  22008: retention of category "c" could not be carried out\nDETAIL:  timestamp out of range/, 'es_scavenge tells of a rule that fails');
is($out, "mix|1\nneed|1\nold|1", '... and has carried out the others, before it and after it');
is(sqlstates($node, 'postgres', 'SELECT eventstore.apply_retention()'), '22008', 'by hand it is an error');

my $offset = -s $node->logfile;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'eventstore'");
$node->restart;
my $failures = q{SELECT value FROM es_metrics() WHERE name = 'eventstore_worker_failures_total' AND labels->>'task' = 'retention'};
sql(q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['mix', 'need', 'old']) s; SELECT es_delete_stream('new-1')});
sql($failing);
sql(q{SELECT es_set_retention('nudge', max_count => 1)});
ok($node->poll_query_until('postgres', "SELECT ($failures) >= 2"), 'in the worker it fails, and fails again');
ok($node->poll_query_until('postgres', q{SELECT string_agg(category || ' ' || n, ', ' ORDER BY category) = 'mix 7, need 2, new 1, old 10'
	FROM (SELECT split_part(stream, '-', 1) AS category, count(*) AS n FROM es_read_all(0, NULL, ARRAY['mix', 'need', 'new', 'old']) GROUP BY 1) c}), '... all others are carried out, and what is hidden is removed');
like(slurp_file($node->logfile, $offset), qr/retention of category "c" could not be carried out/, '... and the log says so');
sql(q{SELECT es_set_retention('c', max_count => 1)});
$node->wait_for_log(qr/background work of the event store goes well again: retention/, $offset);
ok(1, 'until the rule is mended');

$node->stop;
done_testing();
