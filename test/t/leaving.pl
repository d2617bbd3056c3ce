# Streams deleted and truncated, and what ages out, beside writers, readers and followers: the
# log, which is not scavenged here, tells afterwards what must be there.  Prepared, killed, by the worker, with the owner's
# rights.  ES_SEED repeats a run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nmax_prepared_transactions = 10\neventstore.scavenge_rate = 0\n");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# comes_true(condition, name): waits until it is so
sub comes_true
{
	my ($condition, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT $condition"), $name);
}

sql(q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(500);
	SELECT es_register_reducer_ops('load', '*', '{"inc": {"n": "$.data.n"}}');
	SELECT es_snapshot_every('load', 10);
	SELECT es_create_projection('inside', 'load', 'inline', 'load'), es_create_projection('later', 'load', 'async', 'load');
	-- attempt(statement): does it, unless it is refused for what others have done
	CREATE FUNCTION attempt(statement text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN SQLSTATE 'VE001' OR SQLSTATE 'VE003' OR SQLSTATE '22023' THEN NULL;
	END $$});

# ---- a torture ----

# writer(number): a script of transactions
sub writer
{
	my ($number) = @_;
	my $sql = '';

	foreach (1 .. 150)
	{
		my $stream = 'load-' . int(rand(40));
		my $n = int(rand(100));
		my $kind = rand();
		my $before = int(rand(30));
		my $call = $kind < 0.6 ? "es_append('$stream', 'Added', '{\"n\": $n}')"
		  : $kind < 0.7 ? "es_append_batch('$stream', (SELECT jsonb_agg(jsonb_build_object('type', 'Added', 'data', jsonb_build_object('n', i))) FROM generate_series(1, 20) i))"
		  : $kind < 0.75 ? "es_append('$stream', 'Added', '{\"n\": $n}', expected_version => $before)"
		  : $kind < 0.94 ? "es_truncate_stream('$stream', $before)"
		  : $kind < 0.97 ? "es_snapshot('$stream')"
		  : $kind < 0.98 ? "es_truncate_stream('$stream', es_stream_version('$stream') + 1)"
		  : "es_delete_stream('$stream')";
		$sql .= "BEGIN;\n" if ($kind * 100) % 3 == 0;
		$sql .= "SELECT attempt(\$s\$SELECT $call\$s\$);\n";
		$sql .= "SELECT attempt(\$s\$SELECT es_append('aged-$number', 'Added', '{\"n\": 1}')\$s\$);\n";
		$sql .= (rand() < 0.8 ? 'COMMIT' : 'ROLLBACK') . ";\n" if ($kind * 100) % 3 == 0;
	}
	return start_script($node, 'postgres', $sql, '-v', 'ON_ERROR_STOP=1');
}

# A reader that never sees a state that the log did not have.
my $reading = q{
	DO $$
	DECLARE
		name text;
		seen es_state;
		folded jsonb;
	BEGIN
		FOR i IN 1 .. 300 LOOP
			name := 'load-' || i % 40;
			SELECT * INTO seen FROM es_replay(name);
			SELECT es_fold('load', e ORDER BY e.version) INTO folded FROM es_events e WHERE e.stream = name AND e.version <= seen.version;
			IF seen.state <> folded THEN
				RAISE EXCEPTION 'stream % at %: % instead of %', name, seen.version, seen.state, folded;
			END IF;
			COMMIT;
		END LOOP;
	END $$;};

sql(q{SELECT es_register_reducer_ops('aged', '*', '{"inc": {"n": "$.data.n"}}'), es_set_retention('aged', max_count => 5)});
my @scripts = ((map { writer($_) } 1 .. 4), map { start_script($node, 'postgres', $reading, '-v', 'ON_ERROR_STOP=1') } 1 .. 2);
is((finish_script($_))[1], '', 'a writer or reader had no error') foreach @scripts;

# log_agrees(when): what streams, reads, replays and projections say is what the log says
sub log_agrees
{
	my ($when) = @_;
	my $last = sql('SELECT es_settled_position()');

	sql("SELECT es_wait_projection('later', $last, '60 s')");
	is(gaps($node, 'postgres'), '', "$when: versions have no gaps");
	is(sql(q{SELECT count(*) FROM es_streams s WHERE deleted <> EXISTS (SELECT FROM es_events e WHERE e.stream = s.stream AND type = '$stream-deleted' AND e.version = s.version)}),
		'0', "$when: a stream is deleted by its last event");
	is(sql(q{SELECT count(*) FROM es_events e JOIN es_streams s USING (stream) WHERE type = '$stream-deleted' AND e.version <> s.version}), '0', "$when: once");
	is(sql(q{SELECT count(*) FROM es_streams s LEFT JOIN LATERAL (SELECT array_agg(version) AS versions FROM es_read(s.stream)) r ON true
			WHERE r.versions IS DISTINCT FROM CASE WHEN deleted THEN NULL ELSE (SELECT array_agg(v) FROM generate_series(first_version, version) v) END}),
		'0', "$when: reads begin at the first version");
	is(sql(q{SELECT count(*) FROM es_streams s LEFT JOIN LATERAL (SELECT state FROM es_replay(s.stream, 'load')) r ON true
			WHERE category = 'load' AND r.state IS DISTINCT FROM CASE WHEN deleted THEN NULL ELSE (SELECT es_fold('load', e ORDER BY e.version) FROM es_events e WHERE e.stream = s.stream) END}),
		'0', "$when: replays give the state of all events");
	is(sql(qq{SELECT count(*) FROM es_streams s LEFT JOIN es_projection('$_') p ON p.key = s.stream
			WHERE category = 'load' AND p.state IS DISTINCT FROM CASE WHEN deleted THEN NULL ELSE (SELECT es_fold('load', e ORDER BY e.version) FROM es_events e WHERE e.stream = s.stream) END}),
		'0', "$when: so does projection $_") foreach qw(inside later);
	is(sql(q{SELECT count(*) FROM es_streams s WHERE first_version > 1 AND NOT deleted AND category = 'load'
			AND NOT EXISTS (SELECT FROM es_snapshots p WHERE p.stream = s.stream AND p.reducer = 'load' AND p.version = s.first_version - 1)}),
		'0', "$when: the snapshots that truncations depend on are there");
}
cmp_ok(sql(q{SELECT least(count(*) FILTER (WHERE deleted), count(*) FILTER (WHERE first_version > 1 AND NOT deleted)) FROM es_streams WHERE category = 'load'}), '>', 0, 'there was something to see');
log_agrees('at rest');
$node->stop('immediate');
$node->start;
log_agrees('after a crash');
sql(q{SELECT es_rebuild_projection('inside'), es_rebuild_projection('later')});
comes_true(q{count(*) = 0 FROM es_projections WHERE rebuild_position IS NOT NULL}, 'rebuilds end');
log_agrees('rebuilt');

# ---- the worker ----

comes_true(q{bool_and(version - first_version < 5) AND count(*) = 4 FROM es_streams WHERE category = 'aged'}, 'the worker has truncated what was too long');
is(sql(q{SELECT count(*) FROM es_streams s, es_replay(s.stream) r WHERE category = 'aged' AND (r.state->>'n')::int = s.version}), '4', '... and kept the states');
sql(q{SELECT count(es_append('rule-' || i % 300, 'T')) FROM generate_series(1, 900) i});
sql(q{SELECT es_set_retention('rule', max_count => 1)});
comes_true(q{count(*) = 300 FROM es_streams WHERE category = 'rule' AND first_version = 3}, 'a new rule is carried out at once, past the size of a batch');

# somebody who writes is not waited for, and comes later
my $writer = $node->background_psql('postgres');
sql(q{SELECT es_append('busy-' || i, 'T') FROM generate_series(1, 3) i, generate_series(1, 3)});
$writer->query_safe(q{BEGIN; SELECT es_append('busy-1', 'T');});
sql(q{SELECT es_set_retention('busy', max_count => 1); SELECT eventstore.apply_retention()});
is(sql(q{SELECT string_agg(first_version::text, ' ' ORDER BY stream) FROM es_streams WHERE category = 'busy'}), '1 3 3', 'a stream that is written to holds up no other');
is(sql(q{SELECT attempts || ' ' || stream FROM eventstore.retention_skips}), '0 busy-1', '... and is noted');
$writer->query_safe('COMMIT');
sql(q{SELECT eventstore.apply_retention()});
is(sql(q{SELECT first_version FROM es_streams WHERE stream = 'busy-1'}), '4', '... and come back to');
is(sql(q{SELECT count(*) FROM eventstore.retention_skips}), '0', '... once');
$writer->query_safe(q{BEGIN; SELECT es_append('rule-5', 'T') FROM generate_series(1, 3);});
sql(q{SELECT es_set_retention('rule', max_count => 2); SELECT eventstore.apply_retention()});
$writer->query_safe('COMMIT');
$writer->quit;
sql(q{SELECT eventstore.apply_retention()});
is(sql(q{SELECT version - first_version FROM es_streams WHERE stream = 'rule-5'}), '1', 'what commits late is seen');

# ---- rights ----

sql(q{
	CREATE ROLE owner LOGIN; CREATE ROLE other LOGIN; CREATE DATABASE owned OWNER owner;
	CREATE TABLE told (who text); GRANT INSERT, SELECT ON told TO PUBLIC;
	CREATE SCHEMA theirs AUTHORIZATION other});
sql(q{
	CREATE FUNCTION theirs.spy(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = public AS $$BEGIN INSERT INTO told VALUES (current_user); RETURN state; END $$;
	ALTER FUNCTION theirs.spy OWNER TO other;
	SELECT es_register_reducer('spied', '*', 'theirs.spy(jsonb, jsonb)');
	SELECT es_append('spied-1', 'T') FROM generate_series(1, 3);
	SELECT es_set_retention('spied', max_count => 1)});
comes_true(q{skipped = 1 FROM es_retention WHERE category = 'spied'}, 'a function that the owner of the store does not trust is not called');
is(sql(q{SELECT count(*), (SELECT error ~ 'not|trust|owner' FROM es_retention WHERE category = 'spied') FROM told}), '0|t', '... and the view says so');
sql(q{ALTER FUNCTION theirs.spy OWNER TO postgres; SELECT eventstore.apply_retention()});
is(sql(q{SELECT first_version, (SELECT string_agg(DISTINCT who, ' ') FROM told) FROM es_streams WHERE stream = 'spied-1'}), '3|postgres', 'once it is trusted it is called as him');
is(sqlstates($node, 'postgres', "SET ROLE other; $_"), '42501', "others may not: $_") foreach q{SELECT es_delete_stream('rule-1')}, q{SELECT es_truncate_stream('rule-1', 1)},
	q{SELECT es_set_retention('rule')}, q{SELECT es_adopt_snapshots('load')};
is(sql(q{SET ROLE other; SELECT count(*) FROM es_retention}), '0', 'nor are rules shown to them');
sql(q{SELECT es_grant('other', 'admin', 'rule')});
is(sqlstates($node, 'postgres', q{SET ROLE other; SELECT es_delete_stream('rule-2'); SELECT es_truncate_stream('rule-3', 2)}), '', 'who may call them needs no right on the tables');


# who has 'admin' on one category does not become the store's owner by way of its rule
sql(q{
	CREATE ROLE mallory; CREATE SCHEMA mallory AUTHORIZATION mallory;
	SELECT es_grant('mallory', p, 'm') FROM unnest(ARRAY['append', 'read', 'admin']) p;
	SET ROLE mallory; SET search_path = mallory, public;
	CREATE FUNCTION sly(v int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN IF current_user <> 'mallory' THEN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END IF; RETURN true; END $$;
	CREATE FUNCTION grab(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN PERFORM mallory.sly(1); RETURN state; END $$;
	CREATE DOMAIN sly AS int CHECK (sly(VALUE));
	RESET ROLE; CREATE TYPE public.row_of_sly AS (v mallory.sly)});
foreach (['mallory.sly', '1'], ['mallory.sly[]', '[1]'], ['row_of_sly', '{"v": 1}'], ['row_of_sly[]', '[{"v": 1}]'])
{
	my ($type, $initial) = @$_;

	sql(qq{SET ROLE mallory; SELECT es_create_reducer('m', '$initial', '$type'), count(es_append('m-1', 'T')) FROM generate_series(1, 3); SELECT es_set_retention('m', max_count => 1);
		RESET ROLE; SELECT eventstore.apply_retention()});
	is(sql(q{SELECT skipped, error ~ '^type (mallory\.)?sly(\[\])? must not run with the rights of role "postgres"$' FROM es_retention WHERE category = 'm'}), '1|t', "a type that he does not trust is not used, in $type");
	is(sql(q{SELECT first_version, (SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory') FROM es_streams WHERE stream = 'm-1'}), '1|f', '... and nothing was got at');
	sql(q{SELECT es_drop_reducer('m')});
}

# an error that a trusted function has caught does not make the others trusted
sql(q{
	CREATE FUNCTION public.careful(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$DECLARE x int; BEGIN BEGIN x := 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN state; END $$;
	SET ROLE mallory; SELECT es_set_retention('m');
	SELECT es_register_reducer('m', 'A', 'public.careful(jsonb, jsonb)'), es_register_reducer('m', 'B', 'mallory.grab(jsonb, jsonb)');
	SELECT es_append('m-2', type) FROM unnest(ARRAY['A', 'B', 'C']) type;
	SELECT es_set_retention('m', max_count => 1); RESET ROLE; SELECT eventstore.apply_retention()});
is(sql(q{SELECT reason ~ '^function mallory\.grab.* must not run' FROM eventstore.retention_skips WHERE stream = 'm-2'}), 't', 'a function that he does not trust is not called after a caught error');
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', '... nothing was got at');
is(sql(q{BEGIN; SELECT eventstore.apply_retention(); CREATE FUNCTION mallory.tame(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql RETURN state; ALTER FUNCTION mallory.tame OWNER TO mallory; SELECT es_register_reducer('tame', '*', 'mallory.tame(jsonb, jsonb)'); SELECT 'tame ' || version FROM es_replay('m-2', 'tame'); COMMIT}) =~ /^tame 3$/m, 1,
	'who calls by himself may call what he likes, after a fold that was refused');
sql(q{SELECT es_set_retention('m'), es_drop_reducer('m')});

# ---- prepared transactions ----

sql(q{SELECT es_append('two-' || i, 'T') FROM generate_series(1, 2) i, generate_series(1, 3)});
sql(q{BEGIN; SELECT es_delete_stream('two-1'); SELECT es_truncate_stream('two-2', 3); PREPARE TRANSACTION 'leaving'});
$node->restart;
is(sql(q{SELECT string_agg(first_version || ' ' || deleted, ', ' ORDER BY stream) FROM es_streams WHERE category = 'two'}), '1 false, 1 false', 'what is prepared is not seen');
is(sqlstates($node, 'postgres', "SET lock_timeout = '50ms'; $_"), '55P03', "and waited for: $_") foreach q{SELECT es_append('two-1', 'T')}, q{SELECT es_append('two-2', 'T')},
	q{SELECT es_delete_stream('two-2')}, q{SELECT es_truncate_stream('two-1', 2)};
sql(q{COMMIT PREPARED 'leaving'});
is(sql(q{SELECT string_agg(first_version || ' ' || deleted, ', ' ORDER BY stream) FROM es_streams WHERE category = 'two'}), '4 true, 3 false', 'once committed it holds');
is(sqlstates($node, 'postgres', q{SELECT es_append('two-1', 'T'); SELECT es_append('two-2', 'T')}, on_error_stop => 0), 'VE003', '... for appends');
sql(q{BEGIN; SELECT es_delete_stream('two-2'); PREPARE TRANSACTION 'leaving'});
sql(q{ROLLBACK PREPARED 'leaving'});
is(sql(q{SELECT es_append('two-2', 'T')}), '5', 'rolled back it leaves nothing');

# ---- who drops snapshots is not waited for with a stream's row changed, which would keep appends off ----

sql(q{SELECT es_register_reducer_ops('dropped', '*', '{"inc": {"n": 1}}'); SELECT es_append('dropped-1', 'T'); SELECT es_snapshot('dropped-1');
	SELECT count(es_append(s, 'T')) FROM unnest(ARRAY['apart-1', 'apart-2', 'apart-3']) s, generate_series(1, 3)});
my $dropper = $node->background_psql('postgres');
my $waits = q{count(*) > 0 FROM pg_locks WHERE relation = 'eventstore.snapshots'::regclass AND NOT granted};
foreach my $statement (q{SELECT es_truncate_stream('apart-1', 3)}, q{SELECT es_set_retention('apart', max_count => 1), eventstore.apply_retention()})
{
	$dropper->query_safe(q{BEGIN; SELECT es_drop_snapshots('dropped')});
	my $leaving = start_script($node, 'postgres', $statement);
	comes_true($waits, "it is waited for: $statement");
	$dropper->query_safe(q{SELECT es_append('apart-1', 'T')});
	$dropper->query_safe('COMMIT');
	is((finish_script($leaving))[1], '', '... while it appends, and nobody stands in the way of the other');
	sql(q{SELECT es_snapshot('dropped-1')});
}
comes_true(q{string_agg(version - first_version || '', ' ') = '0 0 0' FROM es_streams WHERE category = 'apart'}, 'all that is due is hidden');
sql(q{SELECT es_append('gone-1', 'T'); SELECT es_snapshot('gone-1', 'dropped'); SELECT es_delete_stream('gone-1')});
$dropper->query_safe(q{BEGIN; SELECT es_drop_snapshots('dropped')});
my (undef, $scavenged, $held) = $node->psql('postgres', q{SET client_min_messages = notice; SELECT count(*) FROM es_scavenge()});
like($scavenged . $held, qr/^\d+.*\d+ streams are looked at again by the next call/s, 'es_scavenge leaves a deleted stream for later');
$dropper->query_safe(q{SELECT es_append('apart-1', 'T')});
$dropper->query_safe('ROLLBACK');
$dropper->quit;
is(sql(q{SELECT count(*) FROM eventstore.streams WHERE has_hidden AND name = 'gone-1'; SELECT count(*) FROM es_snapshots WHERE stream = 'gone-1'}), "1\n1", '... with its snapshot');
is(sqlstates($node, 'postgres', 'SELECT es_scavenge()'), '', '... and does it then');
is(sql(q{SELECT count(*) FROM eventstore.streams WHERE has_hidden AND name = 'gone-1'; SELECT count(*) FROM es_snapshots WHERE stream = 'gone-1'}), "0\n0", '... so that nothing is left');

$node->stop;
done_testing();
