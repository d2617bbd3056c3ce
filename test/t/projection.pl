# Projections in the background: what the worker does with those that run, those
# that fail and those that are rebuilt, exactly once across crashes, and what it
# does when what a projection needs is gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreProjection;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nrestart_after_crash = on\neventstore.retry_delay = '50ms'\nautovacuum = off\n");
my $psql = $node->installed_command('psql');

use_store($node);

$node->safe_psql('postgres', 'CREATE DATABASE store');
run(q{
	CREATE EXTENSION eventstore;
	CREATE TABLE noted (position bigint PRIMARY KEY, stream text, version bigint);
	CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.type = 'Bad' THEN RAISE EXCEPTION 'bad event'; END IF;
		INSERT INTO noted VALUES (e.position, e.stream, e.version);
	END $$;
	CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS 'DELETE FROM noted';
});

# ---- the worker runs them ----

run(q{SELECT es_create_projection('states', 'count'), es_create_handler_projection('noted', 'note(es_event)', reset => 'forget()')});
run(q{SELECT count(es_append('a-' || n % 7, 'T')) FROM generate_series(1, 700) n});
is(run(q{SELECT es_wait_projection('states', es_settled_position(), '10s'), es_wait_projection('noted', es_settled_position(), '10s')}),
	't|t', 'the worker takes in what was appended');
is(run(q{SELECT count(*), sum(version), bool_and((state ->> 'count')::bigint = version) FROM es_projection('states')}), '7|700|t', 'states by key');
is(run('SELECT count(*) FROM noted'), 700, 'events handled');
is(run(q{SELECT es_append('a-1', 'T'); SELECT es_wait_projection('states', es_last_position(), '10s'); SELECT version FROM es_projection('states', 'a-1')}),
	"101\nt\n101", 'a session reads what it wrote');

# ---- one that fails ----

run(q{SELECT es_append('b-1', 'Good'), es_append('b-1', 'Bad'), es_append('b-1', 'Good')});
becomes(q{SELECT status = 'failed' AND error LIKE 'bad event%SQLSTATE P0001%' FROM es_projections WHERE projection = 'noted'}, 'a failing handler stops its projection');
is(run(q{SELECT type FROM es_projections, es_read_all(error_position - 1, 1) WHERE projection = 'noted'}), 'Bad', 'at that event');
is(run(q{SELECT count(*) FROM noted WHERE stream = 'b-1'}), 1, 'what comes before it is taken in');
catches_up('states', 'the others go on');
becomes(q{SELECT attempts > 3 FROM eventstore.projection_progress WHERE error IS NOT NULL}, 'it is tried again');
becomes(q{SELECT retry_at > now() + '250ms'::interval FROM eventstore.projection_progress WHERE error IS NOT NULL}, 'after longer and longer times');
my ($bad) = rows($node, 'store', q{SELECT error_position FROM es_projections WHERE projection = 'noted'});
my $logged = slurp_file($node->logfile);
my @attempts = $logged =~ /WARNING:  projection "noted" failed at position $bad, stream "b-1": bad event\n.*?This was attempt (\d+); the next one is in \d+ ms\.\n/sg;
is(join(',', @attempts), '1', 'the log says it once');
like($logged, qr/CONTEXT:  .*projection "noted", stream "b-1", version 2, type "Bad"/s, 'with what it is about');
is(run(q{SELECT es_wait_projection('noted', es_settled_position(), '100ms')}), 'f', 'waiting for it does not help');
run(q{SELECT es_skip_event('noted', error_position) FROM es_projections WHERE projection = 'noted'});
catches_up('noted', 'told to leave the event out, it goes on');
is(run(q{SELECT string_agg(version::text, ',' ORDER BY version) FROM noted WHERE stream = 'b-1'}), '1,3', 'without it');

