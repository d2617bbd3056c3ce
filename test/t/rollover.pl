# Followers while the log goes on from segment to segment: tiny segments, a maker
# that is often held up, writers that queue for it, and followers that stay in one
# transaction, hold its locks and so hear of nothing.  Each sees every event that
# it asks for once, in order, whatever it follows by.  ES_SEED repeats a run;
# ES_ROLLOVER_EVENTS (events in all) makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $events = $ENV{ES_ROLLOVER_EVENTS} // 8_000;
my $writers = 4;

# Each follower: its name, what it reads from the cursor "at" on up to the settled position "s", and what it is to see.
my @followers = (
	[ 'category', q{es_read_category('cat', at, 50, to_position => s)}, q{stream LIKE 'cat-%'} ],
	[ 'category, all at once', q{es_read_category('cat', at, NULL, to_position => s)}, q{stream LIKE 'cat-%'} ],
	[ 'types', q{es_read_all(at, 50, types => '{Red}', to_position => s)}, q{type = 'Red'} ],
	[ 'categories', q{es_read_all(at, 50, categories => '{cat,dog,cow}', to_position => s)}, q{true} ],
	[ 'prefix', q{es_read_all(at, 50, stream_prefix => 'dog-1', to_position => s)}, q{stream LIKE 'dog-1%'} ],
	[ 'everything', q{es_read_all(at, 50)}, q{true} ],
	[ 'tag', q{es_read_tagged('{red}', NULL, at, 50)}, q{metadata @> '{"tags": ["red"]}'} ],
	[ 'tag and type', q{es_read_tagged('{}', '{Red}', at, 50)}, q{type = 'Red'} ]);

