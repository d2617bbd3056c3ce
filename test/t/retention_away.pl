# Retention where a segment is away, or a rule or a stream fails: the others are carried out, what is hidden is
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

# ---- segments come back, the oldest one first ----

$node->safe_psql('postgres', q{CREATE DATABASE apart ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});

sub apart { return $node->safe_psql('apart', $_[0]); }

# scavenge(): what es_scavenge says besides
sub scavenge { return ($node->psql('apart', "\\set VERBOSITY verbose\nSELECT count(*) FROM es_scavenge()"))[2]; }

# hidden_before(pattern): how many of the streams have which first version, first version: streams
sub hidden_before
{
	return apart("SELECT string_agg(n, ', ' ORDER BY n) FROM (SELECT truncated_before || ': ' || count(*) AS n FROM eventstore.streams WHERE name ~ '$_[0]' AND truncated_before > 1 GROUP BY truncated_before) s");
}

my $fill = q{SELECT count(es_append('fill-1', 'T')) FROM generate_series(1, 60)};
apart($_) foreach (
	'CREATE EXTENSION eventstore', 'SELECT es_set_segment_size(100)',
	q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('aged-1', 'T', '2001-01-01 UTC')},
	q{SELECT count(es_append('long-' || i, 'T')) FROM generate_series(1, 30) i, generate_series(1, 2)}, $fill,
	q{SELECT count(es_append('long-' || i, 'T')) FROM generate_series(1, 15) i, generate_series(1, 2)}, q{SELECT es_append('aged-1', 'T')}, $fill,
	q{SELECT count(es_append('long-' || i, 'T')) FROM generate_series(16, 30) i, generate_series(1, 2)}, $fill, $fill);
$behind = apart(q{SELECT max(recorded_at) + interval '1 us' FROM es_events WHERE position <= 300});
is(apart("SELECT es_detach_segments('$behind')"), join("\n", map { "eventstore.events_$_" } 0 .. 2), 'three segments go');
apart($_) foreach q{SELECT es_set_retention('long', max_count => 1), es_set_retention('aged', max_age => '10 years')}, q{SELECT es_attach_segment('events_0')};
unlike(scavenge(), qr/WARNING|ERROR/, 'where the last events of streams are away nothing is said');
is(apart('SELECT count(*) FROM eventstore.retention_skips'), '0', '... nor tried again');
is(hidden_before('^(long|aged)'), '', '... and nothing hidden');
apart(q{SELECT es_attach_segment('events_1')});
unlike(scavenge(), qr/WARNING|ERROR/, 'once they are back');
is(hidden_before('^long'), '4: 15', '... what is too many is hidden');
is(hidden_before('^aged'), '2: 1', '... and what is too old, which was back before');
apart(q{SELECT es_attach_segment('events_2')});
unlike(scavenge(), qr/WARNING|ERROR/, 'once all are back');
is(hidden_before('^long'), '4: 30', '... all is hidden');
is(apart(q{SELECT count(*) FROM es_read_all(0, NULL) WHERE stream ~ '^(long|aged)'}), '31', '... and removed');

# ---- a stream cannot be changed ----

apart(q{SELECT count(es_append(s || '-' || i, 'T')) FROM unnest(ARRAY['a', 'b']) s, generate_series(1, 3) i, generate_series(1, 2)});
apart(q{ALTER TABLE eventstore.streams ADD CONSTRAINT stays CHECK (name <> 'a-1' OR truncated_before < 2)});
apart(q{SELECT es_set_retention('a', max_count => 1), es_set_retention('b', max_count => 1)});
like(scavenge(), qr/WARNING:  23514: retention of category "a" passes over streams that cannot be truncated\nDETAIL:  Stream "a-1": new row .* violates check constraint "stays"/m, 'a stream whose row has to stay as it is, by a constraint of the owner, is passed over');
is(hidden_before('^[ab]-'), '2: 5', '... no other is');
is(apart(q{SELECT string_agg(category || ' ' || skipped || ' ' || coalesce(skipped_stream, '-'), ', ' ORDER BY category) FROM es_retention WHERE category IN ('a', 'b')}), 'a 1 a-1, b 0 -', '... es_retention tells which');
apart(q{ALTER TABLE eventstore.streams DROP CONSTRAINT stays});
unlike(scavenge(), qr/WARNING|ERROR/, 'once it may be changed');
is(hidden_before('^[ab]-'), '2: 6', '... so it is');
is(apart('SELECT count(*) FROM eventstore.retention_skips'), '0', '... and nothing is left to do');

# ---- a rule fails ----