# mended: it recovers without being told
run(q{SELECT es_append('b-2', 'Bad')});
becomes(q{SELECT status = 'failed' FROM es_projections WHERE projection = 'noted'}, 'it fails again');
run(q{CREATE OR REPLACE FUNCTION note(e es_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO noted VALUES (e.position, e.stream, e.version);
	END $$});
catches_up('noted', 'mended, it recovers by itself');
is(run(q{SELECT count(*) FROM noted WHERE stream = 'b-2'}), 1, 'with the event');

# ---- what it needs is gone ----

run('ALTER TABLE noted RENAME TO hidden');
run(q{SELECT es_append('c-1', 'T')});
becomes(q{SELECT error LIKE '%"noted" does not exist%42P01%' FROM es_projections WHERE projection = 'noted'}, 'a table that is gone is an error of its projection');
run('ALTER TABLE hidden RENAME TO noted');
catches_up('noted', 'and no longer once it is back');
run('ALTER FUNCTION note(es_event) RENAME TO unknown');
run(q{SELECT es_append('c-1', 'T')});
becomes(q{SELECT error LIKE '%no longer exists%VE004%' FROM es_projections WHERE projection = 'noted'}, 'so is a function');
run('ALTER FUNCTION unknown(es_event) RENAME TO note');
catches_up('noted', 'and no longer once it is back');

$node->safe_psql('postgres', 'CREATE ROLE maker');
run(q{GRANT CREATE ON SCHEMA public TO maker;
	SELECT es_grant('maker', 'admin'), es_grant('maker', 'read');
	SET ROLE maker;
	CREATE TABLE theirs (who text, path text);
	CREATE FUNCTION mark(e es_event) RETURNS void LANGUAGE sql AS $$INSERT INTO theirs VALUES (current_user, current_setting('search_path'))$$;
	SET search_path = public, pg_temp;
	SELECT es_create_handler_projection('theirs', 'mark(es_event)', types => '{Mark}');
	RESET ROLE;
	SELECT es_append('d-1', 'Mark')});
catches_up('theirs', q{another role's});
is(run('SELECT * FROM theirs'), q{maker|"$user", public}, q{runs as that role, with the server's own search_path});
run(q{SET ROLE maker; CREATE OR REPLACE FUNCTION mark(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SET ROLE postgres'; END$$; RESET ROLE; SELECT es_append('d-1', 'Mark')});
becomes(q{SELECT status = 'failed' FROM es_projections WHERE projection = 'theirs'}, 'it cannot become another');

# code that would run later, at the end of the transaction, would run as somebody else: as the worker's superuser
run(q{SET ROLE maker;
	CREATE FUNCTION become() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE maker SUPERUSER'; RETURN NULL; END$$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON theirs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION become();
	CREATE OR REPLACE FUNCTION mark(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN INSERT INTO theirs VALUES ('later'); END$$});
becomes(q{SELECT error LIKE '%security-restricted operation%' FROM es_projections WHERE projection = 'theirs'}, 'it cannot leave code behind that runs as another');
run(q{SELECT es_run_projection('theirs')});
is(run(q{SELECT count(*) FROM theirs WHERE who = 'later' UNION ALL SELECT rolsuper::int FROM pg_roles WHERE rolname = 'maker'}), "0\n0", 'whoever runs it');
run(q{DROP OWNED BY maker; DROP ROLE maker; SELECT es_append('d-1', 'Mark')});
becomes(q{SELECT error LIKE 'role "maker"%' FROM es_projections WHERE projection = 'theirs'}, 'a role that is gone is an error of its projection');
catches_up('states', 'the others go on');
run(q{SELECT es_drop_projection('theirs')});

# ---- rebuilt while events come in ----

sub writer
{
	my ($name) = @_;

	return start_script($node, 'store', join('', map { "SELECT es_append('$name-' || $_ % 13, 'T', jsonb_build_object('n', $_));\n" } 1 .. 1500));
}

run(q{SELECT es_create_projection('sums', 'merge', 'inline', key => '$.data.n'), es_create_projection('merged', 'merge')});
my @writers = map { writer($_) } qw(w x y);
my $incomplete = 0;
for (1 .. 6)
{
	run(q{SELECT es_rebuild_projection('sums'), es_rebuild_projection('merged'), es_rebuild_projection('noted'), es_rebuild_projection('states')});
	for (1 .. 5)
	{
		# a reader sees a complete state: no stream's count falls behind an earlier one
		$incomplete++ if run(q{SELECT count(*) < 11 FROM es_projection('states')}) eq 't' || run('SELECT count(*) < 700 FROM noted') eq 't';
	}
	becomes(q{SELECT count(*) = 0 FROM eventstore.projection_progress WHERE NOT live}, 'rebuilds come to an end under load');
}
finish_script($_) foreach @writers;
is($incomplete, 0, 'readers see a complete state all the time');
catches_up($_, "$_ catches up") foreach qw(states noted merged);
my $differences = q{SELECT count(*) FROM (SELECT stream, count(*) AS n, max(position) AS p FROM es_events GROUP BY 1) e
	FULL JOIN (SELECT * FROM es_projection('%s')) s ON s.key = stream WHERE (n, p) IS DISTINCT FROM (s.version, s.position)};
is(run(sprintf($differences, 'states')), 0, 'the rebuilt states are those of all events');
is(run(sprintf($differences, 'merged')), 0, 'of each projection');
is(run(q{SELECT count(*) FROM es_projection('merged') s, es_replay(s.key, 'merge') r WHERE (s.version, s.position, s.state) IS DISTINCT FROM (r.version, r.position, r.state)}),
	0, 'and as replay makes them');
is(run(q{SELECT count(*) FROM (SELECT data ->> 'n' AS n, count(*) AS c FROM es_events WHERE data ? 'n' GROUP BY 1) e FULL JOIN es_projection('sums') s ON s.key = n WHERE c IS DISTINCT FROM version}),
	0, 'also where the projection is inline');
is(run(q{SELECT count(*) FROM es_events e FULL JOIN noted n USING (position) WHERE e.version IS DISTINCT FROM n.version AND e.position NOT IN (SELECT position FROM eventstore.projection_skips)}),
	0, 'and what a handler has written, but for what is left out');
becomes('SELECT count(*) = 3 FROM (SELECT DISTINCT projection_id, generation FROM eventstore.projection_states) g', 'old generations are gone');

# a rebuild that fails harms nobody, and is ended by leaving the event out
run(q{CREATE FUNCTION fussy(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN IF data ? 'fuss' THEN RAISE 'fuss'; END IF; RETURN state || data; END$$;
	SELECT es_register_reducer('fussy', 'F', 'fussy(jsonb, jsonb)');
	SELECT es_append('f-1', 'F', '{"a": 1}'), es_append('f-1', 'G', '{"fuss": 1}'), es_append('f-1', 'F', '{"b": 1}');
	SELECT es_create_projection('fussy', 'fussy', category => 'f')});
catches_up('fussy', 'a projection runs');
run(q{SELECT es_register_reducer('fussy', '*', 'fussy(jsonb, jsonb)'), es_rebuild_projection('fussy')});
becomes(q{SELECT status = 'failed' AND rebuild_position IS NOT NULL FROM es_projections WHERE projection = 'fussy'}, 'its rebuild fails');
is(run(q{SELECT state FROM es_projection('fussy')}), '{"a": 1, "b": 1}', 'readers see what there was');
like(slurp_file($node->logfile), qr/WARNING:  rebuild of projection "fussy" failed at position \d+, stream "f-1": fuss/, 'the log says so');
run(q{SELECT es_append('f-2', 'F', '{"c": 1}')});
becomes(q{SELECT count(*) = 2 FROM es_projection('fussy')}, 'which is kept up to date');
run(q{SELECT es_skip_event('fussy', error_position) FROM es_projections WHERE projection = 'fussy'});
catches_up('fussy', 'the event left out, it ends');
is(run(q{SELECT key, version FROM es_projection('fussy')}), "f-1|2\nf-2|1", 'without the event');

# ---- exactly once across crashes ----

my @crashed = map { writer($_) } qw(k l);
for (1 .. 3)
{
	usleep(300_000);
	$node->stop('immediate');
	$node->start;
	run('SELECT es_rebuild_projection(\'noted\')') if $_ == 2;
}
finish_script($_) foreach @crashed;
run(q{SELECT count(es_append('m-1', 'T')) FROM generate_series(1, 20)});
catches_up($_, "$_ catches up after crashes") foreach qw(states noted merged);
is(run(sprintf($differences, 'states')), 0, 'each event is taken in exactly once');
is(run(q{SELECT count(*) FROM es_events e FULL JOIN noted n USING (position) WHERE e.version IS DISTINCT FROM n.version AND e.position NOT IN (SELECT position FROM eventstore.projection_skips)}),
	0, 'by handlers, too');

# ---- one that takes too long, or waits for a lock ----

$node->append_conf('postgresql.conf', "eventstore.projection_timeout = '300ms'\n");
$node->reload;
run(q{CREATE FUNCTION doze(e es_event) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(60)';
	SELECT es_create_handler_projection('dozing', 'doze(es_event)', types => '{Doze}'), es_append('z-1', 'Doze')});
becomes(q{SELECT error LIKE '%57014%' FROM es_projections WHERE projection = 'dozing'}, 'one that takes too long fails');
like(slurp_file($node->logfile), qr/WARNING:  projection "dozing" failed at position \d+, stream "z-1": canceling statement/, 'the log says so');
catches_up('states', 'and the others go on');
run(q{SELECT es_drop_projection('dozing')});

# ---- the end ----

is(error_of(q{SELECT es_drop_reducer('fussy')}), '2BP01', 'a reducer that a projection has is not dropped');
run(q{SELECT es_drop_projection(projection) FROM es_projections});
is(run('SELECT count(*) FROM eventstore.projection_states'), 0, 'nothing is left of dropped projections');
run('SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE; CREATE EXTENSION eventstore');
run(q{SELECT es_create_projection('anew', 'count'), es_append('a-1', 'T')});
catches_up('anew', 'a new store has its own');
unlike(slurp_file($node->logfile), qr/terminated by signal 11|PANIC|XX000/, 'nothing broke');
$node->stop;
done_testing();
