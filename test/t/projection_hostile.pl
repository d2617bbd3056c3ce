# Projections whose code does what it should not: fail at the end of the
# transaction, run or drop itself, take all memory or all time, end the worker,
# stand in the way of DROP DATABASE, or get at another role's rights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreProjection;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

$PostgreSQL::Test::Utils::timeout_default = 60 unless $ENV{PG_TEST_TIMEOUT_DEFAULT};

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\neventstore.retry_delay = '50ms'\nautovacuum = off\nmax_worker_processes = 20\n");
my $worker = q{FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND datname = 'store'};

use_store($node);

# fails(projection, pattern, name): it stands failed with such an error
sub fails { return becomes("SELECT coalesce(error LIKE '$_[1]', false) FROM es_projections WHERE projection = '$_[0]'", $_[2]); }

# skip_failed(projection): leaves out the event at which it stands
sub skip_failed { return run("SELECT es_skip_event('$_[0]', error_position) FROM es_projections WHERE projection = '$_[0]'"); }

$node->safe_psql('postgres', 'CREATE DATABASE store');
run(q{CREATE EXTENSION eventstore; SELECT es_append('a-1', 'T'), es_create_projection('other', 'count', category => 'a')});
catches_up('other', 'a projection that does no harm');

# ---- what fails at the end of the transaction ----