foreach my $preloaded (0, 1)
{
	my $title = $preloaded ? 'preloaded' : 'not preloaded';
	my $node = new_node("rollover_$preloaded", conf => "max_worker_processes = 20\nfsync = off\n"
		  . ($preloaded ? "shared_preload_libraries = 'eventstore'\n" : ''));
	my (@scripts, %expected);
	$node->safe_psql('postgres', q{
		CREATE EXTENSION eventstore;
		SELECT es_set_segment_size(100);
		CREATE TABLE seen (follower text, nth bigserial, position bigint);
		CREATE TABLE control (ended boolean, upto bigint);
		INSERT INTO control VALUES (false, NULL);
		SELECT es_subscribe('consumer', types => '{Red}');
		SELECT es_create_projection('by type', 'count', key => '$.type');

		-- Appends in calls of all sizes; those of 1 keep to their transaction for a while.
		CREATE PROCEDURE write(nr int, total int, seed float8) LANGUAGE plpgsql AS $$
		DECLARE
			written int := 0; n int; stream text; type text;
		BEGIN
			PERFORM setseed(seed);
			WHILE written < total LOOP
				n := CASE WHEN random() < 0.7 THEN 1 ELSE 1 + (random() * 130)::int END;
				FOR i IN 1 .. 1 + (random() * 2)::int LOOP
					stream := CASE WHEN random() < 0.5 THEN 'cat-' ELSE 'dog-' END || nr || '-' || (random() * 5)::int;
					type := CASE WHEN random() < 0.3 THEN 'Red' ELSE 'Blue' END;
					PERFORM es_append_batch(stream, (SELECT jsonb_agg(jsonb_build_object('type', type, 'metadata', jsonb_build_object('tags', ARRAY[lower(type)])))
						FROM generate_series(1, n)));
					written := written + n;
				END LOOP;
				IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
			END LOOP;
		END $$;

		-- Keeps the maker waiting, as anybody who locks the log does.
		CREATE PROCEDURE hold_up(seed float8) LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM setseed(seed);
			WHILE NOT (SELECT ended FROM control) LOOP
				LOCK TABLE ONLY eventstore.events IN SHARE UPDATE EXCLUSIVE MODE;
				PERFORM pg_sleep(random() * 0.03);
				COMMIT;
				PERFORM pg_sleep(random() * 0.02);
			END LOOP;
		END $$;

		CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
		DECLARE
			got bigint[]; over boolean;
		BEGIN
			LOOP
				FOR i IN 1 .. 20 LOOP
					SELECT array_agg(position ORDER BY position) INTO got FROM es_poll('consumer', 50);
					INSERT INTO seen (follower, position) SELECT 'subscription', p FROM unnest(got) WITH ORDINALITY AS u(p, n) ORDER BY n;
					PERFORM es_ack('consumer', 0, got[cardinality(got)]) WHERE got IS NOT NULL;
				END LOOP;
				SELECT c.ended AND got IS NULL AND (SELECT s.position FROM es_subscriptions s) >= c.upto INTO over FROM control c;
				COMMIT;
				EXIT WHEN over;
			END LOOP;
		END $$;
		CREATE PROCEDURE project() LANGUAGE plpgsql AS $$
		DECLARE
			over boolean;
		BEGIN
			LOOP
				FOR i IN 1 .. 10 LOOP PERFORM es_run_projection('by type', 200); END LOOP;
				SELECT c.ended AND (SELECT p.position FROM es_projections p) >= c.upto INTO over FROM control c;
				COMMIT;
				EXIT WHEN over;
			END LOOP;
		END $$;
	});
	foreach my $follower (@followers)
	{
		my ($name, $read) = @$follower;
		my $whole = $read =~ /es_read_tagged|at, 50\)$/;
		my $page = $read =~ /NULL, to/ ? 'NULL' : 50;
		# What is read by no bound of its own: the position of the last event is the cursor.
		my $next = $whole ? 'coalesce(got[cardinality(got)], at)' : "CASE WHEN coalesce(cardinality(got) >= $page, false) THEN got[cardinality(got)] ELSE s END";
		push @scripts, start_script($node, 'postgres', qq{
			DO \$\$
			DECLARE
				at bigint := 0; s bigint; got bigint[]; over boolean := false;
			BEGIN
				WHILE NOT over LOOP
					-- one transaction that knows all it needs and has its locks
					PERFORM count(*) FROM es_segments;
					FOR i IN 1 .. 30 LOOP
						s := greatest(at, es_settled_position());
						SELECT array_agg(position ORDER BY position) INTO got FROM $read;
						INSERT INTO seen (follower, position) SELECT '$name', p FROM unnest(got) WITH ORDINALITY AS u(p, n) ORDER BY n;
						at := $next;
					END LOOP;
					SELECT c.ended AND (got IS NULL OR at >= c.upto) AND s >= c.upto INTO over FROM control c;
					COMMIT;
				END LOOP;
			END \$\$;}, '-v', 'ON_ERROR_STOP=1');
		$scripts[-1]{name} = $name;
	}
	push @scripts, start_script($node, 'postgres', 'CALL consume()', '-v', 'ON_ERROR_STOP=1');
	push @scripts, start_script($node, 'postgres', 'CALL project()', '-v', 'ON_ERROR_STOP=1');
	my $holder = start_script($node, 'postgres', 'CALL hold_up(' . rand() . ')', '-v', 'ON_ERROR_STOP=1');
	my @writing = map { start_script($node, 'postgres', "CALL write($_, " . int($events / $writers) . ', ' . rand() . ')', '-v', 'ON_ERROR_STOP=1') } (1 .. $writers);
	is((finish_script($_))[1], '', "$title: a writer writes") foreach @writing;
	$node->safe_psql('postgres', 'UPDATE control SET (ended, upto) = (SELECT true, max(position) FROM es_events)');
	is((finish_script($_))[1], '', "$title: a follower comes to the end") foreach @scripts;
	is((finish_script($holder))[1], '', "$title: makers were held up");
	foreach my $follower (@followers, [ 'subscription', undef, q{type = 'Red'} ])
	{
		my ($name, undef, $of) = @$follower;
		is($node->safe_psql('postgres', qq{
				SELECT count(*) FILTER (WHERE s.position IS NULL) AS missed, count(*) FILTER (WHERE e.position IS NULL) AS invented
				FROM (SELECT position FROM es_events WHERE $of) e FULL JOIN (SELECT position FROM seen WHERE follower = '$name') s USING (position)}),
			'0|0', "$title: a follower by $name sees all");
		is($node->safe_psql('postgres', qq{
				SELECT count(*) FROM (SELECT position <= lag(position) OVER (ORDER BY nth) AS back FROM seen WHERE follower = '$name') s WHERE back}),
			'0', "$title: a follower by $name sees each once, in order");
	}
	is($node->safe_psql('postgres', q{SELECT string_agg(key || ' ' || version, ',' ORDER BY key) FROM es_projection('by type')}),
		$node->safe_psql('postgres', q{SELECT string_agg(type || ' ' || count, ',' ORDER BY type) FROM (SELECT type, count(*) FROM es_events GROUP BY type) e}),
		"$title: the projection has every event");
	note "$title: " . $node->safe_psql('postgres', q{SELECT count(*) || ' events, ' || max(position) - count(*) || ' holes, ' || (SELECT count(*) FROM es_segments) || ' segments' FROM es_events});
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|XX000/, "$title: nothing broke");
	$node->stop;
}
done_testing();