# what is said of it ends at a character
apart(q{CREATE FUNCTION fail_at(category text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF category = 'a' THEN RAISE '%', repeat(U&'\00fc', 1000); END IF; RETURN true; END $$});
apart(q{ALTER TABLE eventstore.retention ADD CONSTRAINT fails CHECK (fail_at(category)) NOT VALID});
apart(q{SELECT es_append('a-1', 'T')});
like(scavenge(), qr/^DETAIL:  (?:\xc3\xbc){510}\.\.\.$/m, 'a long message is cut between two characters');
apart(q{ALTER TABLE eventstore.retention DROP CONSTRAINT fails});

my $failing = q{ALTER TABLE eventstore.retention DISABLE TRIGGER guard_rows; UPDATE eventstore.retention SET max_age = '9000 years' WHERE category = 'c'};
sql($failing);
sql(q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['mix', 'need', 'old']) s});
my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT category, events FROM es_scavenge() ORDER BY 1");
like($err, qr/WARNING:  22008: retention of category "c" could not be carried out\nDETAIL:  timestamp out of range/, 'es_scavenge tells of a rule that fails');
is($out, "mix|1\nneed|1\nold|1", '... and has carried out the others, before it and after it');
sql(q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['mix', 'need', 'old']) s});
($ret, $out, $err) = $node->psql('postgres', 'SELECT eventstore.apply_retention()');
like($err, qr/WARNING:  retention of category "c" could not be carried out/, 'so does who carries rules out in his transaction');
is($out, '3', '... which keeps what the others have done');

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

# a round of many batches fails as one of a single batch does
sql(q{SELECT count(es_append('many-' || i, 'T')) FROM generate_series(1, 200) i, generate_series(1, 2)});
sql(q{SELECT es_set_retention('many', max_count => 1)});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 200 FROM eventstore.streams WHERE name ~ '^many-' AND truncated_before = 2}), 'another rule has much to do');
my $failed = sql($failures);
ok($node->poll_query_until('postgres', "SELECT ($failures) > $failed"), '... in rounds that fail');
my $log = slurp_file($node->logfile, $offset);
unlike($log, qr/goes well again: retention/, '... none of whose batches is said to go well again');
is(scalar(() = $log =~ /ERROR: .*retention of category "c" could not be carried out/g), 1, '... and what fails is said once');
sql(q{SELECT es_set_retention('c', max_count => 1)});
$node->wait_for_log(qr/background work of the event store goes well again: retention/, $offset);
ok(1, 'until the rule is mended');

# ---- rules wait for a lock ----

# Each that fails waits for longer than a batch takes. Whichever a round begins with, two of them come before one that can be carried out.
$node->safe_psql('postgres', q{CREATE DATABASE locked ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});

sub locked { return $node->safe_psql('locked', $_[0]); }

locked($_) foreach (
	'CREATE EXTENSION eventstore', 'SELECT es_set_segment_size(100)',
	q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['a', 'b', 'd', 'e', 'fill']) s, generate_series(1, 20)},
	q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['c', 'f']) s, generate_series(1, 2)},
	q{SELECT es_set_retention('c', max_count => 2), es_set_retention('f', max_count => 2)});
ok($node->poll_query_until('locked', q{SELECT sealed AND events = 100 FROM eventstore.segments WHERE segment = 0}), 'a segment is sealed');
ok($node->poll_query_until('locked', q{SELECT bool_and(arrived >= 104) FROM eventstore.retention}), '... and two rules have passed it');
my $locker = $node->background_psql('locked');
$locker->query_safe('BEGIN; LOCK TABLE eventstore.events_0');
$failures = q{SELECT value FROM es_metrics() WHERE name = 'eventstore_worker_failures_total' AND labels->>'task' = 'retention'};
$failed = locked($failures);
locked($_) foreach q{SELECT count(es_append(s || '-1', 'T')) FROM unnest(ARRAY['c', 'f']) s},
	q{SELECT es_set_retention(category, max_count => 1) FROM unnest(ARRAY['a', 'b', 'd', 'e']) category};
ok($node->poll_query_until('locked', q{SELECT count(*) = 2 FROM eventstore.streams WHERE name IN ('c-1', 'f-1') AND truncated_before = 2}), 'where four rules wait for a lock the others are carried out');
ok($node->poll_query_until('locked', "SELECT ($failures) > $failed"), '... and the round ends');
(undef, undef, $err) = $node->psql('locked', "\\set VERBOSITY verbose\nSELECT count(*) FROM es_scavenge()");
like($err, qr/WARNING:  55P03: retention of category "a" could not be carried out\nDETAIL:  It is the first of 4 categories of which none could: canceling statement due to lock timeout\.$/m, '... so does es_scavenge, and tells how many there are');
$locker->query_safe('COMMIT');
$locker->quit;
ok($node->poll_query_until('locked', q{SELECT count(*) = 4 FROM eventstore.streams WHERE name ~ '^[abde]-1$' AND truncated_before = 20}), 'once it may be had they are carried out');

$node->stop;
done_testing();