my $log_start = -s $node->logfile;
run(q{
	CREATE TABLE parent (id int PRIMARY KEY);
	INSERT INTO parent SELECT generate_series(0, 50);
	CREATE TABLE child (pid int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION add_child(e es_event) RETURNS void LANGUAGE sql AS $$INSERT INTO child VALUES ((e.data ->> 'id')::int)$$;
	SELECT count(es_append('c-1', 'Child', jsonb_build_object('id', CASE n WHEN 37 THEN 1000 ELSE n END))) FROM generate_series(1, 50) n;
	SELECT es_create_handler_projection('children', 'add_child(es_event)', types => '{Child}')});
fails('children', '%violates foreign key constraint%SQLSTATE 23503%', 'a deferred constraint is checked as part of the batch');
is(run(q{SELECT data ->> 'id' FROM es_projections, es_read_all(error_position - 1, 1) WHERE projection = 'children'}), '1000', 'the event is found at which it fails');
is(run('SELECT count(*), max(pid) FROM child'), '36|36', 'what comes before that is taken in');
catches_up('other', 'the others go on');
skip_failed('children');
catches_up('children', 'and so does it, without the event');
is(run('SELECT count(*) FROM child'), 49, 'with all others');
unlike(slurp_file($node->logfile, $log_start), qr/ERROR:.*foreign key/, 'that was never an error of the worker');
like(slurp_file($node->logfile, $log_start), qr/WARNING:  projection "children" failed at position \d+, stream "c-1": .*violates foreign key constraint/, 'but it is in the log');

# two that an order of events satisfies only in the end
run(q{CREATE FUNCTION add_both(e es_event) RETURNS void LANGUAGE sql AS $$INSERT INTO child VALUES ((e.data ->> 'id')::int); INSERT INTO parent VALUES ((e.data ->> 'id')::int)$$;
	SELECT es_create_handler_projection('both', 'add_both(es_event)', types => '{Both}'), es_append('c-1', 'Both', '{"id": 2001}'), es_append('c-1', 'Both', '{"id": 2002}')});
catches_up('both', 'a constraint that is satisfied in the end is');
run(q{SELECT es_drop_projection('both'), es_drop_projection('children')});

# ---- what runs or changes itself ----

foreach my $call ('es_run_projection(%L)', 'es_drop_projection(%L)', 'es_rebuild_projection(%L)', 'es_skip_event(%L, 1)')
{
	run(qq{CREATE OR REPLACE FUNCTION self(e es_event) RETURNS void LANGUAGE plpgsql AS \$\$BEGIN EXECUTE 'SELECT ' || format('$call', 'self'); END\$\$;
		CREATE OR REPLACE FUNCTION reset_self() RETURNS void LANGUAGE sql AS '';
		SELECT es_append('s-1', 'Self'), es_create_handler_projection('self', 'self(es_event)', types => '{Self}', reset => 'reset_self()')});
	fails('self', '%cannot run or change projection "self" from a function that it calls%SQLSTATE 55000%', "refused: $call by itself");
	is(run(q{SET client_min_messages = error; SELECT es_run_projection('self')}), 0, 'also when run by hand');
	catches_up('other', 'the others go on');
	is(run(q{SELECT es_drop_projection('self'); SELECT count(*) FROM es_projections WHERE projection = 'self'}), "\n0", 'it can be dropped');
}
run(q{CREATE OR REPLACE FUNCTION self(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN BEGIN PERFORM es_drop_projection('self'); EXCEPTION WHEN OTHERS THEN NULL; END; END$$;
	SELECT es_create_handler_projection('self', 'self(es_event)', 'inline', types => '{Self}'); SELECT es_append('s-1', 'Self')});
is(run(q{SELECT mode FROM es_projections WHERE projection = 'self'}), 'inline', 'nor can an inline one');
run(q{SELECT es_drop_projection('self')});

# ---- one that always fails, wherever that is ----

run(q{CREATE FUNCTION raise(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RAISE 'always'; END$$;
	SELECT es_register_reducer('raising', '*', 'raise(jsonb, jsonb)');
	SELECT count(es_append('r-' || lpad((10000 - n)::text, 6, '0'), 'T')) FROM generate_series(1, 4000) n});
run(q{SELECT es_create_projection('raising', 'raising', category => 'r')});
my $start = time();
fails('raising', 'always%', 'keys in descending order: the failure is found');
cmp_ok(time() - $start, '<', 10, 'without an attempt for each of them');
is(run(q{SELECT stream FROM es_projections, es_read_all(error_position - 1, 1) WHERE projection = 'raising'}), 'r-009999', 'at the first event');
run(q{SELECT es_drop_projection('raising')});

# ---- memory ----

run(q{CREATE FUNCTION weigh(e es_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO weights SELECT e.position, sum(total_bytes) FROM pg_backend_memory_contexts;
	END $$;
	CREATE TABLE weights (position bigint, bytes numeric);
	SELECT count(es_append('big-' || n, 'Big', jsonb_build_object('text', repeat('x', 3000000)))) FROM generate_series(1, 60) n;
	SELECT es_create_projection('bulky', 'merge', category => 'big');
	SELECT es_create_handler_projection('weighing', 'weigh(es_event)', categories => '{big}')});
catches_up('weighing', 'large events, a handler');
catches_up('bulky', 'and as states');
is(run('SELECT count(*) FROM weights'), 60, 'each is handled');
cmp_ok(run('SELECT max(bytes)::bigint FROM weights'), '<', 100_000_000, 'with few of them in memory at once');
cmp_ok(run('SELECT count(DISTINCT xmin::text) FROM weights'), '>', 5, 'in several transactions');
run(q{SELECT es_drop_projection('weighing'), es_drop_projection('bulky')});

# ---- words ----

$log_start = -s $node->logfile;
run(q{CREATE FUNCTION shout(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		RAISE USING MESSAGE = 'loud ' || repeat('m', 2000000), DETAIL = repeat('d', 2000000), HINT = repeat('h', 2000000); END $$;
	CREATE TABLE shouts (n int); CREATE FUNCTION shout_late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM shout(NULL); END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON shouts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shout_late();
	CREATE FUNCTION shout_at_end(e es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO shouts VALUES (1)';
	SELECT es_append('l-1', 'Loud'), es_create_handler_projection('loud', 'shout(es_event)', types => '{Loud}'),
		es_create_handler_projection('loud at the end', 'shout_at_end(es_event)', types => '{Loud}')});
fails('loud', 'loud mmm%', 'an error with a lot to say');
fails('loud at the end', 'loud mmm%', 'and one of a deferred trigger');
my ($longest) = sort { $b <=> $a } map { length } split /\n/, slurp_file($node->logfile, $log_start);
cmp_ok($longest, '<', 15_000, 'is cut in the log');
run(q{SELECT es_drop_projection('loud'), es_drop_projection('loud at the end'); SELECT es_create_handler_projection('loud', 'shout(es_event)', 'inline', types => '{Louder}')});
my (undef, undef, $heard) = $node->psql('store', q{SELECT es_append('l-1', 'Louder')});
like($heard, qr/ERROR:  loud mmm/, 'is given to who appends');
cmp_ok(length $heard, '<', 50_000, 'and cut there');
run(q{SELECT es_drop_projection('loud')});

# ---- rights ----

run(q{CREATE ROLE alice; CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO alice, mallory;
	SELECT es_grant(r, p) FROM unnest(ARRAY['alice', 'mallory']::regrole[]) r, unnest(ARRAY['admin', 'read']) p;
	GRANT mallory TO alice;
	CREATE FUNCTION tame(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql RETURN data;
	SELECT es_register_reducer('tame', 'X', 'tame(jsonb, jsonb)');
	SELECT es_create_projection('super', 'tame', category => 'x');
	SET ROLE mallory;
	CREATE FUNCTION grab(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN data; END$$;
	CREATE FUNCTION grab(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN data; END$$;
	CREATE FUNCTION grab(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END$$;
	SELECT es_register_reducer('tame', 'X', 'grab(jsonb, jsonb)');
	RESET ROLE;
	SELECT es_append('x-1', 'X')});
fails('super', 'function grab(jsonb,jsonb) must not run with the rights of role "postgres"%SQLSTATE 42501%', q{a reducer's function that another role owns is not run as the creator});
run(q{SELECT es_register_reducer('tame', 'X', 'tame(jsonb, jsonb)')});
catches_up('super', 'one of a trusted owner is');
run(q{SET ROLE mallory; SELECT es_register_upcaster('X', 1, 'grab(jsonb)'); RESET ROLE; SELECT es_append('x-1', 'X', type_version => 1)});
fails('super', '%must not run with the rights%', 'nor is an upcaster');
is(run(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'nothing was got at');
is(error_of(q{SELECT es_create_handler_projection('grab', 'grab(es_event)')}), '42501', 'nor can one be made with such a handler');

# that alice may become mallory does not make mallory her friend; bob, who may become her, gets nothing by it
run(q{CREATE ROLE bob; GRANT alice TO bob; GRANT CREATE ON SCHEMA public TO bob;
	SET ROLE bob; CREATE FUNCTION help(e es_event) RETURNS void LANGUAGE sql AS ''; CREATE FUNCTION help(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql RETURN data;
	SET ROLE alice; SELECT es_create_handler_projection('hers', 'help(es_event)', types => '{Hers}'), es_register_reducer('hers', 'Fold', 'help(jsonb, jsonb)'), es_create_projection('hers_too', 'hers', category => 'y');
	RESET ROLE; SELECT es_append('y-1', 'Hers'), es_append('y-1', 'Fold')});
catches_up('hers', 'a function of a role that could become the creator is run');
catches_up('hers_too', 'also as a reducer');
is(error_of(q{SET ROLE alice; SELECT es_create_handler_projection('led', 'grab(es_event)', types => '{Never}')}), '42501', 'one of a role that the creator could become is not');
run(q{SET ROLE alice; SELECT es_register_reducer('hers', 'Fold', 'grab(jsonb, jsonb)'); RESET ROLE; SELECT es_append('y-1', 'Fold')});
fails('hers_too', 'function grab(jsonb,jsonb) must not run with the rights of role "alice"%SQLSTATE 42501%', 'nor as a reducer');
run(q{SET ROLE alice; SELECT es_register_reducer('hers', 'Fold', 'help(jsonb, jsonb)')});
catches_up('hers_too', 'until there is another one');
run(q{REVOKE alice FROM bob; SELECT es_append('y-1', 'Hers')});
fails('hers', '%must not run with the rights of role "alice"%', 'what counts is who could become the creator when it is run');
SKIP:
{
	skip 'memberships have no options before PostgreSQL 16', 2 if $node->pg_version < 16;
	run(q{GRANT alice TO bob WITH INHERIT TRUE, SET FALSE});
	run(q{SELECT es_append('y-1', 'Hers')});
	fails('hers', '%must not run with the rights of role "alice"%', 'to have her rights without SET ROLE is not enough');
	run(q{GRANT alice TO bob WITH INHERIT FALSE, SET TRUE});
	catches_up('hers', 'SET ROLE is');
}
run(q{SELECT es_drop_projection('hers'), es_drop_projection('hers_too')});

run(q{SET ROLE mallory;
	CREATE FUNCTION sly(v int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN IF current_user <> 'mallory' THEN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END IF; RETURN true; END$$;
	CREATE DOMAIN sly AS int CHECK (sly(VALUE));
	SELECT es_create_reducer('sly', '1', 'sly'); RESET ROLE;
	SELECT es_append('w-1', 'W'), es_create_projection('sly', 'sly', category => 'w')});
fails('sly', 'type sly must not run with the rights of role "postgres"%SQLSTATE 42501%', 'nor is code of a type that another role owns');
is(run(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'again nothing was got at');

# what a type is made of may have code, too, however deep it is
run(q{SELECT es_drop_projection('sly');
	CREATE DOMAIN sly_over AS sly; CREATE TYPE sly_row AS (plain int, v sly_over); CREATE TYPE sly_bounds AS RANGE (subtype = sly); CREATE DOMAIN sly_rows AS sly_row[];
	CREATE DOMAIN tame_over AS int CHECK (VALUE > 0); CREATE TYPE tame_row AS (v tame_over, more tame_over[]); CREATE TYPE tame_bounds AS RANGE (subtype = tame_over)});
my %initial = (sly_over => '1', 'sly_over[]' => '[1]', sly_row => '{"v": 1}', sly_rows => '[{"v": 1}]', sly_bounds => '"[1,2)"', sly_bounds_multirange => '"{[1,2)}"',
	tame_over => '1', tame_row => '{"v": 1, "more": [1]}', tame_bounds => '"[1,2)"');
foreach my $type (sort keys %initial)
{
	run(qq{SET ROLE mallory; SELECT es_create_reducer('made of', '$initial{$type}', '$type'); RESET ROLE; SELECT es_create_projection('made of', 'made of', category => 'w')});
	if ($type =~ /^sly/)
	{
		fails('made of', 'type sly must not run with the rights of role "postgres"%SQLSTATE 42501%', "nor of one in type $type");
	}
	else { catches_up('made of', "type $type has only what is trusted"); }
	run(q{SELECT es_drop_projection('made of'), es_drop_reducer('made of')});
}
is(run(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'nothing was got at by types');

# what PL/pgSQL has looked up for one user in a transaction is not good for another one
run(q{SELECT es_grant('mallory', 'append');
	SET ROLE mallory; CREATE FUNCTION slip(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN IF current_user <> 'mallory' THEN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END IF; RETURN data; END$$;
	SELECT es_register_upcaster('Slip', 1, 'slip(jsonb)'); RESET ROLE;
	CREATE FUNCTION look(e es_event) RETURNS void LANGUAGE plpgsql AS $$DECLARE newest es_event; BEGIN e.type := 'Slip'; newest := es_upcast(e); END$$;
	SELECT es_create_handler_projection('look', 'look(es_event)', 'inline', types => '{Look}')});
my (undef, undef, $refused) = $node->psql('store', q{SET ROLE mallory; BEGIN; SELECT look(e) FROM es_read('x-1', max_count => 1) e; SELECT es_append('look-1', 'Look'); COMMIT});
like($refused, qr{function slip\(jsonb\) must not run with the rights of role "postgres"}, 'an upcaster that was called for its owner is not called for who trusts him not');
is(run(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'nothing was got at by that');
run(q{SELECT es_drop_projection('look')});

# parallel workers that a trusted function has fold for it trust no others than it does: not all of
# the category is folded before they help, and mallory's events are at its end
run(q{SET ROLE mallory; CREATE FUNCTION peep(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE SET search_path = public AS $$BEGIN RAISE LOG 'peeped as %', current_user; RETURN state; END$$;
	SELECT es_register_reducer_ops('peep', 'Plain', '{"inc": {"n": 1}}'), es_register_reducer('peep', 'Peep', 'peep(jsonb, jsonb)'); RESET ROLE;
	SELECT count(es_append_batch('peep-' || i, (SELECT jsonb_agg('{"type": "Plain"}'::jsonb) FROM generate_series(1, 50)))) FROM generate_series(1, 600) i;
	SELECT es_append('peep-' || i, 'Peep') FROM generate_series(570, 600) i;
	CREATE FUNCTION sum_up(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM count(*) FROM es_replay_category('peep', 'peep'); END$$;
	SELECT es_append('sum-1', 'Sum'), es_create_handler_projection('sum up', 'sum_up(es_event)', types => '{Sum}')});
fails('sum up', '%function peep(jsonb,jsonb) must not run with the rights of role "postgres"%', 'a function that another role owns is not run in a parallel worker, either');
unlike(slurp_file($node->logfile), qr/peeped as postgres/, '... nor was it before that was found out');
run(q{SELECT es_drop_projection('sum up')});

run(q{CREATE FUNCTION kept(e es_event) RETURNS void LANGUAGE sql AS ''; SELECT es_create_handler_projection('kept', 'kept(es_event)', types => '{Kept}');
	DROP FUNCTION kept(es_event); SET ROLE mallory; CREATE FUNCTION kept(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END$$; RESET ROLE;
	SELECT es_append('k-1', 'Kept')});
fails('kept', '%must not run with the rights%', 'a function made again by somebody else is not run');
run(q{SELECT es_drop_projection(projection) FROM es_projections WHERE projection <> 'other'});

# a handler that is no function any more
run(q{CREATE FUNCTION shape(e es_event) RETURNS void LANGUAGE sql AS ''; SELECT es_create_handler_projection('shape', 'shape(es_event)', types => '{Shape}'); DROP FUNCTION shape(es_event);
	CREATE AGGREGATE shape(es_event) (sfunc = array_append, stype = es_event[]); SELECT es_append('k-1', 'Shape')});
fails('shape', '%no longer exists%SQLSTATE VE004%', 'an aggregate in place of a handler is not called');
run(q{SELECT es_drop_projection('shape')});

# ---- one snapshot that is older than what is done ----

run(q{CREATE TABLE seen (position bigint PRIMARY KEY); CREATE FUNCTION see(e es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.position)';
	SELECT es_append('v-1', 'Seen'), es_create_handler_projection('seen', 'see(es_event)', types => '{Seen}')});
catches_up('seen', 'a projection');
my $session = $node->background_psql('store', on_error_stop => 0);
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seen');
run(q{SELECT es_append('v-1', 'Seen')});
catches_up('seen', 'goes on');
run(q{SELECT es_append('v-1', 'Seen')});
$session->query(q{\set VERBOSITY sqlstate});
$session->query(q{SELECT es_run_projection('seen')});
like($session->{stderr}, qr/ERROR:\s+40001/, 'in a transaction with an older snapshot it is not run');
$session->quit;
run(q{ALTER DATABASE store SET default_transaction_isolation = 'serializable'; ALTER DATABASE store SET default_transaction_read_only = on});
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) $worker");
$node->safe_psql('store', q{SET default_transaction_read_only = off; SELECT es_append('v-1', 'Seen')});
catches_up('seen', 'the database\'s settings do not matter to the worker');
$node->safe_psql('postgres', 'ALTER DATABASE store RESET ALL');
run(q{SELECT es_drop_projection('seen')});

# ---- what stays with the session ----

run(q{CREATE FUNCTION hoard(e es_event) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(4711)';
	SELECT es_append('h-1', 'Hoard'), es_create_handler_projection('hoard', 'hoard(es_event)', types => '{Hoard}')});
catches_up('hoard', 'a handler takes a lock of the session');
becomes(q{SELECT pg_try_advisory_lock(4711)}, 'which does not stay');
run(q{SELECT es_drop_projection('hoard')});

# ---- what ends the worker, or holds it ----

run(q{CREATE FUNCTION quit(e es_event) RETURNS void LANGUAGE sql AS 'SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)';
	SELECT es_append('q-1', 'Quit'), es_create_handler_projection('quit', 'quit(es_event)', types => '{Quit}')});
fails('quit', '%the worker was ended while it ran the projection%', 'one that ends the worker is found out');
becomes(q{SELECT attempts > 1 FROM eventstore.projection_progress WHERE error IS NOT NULL}, 'each time');
like(slurp_file($node->logfile), qr/WARNING:  projection "quit" failed: the worker was ended while it ran the projection/, 'which is in the log');
run(q{SELECT es_append('a-1', 'T')});
catches_up('other', 'the others have their turn');
run(q{SELECT es_drop_projection('quit')});

$node->append_conf('postgresql.conf', "eventstore.projection_timeout = '300ms'\n");
$node->reload;
run(q{CREATE FUNCTION cling(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$;
	SELECT es_append('q-1', 'Cling'), es_create_handler_projection('cling', 'cling(es_event)', types => '{Cling}')});
fails('cling', '%the worker was ended while it ran the projection%', 'one that catches its cancellation is ended');
run(q{SELECT es_append('a-1', 'T')});
catches_up('other', 'the others go on');
run(q{SELECT es_drop_projection('cling')});
$node->append_conf('postgresql.conf', "eventstore.projection_timeout = '1h'\n");
$node->reload;

# projections that only pass keep no lock while another one's code runs
$node->safe_psql('store', q{SELECT es_create_projection('passes ' || i, 'count', category => 'never') FROM generate_series(1, 8) i});
$node->poll_query_until('store', q{SELECT bool_and(lag = 0) FROM es_projections WHERE projection LIKE 'passes %'});
$node->safe_psql('store', q{CREATE FUNCTION hold_first(e es_event) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)';
	SELECT es_append('q-1', 'Hold'), es_create_handler_projection('hold first', 'hold_first(es_event)', types => '{Hold}')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND wait_event = 'PgSleep'});
is($node->psql('store', q{SET lock_timeout = '10s'; SELECT es_drop_projection('passes ' || i) FROM generate_series(1, 8) i}), 0,
	'those that pass are not held by one whose code runs');
$node->safe_psql('store', q{CREATE OR REPLACE FUNCTION hold_first(e es_event) RETURNS void LANGUAGE sql AS ''});
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND datname = 'store'});
$node->safe_psql('store', q{SELECT es_drop_projection('hold first')});

foreach my $statement ('ALTER DATABASE store RENAME TO aside', 'DROP DATABASE aside WITH (FORCE)')
{
	my $database = $statement =~ /RENAME/ ? 'store' : 'aside';
	$node->safe_psql($database, q{CREATE OR REPLACE FUNCTION hold(e es_event) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)';
		SELECT es_append('q-1', 'Hold'), es_create_handler_projection('hold', 'hold(es_event)', types => '{Hold}')});
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND wait_event = 'PgSleep'});
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = '$database'");
	$start = time();
	my ($ret, $out, $err) = $node->psql('postgres', $statement);
	is("$ret $err", '0 ', "$statement ends a batch that takes long");
	cmp_ok(time() - $start, '<', 5, 'soon');
	next unless $statement =~ /RENAME/;
	$node->poll_query_until('aside', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND wait_event = 'PgSleep'});
	is($node->safe_psql('aside', q{SELECT error FROM es_projections WHERE projection = 'hold'}), '', 'which is not its failure, and it is begun again');
	$node->safe_psql('aside', q{SELECT es_drop_projection('other')});
	$node->psql('aside', q{SET statement_timeout = '100ms'; SELECT es_drop_projection('hold')});
	$node->safe_psql('aside', q{CREATE OR REPLACE FUNCTION hold(e es_event) RETURNS void LANGUAGE sql AS ''});
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND datname = 'aside'});
	$node->safe_psql('aside', q{SELECT es_drop_projection('hold')});
}
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|XX000|TRAP/, 'nothing broke');
$node->stop;
done_testing();
