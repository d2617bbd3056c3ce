# Scavenging among writers, followers, projections and subscriptions of every kind: what is
# hidden goes, nothing else does, and nothing that somebody still needs.  Each event has a
# number of its own, which its content follows from, and each transaction that commits has
# told which numbers it has appended and what it has hidden.  One follower holds events
# (es_hold_events) and so sees them all: what it saw is compared with what was told, and
# everything else with what it saw.  Meanwhile segments are vacuumed, rewritten and their
# indexes made anew, scavengers are canceled and ended, and all of the server is.
# ES_SEED repeats a run; ES_SCAVENGE_TXNS (a writer in a round), ES_SCAVENGE_WRITERS and
# ES_SCAVENGE_ROUNDS (each ends in a crash, but the last) make it longer.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $writers = $ENV{ES_SCAVENGE_WRITERS} // 4;
my $txns = $ENV{ES_SCAVENGE_TXNS} // 70;
my $rounds = $ENV{ES_SCAVENGE_ROUNDS} // 3;
my @types = ('A' .. 'D');

# The worker that comes by by itself would not wait for the one who holds events after a crash.
my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\neventstore.scavenge_rate = 0\nrestart_after_crash = on\n"
	. "deadlock_timeout = '200ms'\nmax_worker_processes = 20\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(1000);
	CREATE TABLE told (k bigint PRIMARY KEY, stream text, type text, tag text);
	CREATE TABLE hid (stream text, before bigint);		-- NULL: deleted
	CREATE TABLE seen (reader text, nth bigserial, position bigint, stream text, version bigint, k bigint, data jsonb);
	CREATE INDEX ON seen (reader, position);
	CREATE TABLE reader (reader text PRIMARY KEY, at bigint DEFAULT 0);
	CREATE TABLE projected (projection text, k bigint, position bigint);
	CREATE TABLE got (k bigint, data jsonb, position bigint, partition int);
	CREATE TABLE finish (upto bigint);
	CREATE TABLE held (pid int);
	CREATE TABLE scavenged (category text, events bigint, bytes bigint);

	CREATE FUNCTION content(k bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
		SELECT jsonb_build_object('k', k, 'pad', CASE WHEN k % 97 = 0 THEN (SELECT string_agg(md5(k + n || ''), '') FROM generate_series(1, 300) n)
			ELSE repeat(md5(k::text), (k % 7 * 3)::int) END)
	$$;

	-- write_events(how, streams, first, n): appends n events with the numbers from first on, and tells
	CREATE FUNCTION write_events(how text, streams text[], first bigint, n int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		v bigint;
		batch jsonb;
	BEGIN
		INSERT INTO told SELECT k, streams[1 + k % cardinality(streams)], chr(65 + (k % 4)::int), CASE WHEN k % 5 = 0 THEN 't' || k % 3 END
		FROM generate_series(first, first + n - 1) k;
		SELECT jsonb_agg(jsonb_build_object('stream', stream, 'type', type, 'data', content(k), 'metadata', CASE WHEN tag IS NULL THEN '{}' ELSE jsonb_build_object('tags', ARRAY[tag]) END)
			|| CASE WHEN how = 'ids' THEN jsonb_build_object('event_id', md5(k::text)::uuid) ELSE '{}' END ORDER BY k) INTO batch
		FROM told WHERE k BETWEEN first AND first + n - 1;
		IF how = 'many' THEN
			PERFORM es_append_many(batch);
		ELSIF how = 'rows' THEN
			INSERT INTO es_events (stream, type, data, metadata) SELECT e ->> 'stream', e ->> 'type', e -> 'data', e -> 'metadata' FROM jsonb_array_elements(batch) e;
		ELSIF how = 'one' THEN
			v := es_stream_version(streams[1]);
			IF es_append(streams[1], batch -> 0 ->> 'type', batch -> 0 -> 'data', batch -> 0 -> 'metadata', v) <> v + 1 THEN
				RAISE EXCEPTION 'version % was followed by another one', v;
			END IF;
		ELSE
			SELECT jsonb_agg(e - 'stream' ORDER BY nth) INTO batch FROM jsonb_array_elements(batch) WITH ORDINALITY AS e (e, nth);
			v := es_append_batch(streams[1], batch);
			IF how = 'ids' AND es_append_batch(streams[1], batch) <> v THEN
				RAISE EXCEPTION 'a retry was no retry';
			END IF;
		END IF;
	EXCEPTION WHEN SQLSTATE 'VE003' OR SQLSTATE 'VE001' THEN
		NULL;
	END
	$$;

	-- hide_events(stream, keep): all but the last so many; NULL: deletes the stream
	CREATE FUNCTION hide_events(stream text, keep bigint) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		v bigint := es_stream_version(stream);
		before bigint := greatest(v - keep + 1, 1);
	BEGIN
		IF v = 0 THEN
			RETURN;
		ELSIF keep IS NULL THEN
			PERFORM es_delete_stream(stream);
		ELSE
			PERFORM es_truncate_stream(stream, before);
		END IF;
		INSERT INTO hid VALUES (stream, CASE WHEN keep IS NOT NULL THEN before END);
	END
	$$;

	-- follow(name, kind, page): a consumer as the manual has it; 'held' has events kept for it
	CREATE PROCEDURE follow(name text, kind text, page bigint) LANGUAGE plpgsql AS $$
	DECLARE
		now_at bigint;
		settled bigint;
		rows bigint;
		goal bigint;
	BEGIN
		LOOP
			SELECT max(upto) INTO goal FROM finish;
			SELECT at INTO now_at FROM reader WHERE reader = name;
			IF kind = 'held' THEN
				PERFORM es_hold_events(now_at);
				INSERT INTO held VALUES (pg_backend_pid());
			END IF;
			settled := greatest(now_at, es_settled_position());
			INSERT INTO seen (reader, position, stream, version, k, data) SELECT name, position, stream, version, (data ->> 'k')::bigint, data FROM (
				SELECT * FROM es_read_all(now_at, page, to_position => settled) WHERE kind IN ('all', 'held')
				UNION ALL SELECT * FROM es_read_category('c0', now_at, page, to_position => settled) WHERE kind = 'category'
				UNION ALL SELECT * FROM es_read_all(now_at, page, '{c1,c2}', to_position => settled) WHERE kind = 'categories'
				UNION ALL SELECT * FROM es_read_query('[{"tags": ["t1"]}]', now_at, page, to_position => settled) WHERE kind = 'tag'
				UNION ALL SELECT * FROM es_read_query('[{"types": ["B"]}]', now_at, page, to_position => settled) WHERE kind = 'type') e ORDER BY position;
			GET DIAGNOSTICS rows = ROW_COUNT;
			UPDATE reader SET at = CASE WHEN rows < page THEN settled ELSE (SELECT max(position) FROM seen WHERE reader = name) END WHERE reader = name;
			COMMIT;
			EXIT WHEN rows < page AND settled >= goal;
			IF rows < page OR kind = 'held' AND goal IS NULL THEN
				PERFORM es_wait(settled, '50ms');
				COMMIT;
			END IF;
		END LOOP;
	END
	$$;

	-- consume(): a subscription's consumer, which parks one event in some
	CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
	DECLARE
		rows bigint;
		goal bigint;
		bad bigint;
		p record;
	BEGIN
		LOOP
			SELECT max(upto) INTO goal FROM finish;
			CREATE TEMP TABLE polled ON COMMIT DROP AS SELECT * FROM es_poll('sub', 40, CASE WHEN goal IS NULL THEN interval '20ms' ELSE interval '0' END);
			GET DIAGNOSTICS rows = ROW_COUNT;
			FOR p IN SELECT partition, max(position) AS last FROM polled GROUP BY partition ORDER BY partition LOOP
				SELECT min(position) INTO bad FROM polled WHERE partition = p.partition AND (data ->> 'k')::bigint % 31 = 0;
				INSERT INTO got SELECT (data ->> 'k')::bigint, data, position, partition FROM polled WHERE partition = p.partition AND position <= coalesce(bad, p.last);
				IF bad IS NULL THEN
					PERFORM es_ack('sub', p.partition, p.last);
				ELSE
					PERFORM es_nack('sub', p.partition, bad, 'for now');
				END IF;
			END LOOP;
			COMMIT;
			EXIT WHEN rows = 0 AND goal IS NOT NULL AND (SELECT bool_and(position >= goal) FROM es_subscriptions WHERE subscription = 'sub');
			PERFORM pg_sleep(random() * 0.02);
		END LOOP;
	END
	$$;

	-- look_around(): what is read backwards is part of what was read before, and has what is read after
	CREATE PROCEDURE look_around() LANGUAGE plpgsql AS $$
	DECLARE
		upto bigint;
		before bigint[];
		back bigint[];
		page bigint[];
		after bigint[];
		s text;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM finish) LOOP
			FOREACH s IN ARRAY '{all,category,tag}'::text[] LOOP
				upto := es_settled_position();
				before := read_some(s, upto, NULL, false);
				back := '{}';
				LOOP
					page := read_some(s, coalesce(back[cardinality(back)] - 1, upto), 150, true);
					back := back || page;
					EXIT WHEN cardinality(page) < 150;
					COMMIT;
				END LOOP;
				after := read_some(s, upto, NULL, false);
				IF NOT (back <@ before AND after <@ back) OR back <> ARRAY(SELECT DISTINCT b FROM unnest(back) b ORDER BY b DESC) THEN
					RAISE EXCEPTION '% backwards up to %: % events, before % and after %', s, upto, cardinality(back), cardinality(before), cardinality(after);
				END IF;
				COMMIT;
			END LOOP;
			SELECT r.stream INTO s FROM (SELECT stream, count(*), min(version), max(version) FROM (SELECT stream FROM es_streams ORDER BY random() LIMIT 3) x, es_read(x.stream) e (position, s, version) GROUP BY stream) r
			WHERE count <> max - min + 1;
			IF s IS NOT NULL THEN
				RAISE EXCEPTION 'stream % has a gap', s;
			END IF;
			COMMIT;
		END LOOP;
	END
	$$;
	CREATE FUNCTION read_some(what text, upto bigint, page bigint, backwards boolean) RETURNS bigint[] LANGUAGE sql AS $$
		SELECT coalesce(array_agg(position ORDER BY CASE WHEN backwards THEN -position ELSE position END), '{}') FROM (
			SELECT * FROM es_read_all(0, page, to_position => upto, backwards => backwards) WHERE what = 'all'
			UNION ALL SELECT * FROM es_read_category('c1', 0, page, to_position => upto, backwards => backwards) WHERE what = 'category'
			UNION ALL SELECT * FROM es_read_query('[{"tags": ["t1"]}, {"tags": ["t2"]}]', 0, page, backwards, upto) WHERE what = 'tag') e
	$$;

	CREATE FUNCTION project(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO projected VALUES ('by itself', (event.data ->> 'k')::bigint, event.position) $$;
	CREATE FUNCTION project_by_hand(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO projected VALUES ('by hand', (event.data ->> 'k')::bigint, event.position) $$;
	SELECT es_create_handler_projection('by itself', 'project(es_event)', categories => '{c1}');
	SELECT es_create_handler_projection('by hand', 'project_by_hand(es_event)', categories => '{c0,c2}', types => '{A,C}');
	SELECT es_create_projection('sums', 'c0', category => 'c0'), es_create_projection('sums inline', 'c0', 'inline', 'c0')
	FROM (SELECT count(es_register_reducer_ops('c0', t, '{"inc": {"n": 1, "sum": "$.data.k"}}')) FROM unnest('{A,B,C,D}'::text[]) t) x;
	SELECT es_subscribe('sub', categories => '{c0,c1}', types => '{A,B,C}', partitions => 3, max_attempts => 1);
	SELECT es_index_type('B');
});
my %kinds = (held => 'true', all => 'true', category => "stream LIKE 'c0-%'", categories => "stream ~ '^c[12]-'", tag => "tag = 't1'", type => "type = 'B'");
$node->safe_psql('postgres', "INSERT INTO reader VALUES ('$_')") foreach keys %kinds;

# ---- what sessions do ----

my $next = 1;

# An append of some kind, of some events to some streams of a category.
sub an_append
{
	my ($writer) = @_;
	my $category = 'c' . int(rand(3));
	my $stream = sub { rand() < 0.3 ? "$category-shared" . int(rand(3)) : rand() < 0.2 ? "$category-short" . int(rand(30)) : "$category-$writer-" . int(rand(4)) };
	my $how = (qw(many many rows batch ids one copy))[ int(rand(7)) ];
	my $n = $how eq 'one' ? 1 : rand() < 0.6 ? 1 + int(rand(8)) : 1 + int(rand(200));
	my @streams = map { $stream->() } 1 .. ($how eq 'many' || $how eq 'rows' ? 1 + int(rand(6)) : 1);
	my $first = $next;

	$next += $n;
	return sprintf("SELECT write_events('%s', '{%s}', %d, %d);\n", $how, join(',', sort @streams), $first, $n) if $how ne 'copy';
	my @numbers = grep { $_ % 97 } $first .. $next - 1;
	@numbers = ($next++) while !@numbers;
	return join('',
		'INSERT INTO told VALUES ', join(', ', map { "($_, '$streams[0]', '" . chr(65 + $_ % 4) . "', " . ($_ % 5 ? 'NULL' : "'t" . $_ % 3 . "'") . ')' } @numbers), ";\n",
		"COPY es_events (stream, type, data, metadata) FROM STDIN;\n",
		(map { "$streams[0]\t" . chr(65 + $_ % 4) . "\t{\"k\": $_, \"pad\": \"" . (md5_hex($_) x ($_ % 7 * 3)) . "\"}\t" . ($_ % 5 ? '{}' : '{"tags": ["t' . $_ % 3 . '"]}') . "\n" } @numbers),
		"\\.\n");
}

sub writer_script
{
	my ($writer) = @_;
	my $nap = sub { rand() < 0.4 ? sprintf("SELECT pg_sleep(%.4f);\n", rand(0.01)) : '' };
	my $sql = "SET statement_timeout = '120s';\n";

	foreach (1 .. $txns)
	{
		my $dice = rand();

		$sql .= $dice < 0.2 ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\n" : "BEGIN;\n";
		$sql .= an_append($writer) . $nap->() if rand() < 0.8;
		$sql .= "SAVEPOINT s;\n" . an_append($writer) . $nap->() . (rand() < 0.6 ? "ROLLBACK TO s;\n" : "RELEASE s;\n") if rand() < 0.3;
		$sql .= an_append($writer) if rand() < 0.3;
		$sql .= (rand() < 0.8 ? "COMMIT;\n" : "ROLLBACK;\n") . $nap->();
	}
	return $sql;
}

# Endless; ended with the round.
sub hider_script
{
	my $streams = "FROM (SELECT stream, category FROM es_streams WHERE NOT deleted ORDER BY random() LIMIT 3) s";

	return join "\n", map {
		sprintf("SELECT hide_events(stream, %s) $streams %s;\nSELECT pg_sleep(%.3f);",
			rand() < 0.2 ? ('NULL', "WHERE stream ~ 'short'") : (int(rand(rand() < 0.5 ? 3 : 60)), ''), rand(0.05))
	} 1 .. 2000;
}

sub scavenger_script
{
	return "SET client_min_messages = error;\n" . join("\n", map {
		sprintf("INSERT INTO scavenged SELECT * FROM es_scavenge(%s);\nSELECT pg_sleep(%.3f);", rand() < 0.4 ? 'NULL' : int(rand(300)), rand(0.2))
	} 1 .. 2000);
}

sub replayer_script
{
	return join "\n", map {
		(rand() < 0.5 ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) >= 0 FROM es_streams;\n" : "BEGIN;\n")
		. sprintf("SELECT pg_sleep(%.3f);\nSELECT 'wrong replay:', s FROM es_replay_category('c0') s WHERE version <> (state ->> 'n')::bigint;\nCOMMIT;", rand(0.1))
	} 1 .. 2000;
}

sub administrator_script
{
	my $segment = q{FROM es_segments WHERE state IN ('sealed', 'full', 'active') ORDER BY random() LIMIT 1 \gexec};
	my @acts = (
		qq{SELECT format('VACUUM eventstore.events_%s', segment) $segment}, qq{SELECT format('VACUUM FULL eventstore.events_%s', segment) $segment},
		qq{SELECT format('REINDEX TABLE CONCURRENTLY eventstore.events_%s', segment) $segment},
		qq{SELECT format('CLUSTER eventstore.events_%s USING events_%s_stream', segment, segment) $segment},
		"SELECT es_index_type('C');", "SELECT es_drop_type_index('C');", "SELECT es_run_projection('by hand', 50);", "SELECT es_run_projection('by hand', 50);");

	return join "\n", map { ($acts[ int(rand(@acts)) ], sprintf('SELECT pg_sleep(%.3f);', rand(0.15))) } 1 .. 2000;
}

# end_someone(): cancels or ends a scavenger, or its worker
sub end_someone
{
	my ($act) = (qw(pg_cancel_backend pg_terminate_backend))[ int(rand(2)) ];

	$node->safe_psql('postgres', "SELECT $act(pid) FROM pg_stat_activity WHERE application_name = 'scavenger' AND state = 'active' OR backend_type = 'eventstore scavenger' ORDER BY random() LIMIT 1");
}

# crash(): all of the server, by a backend or at once
sub crash
{
	my $who = (q{backend_type = 'eventstore scavenger'}, q{application_name = 'scavenger'}, q{application_name = 'writer'}, undef)[ int(rand(4)) ];
	my $pid = $who && $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $who ORDER BY random() LIMIT 1");

	note 'crash: ' . ($who // 'immediate stop') . ($pid ? '' : ', none there');
	if ($pid)
	{
		kill 'KILL', $pid;
		wait_until('the crash', sub { !kill 0, $pid });
		return;
	}
	$node->stop('immediate');
	$node->start;
}

sub start_as
{
	my ($name, $sql) = @_;

	return start_script($node, 'postgres', "SET application_name = '$name';\n$sql\n");
}

# ---- rounds ----

my %errors;

sub count_errors
{
	my ($script) = @_;
	my ($out, $err) = finish_script($script);

	$errors{s/(?<!: )\b\d+/<n>/gr}++ foreach $err =~ /(?:ERROR|FATAL|PANIC):  (.*)/g;
	$errors{$_}++ foreach $out =~ /(wrong replay.*)/g;
}

for my $round (1 .. $rounds)
{
	$node->safe_psql('postgres', 'TRUNCATE held');
	my @beside = start_as('follower', "CALL follow('held', 'held', 300);");
	wait_until('one who holds events', sub { $node->safe_psql('postgres', 'SELECT count(*) > 0 FROM held') eq 't' }) or die;
	push @beside, map { start_as('follower', "CALL follow('$_', '$_', " . (3, 40, 1000)[ int(rand(3)) ] . ');') } grep { $_ ne 'held' } sort keys %kinds;
	push @beside, start_as('consumer', 'CALL consume();'), start_as('looker', 'CALL look_around();');
	my @endless = (start_as('hider', hider_script()), start_as('hider', hider_script()), start_as('replayer', replayer_script()), start_as('administrator', administrator_script()),
		map { start_as('scavenger', scavenger_script()) } 1 .. 2);
	my @work = map { start_as('writer', writer_script($_)) } 1 .. $writers;
	my $goal = $round < $rounds ? $node->safe_psql('postgres', 'SELECT count(*) FROM told') + $writers * $txns * 10 : undef;

	while (grep { $_->{handle}->pumpable } @work)
	{
		last if $goal && $node->safe_psql('postgres', 'SELECT count(*) FROM told') >= $goal;
		end_someone() if rand() < 0.1;
		foreach my $i (0, 1)
		{
			# those who were ended, and not canceled
			next if $endless[ $#endless - $i ]{handle}->pumpable;
			count_errors($endless[ $#endless - $i ]);
			$endless[ $#endless - $i ] = start_as('scavenger', scavenger_script());
		}
		usleep(50_000);
	}
	if ($goal)
	{
		crash();
		pass("round $round: there was a crash");
	}
	else
	{
		count_errors($_) foreach splice @work;
		$_->{handle}->kill_kill foreach @endless;
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
			WHERE application_name IN ('hider', 'replayer', 'administrator', 'scavenger') OR backend_type = 'eventstore scavenger'});
		$node->safe_psql('postgres', 'INSERT INTO finish SELECT es_settled_position()');
	}
	count_errors($_) foreach @work, @beside, @endless;
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'the server is not back';
}
foreach (sort keys %errors)
{
	note "$errors{$_} × $_";
	# what is done to them here, and what writers and administrators do to each other
	next if /^deadlock detected|^current transaction is aborted|^could not serialize|^savepoint "s" does not exist|^the database system is|^terminating /
	  || /^canceling statement due to user request|^the background worker that was to scavenge has ended|^type "\w+" is not indexed|^relation .* does not exist|^stream .* is deleted|^stream .* was (truncated|deleted) while it was read|^table .* was altered at the same time/
	  # by who rewrites a table, or waits for all snapshots while he has it locked, on a busy machine
	  || /^canceling statement due to lock timeout|^the background worker that is to scavenge waits for what this transaction/;
	fail("a session failed: $_");
}

# ---- what came of it ----

# none(sql, name): it finds nothing
sub none { return is(join("\n", map { substr $_, 0, 200 } rows($node, 'postgres', "SELECT x FROM ($_[0]) x LIMIT 10")), '', $_[1]); }

$node->safe_psql('postgres', q{SELECT es_run_projection('by hand')});
ok($node->safe_psql('postgres', "SELECT es_wait_projection('$_', es_settled_position(), '60s')") eq 't', "projection $_ has caught up") foreach ('by itself', 'by hand', 'sums');

# the one who has had events held saw them all
$node->safe_psql('postgres', q{CREATE TABLE log AS SELECT position, stream, version, k, data FROM seen WHERE reader = 'held'; CREATE INDEX ON log (k); ANALYZE log});
diag $node->safe_psql('postgres', q{SELECT count(*) || ' events, ' || (SELECT sum(events) FROM scavenged) || ' of them are told to have been removed' FROM log});
none(q{SELECT * FROM told t FULL JOIN (SELECT * FROM log WHERE k IS NOT NULL) l USING (k, stream) WHERE t.tag IS DISTINCT FROM CASE WHEN k % 5 = 0 THEN 't' || k % 3 END OR l.data IS DISTINCT FROM content(k)},
	'what was told is what is in the log');
none(q{SELECT stream, count(*), min(version), max(version) FROM log GROUP BY stream HAVING count(*) <> max(version) OR min(version) <> 1 OR count(DISTINCT version) <> count(*)}, 'versions have no gap');
none(q{SELECT * FROM log l JOIN log m USING (stream, version) WHERE l.position < m.position}, 'and none is there twice');
none(q{SELECT stream FROM log JOIN es_streams s USING (stream) GROUP BY stream, s.version HAVING max(log.version) <> s.version OR es_stream_version(stream) <> s.version}, 'streams know their versions');

# what is hidden and what is not
$node->safe_psql('postgres', q{CREATE VIEW visible AS SELECT * FROM log l WHERE version >= coalesce((SELECT max(before) FROM hid h WHERE h.stream = l.stream), 1)
	AND (k IS NULL OR NOT EXISTS (SELECT FROM hid h WHERE h.stream = l.stream AND before IS NULL))});
foreach (sort keys %kinds)
{
	none("SELECT * FROM (SELECT position, lag(position) OVER (ORDER BY nth) AS before FROM seen WHERE reader = '$_') s WHERE before >= position", "follower $_ saw events in order, none twice");
	none("SELECT * FROM (SELECT position, stream, version, k, v.data FROM visible v LEFT JOIN told t USING (k, stream) WHERE coalesce($kinds{$_}, false)) v LEFT JOIN (SELECT * FROM seen WHERE reader = '$_') s USING (position, stream, version, data) WHERE s.nth IS NULL",
		"follower $_ saw all that was never hidden");
	none("SELECT * FROM seen s LEFT JOIN log l USING (position, stream, version, data) LEFT JOIN told t ON t.k = l.k WHERE reader = '$_' AND (l.position IS NULL OR NOT coalesce("
		. $kinds{$_} =~ s/stream/l.stream/r . ", false))", "follower $_ saw nothing else");
}

# who needs events had them
none(q{SELECT * FROM (SELECT k, position FROM log WHERE stream LIKE 'c1-%') l FULL JOIN (SELECT * FROM projected WHERE projection = 'by itself') p USING (position)
	WHERE l.k IS DISTINCT FROM p.k}, 'a projection was given every event');
none(q{SELECT k FROM told WHERE stream ~ '^c[02]-' AND type IN ('A', 'C') EXCEPT ALL SELECT k FROM projected WHERE projection = 'by hand'}, 'and so was one that is run by hand');
none(q{SELECT position FROM projected GROUP BY projection, position HAVING count(*) > 1}, 'and no event twice');
foreach ('sums', 'sums inline')
{
	none("SELECT * FROM (SELECT stream AS key, jsonb_build_object('n', count(*), 'sum', sum(k)) AS state FROM told WHERE stream LIKE 'c0-%' GROUP BY 1) m FULL JOIN es_projection('$_') p USING (key) WHERE m.state IS DISTINCT FROM p.state
		AND NOT EXISTS (SELECT FROM es_streams s WHERE s.stream = m.key AND deleted)",
		"projection $_ is what the model says");
}
none(q{SELECT * FROM (SELECT stream, jsonb_build_object('n', count(*), 'sum', sum(k)) AS state FROM told WHERE stream LIKE 'c0-%' GROUP BY 1) m LEFT JOIN es_replay_category('c0') r USING (stream)
	WHERE m.state IS DISTINCT FROM r.state AND NOT (SELECT deleted FROM es_streams s WHERE s.stream = m.stream)}, 'streams that were truncated are replayed to what the model says');
none(q{SELECT k, stream FROM told WHERE stream ~ '^c[01]-' AND type IN ('A', 'B', 'C') AND k NOT IN (SELECT k FROM got)}, 'the subscription was given every event');
none(q{SELECT * FROM got WHERE data <> content(k)}, 'as it was written');
none(q{SELECT position FROM got WHERE k % 31 = 0 AND k > 0 EXCEPT SELECT position FROM es_parked('sub')}, 'what it has parked is parked');
is($node->safe_psql('postgres', q{SELECT count(*) = es_replay_parked('sub') AND count(*) > 0 FROM es_parked('sub')}), 't', 'what was parked is delivered again');
$node->safe_psql('postgres', q{
	CREATE TABLE again (k bigint, data jsonb);
	DO $$
	DECLARE p record;
	BEGIN
		LOOP
			CREATE TEMP TABLE polled ON COMMIT DROP AS SELECT * FROM es_poll('sub', 1000);
			EXIT WHEN NOT EXISTS (SELECT FROM polled);
			INSERT INTO again SELECT (data ->> 'k')::bigint, data FROM polled;
			PERFORM es_ack('sub', partition, max(position)) FROM polled GROUP BY partition;
			COMMIT;
		END LOOP;
	END
	$$});
none(q{SELECT * FROM (SELECT DISTINCT k, data FROM got WHERE k % 31 = 0) g FULL JOIN again a USING (k, data) WHERE a.k IS NULL OR g.k IS NULL OR data <> content(k)}, 'all of it, as it was written');

# ---- at rest ----

my ($ret, $out, $err) = $node->psql('postgres', 'INSERT INTO scavenged SELECT * FROM es_scavenge()');
is($err, '', 'nobody needs anything any more');
none(q{SELECT position FROM eventstore.events e JOIN eventstore.streams s USING (stream_id) WHERE e.version < s.truncated_before}, 'nothing that is hidden is left');
none(q{SELECT name FROM eventstore.streams WHERE has_hidden}, 'and no stream says that there is');
none(q{SELECT * FROM visible v FULL JOIN es_events e USING (position, stream, version, data) WHERE v.position IS NULL OR e.type IS NULL}, 'es_events has what is not hidden');
none(q{SELECT * FROM visible v FULL JOIN es_read_all(0, NULL) e USING (position, stream, version, data) WHERE v.position IS NULL OR e.type IS NULL}, 'es_read_all has');
none(q{SELECT * FROM visible v FULL JOIN (SELECT e.* FROM es_streams s, es_read(s.stream) e) e USING (position, stream, version, data)
	WHERE v.position IS NULL AND e.type IS NOT NULL OR e.position IS NULL AND v.k IS NOT NULL}, 'es_read has, but for what says that a stream is deleted');
foreach my $backwards ('false', 'true')
{
	none("SELECT * FROM visible v FULL JOIN (SELECT * FROM generate_series(0, 2) c, es_read_category('c' || c, 0, NULL, backwards => $backwards) e) e USING (position, stream, version, data)
		WHERE v.position IS NULL OR e.type IS NULL", "es_read_category has, backwards $backwards");
	diag $node->safe_psql('postgres', 'SELECT max(position), es_settled_position() FROM es_events');
	none("SELECT * FROM (SELECT v.* FROM visible v JOIN told USING (k) WHERE tag IS NOT NULL) v FULL JOIN es_read_query('[{\"tags\": [\"t0\"]}, {\"tags\": [\"t1\"]}, {\"tags\": [\"t2\"]}]', 0, NULL, $backwards) e USING (position, stream, version, data)
		WHERE v.position IS NULL OR e.type IS NULL", "es_read_query has by tags, backwards $backwards");
	none("SELECT * FROM (SELECT v.* FROM visible v JOIN told USING (k) WHERE type = 'B') v FULL JOIN es_read_query('[{\"types\": [\"B\"]}]', 0, NULL, $backwards) e USING (position, stream, version, data)
		WHERE v.position IS NULL OR e.type IS NULL", "es_read_query has by types, backwards $backwards");
}
none(q{SELECT e.position FROM eventstore.events e WHERE run_length = 0 AND NOT EXISTS (SELECT FROM eventstore.events o
	WHERE o.category_key = e.category_key AND o.run_length > 0 AND o.position < e.position AND o.position + o.run_length > e.position)}, 'each run has a first event');
none(q{SELECT a.position FROM eventstore.events a JOIN eventstore.events b ON a.run_length > 0 AND b.run_length > 0 AND a.position < b.position AND a.position + a.run_length > b.position}, 'runs do not overlap');
none(q{SELECT s.* FROM es_segments s LEFT JOIN (SELECT (position - 1) / 1000 AS segment, count(*) FROM eventstore.events GROUP BY 1) e USING (segment)
	WHERE events <> coalesce(count, 0)}, 'segments have as many events as is said');
# what somebody has open just then goes by the next call
$node->poll_query_until('postgres', q{WITH s AS (SELECT count(*) FROM es_scavenge()) SELECT count(*) = 0 FROM es_segments, s WHERE last_position <= es_settled_position() AND state <> CASE WHEN events > 0 THEN 'sealed' ELSE 'removed' END});
none(q{SELECT * FROM es_segments s WHERE last_position <= es_settled_position() AND state <> CASE WHEN events > 0 THEN 'sealed' ELSE 'removed' END}, 'those that are empty are removed');
none(q{SELECT stream, v FROM (SELECT stream, version AS was, es_append(stream, 'Z', '{}', '{}', version) AS v FROM es_streams WHERE NOT deleted AND version > 0) x WHERE v <> was + 1}, 'every stream goes on from its version');
SKIP:
{
	skip 'amcheck is not there', 2 if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) eq '0';
	$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
	($ret, $out, $err) = $node->psql('postgres', q{
		SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r' AND i.indisvalid AND (SELECT amname FROM pg_class x JOIN pg_am a ON a.oid = x.relam WHERE x.oid = i.indexrelid) = 'btree'});
	is($err, '', 'indexes and tables agree');
	none(q{SELECT c.relname, v.* FROM pg_class c, verify_heapam(c.oid, check_toast => true) v WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r'}, 'tables are whole');
}

$node->stop;
done_testing();
