# Members of a subscription under fire: ten on ten partitions, killed at random
# while they work, one with the whole server, some too slow for their leases;
# every event is dealt with exactly once.  ES_SEED repeats a run;
# ES_SUBSCRIPTION_ROUNDS makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = seed();
my $rounds = $ENV{ES_SUBSCRIPTION_ROUNDS} // 1;
my $node = new_node('main', streaming => 1,
	conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nrestart_after_crash = on\neventstore.retry_delay = '20ms'\neventstore.max_wait = '60s'\n");

sub q_ { return $node->safe_psql('postgres', $_[0]); }

q_(q{
	CREATE EXTENSION eventstore;
	CREATE TABLE done (nth bigserial, subscription text, member text, partition int, position bigint, stream text, version bigint);
	CREATE TABLE fenced (member text);
	CREATE TABLE state (ended timestamptz);
	INSERT INTO state VALUES (NULL);

	CREATE FUNCTION over(subscription text) RETURNS boolean LANGUAGE sql AS $$
		SELECT coalesce(ended < clock_timestamp() - interval '20s' OR ended IS NOT NULL AND
			(SELECT count(*) FROM done d WHERE d.subscription = $1) >= (SELECT count(*) FROM es_read_category($1, 0, NULL)), false) FROM state
	$$;
	-- poll, work and acknowledgement in one transaction
	CREATE PROCEDURE consume(name text, me text, page int) LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			WITH delivery AS MATERIALIZED (
				SELECT * FROM es_poll(name, page, '50ms', me, '400ms')
			), work AS (
				INSERT INTO done (subscription, member, partition, position, stream, version)
				SELECT name, me, d.partition, d.position, d.stream, d.version FROM delivery d ORDER BY d.position
			)
			SELECT count(es_ack(name, d.partition, d.last, me)) INTO page FROM (SELECT partition, max(position) AS last FROM delivery GROUP BY partition) d;
			page := 1 + random() * 60;
			PERFORM pg_sleep(0.01 * random());
			COMMIT;
			EXIT WHEN over(name);
		END LOOP;
	END
	$$;
	-- the poll is a transaction of its own, and the work sometimes takes longer than the lease
	CREATE PROCEDURE consume_late(name text, me text, page int) LANGUAGE plpgsql AS $$
	DECLARE
		batch es_delivery[];
		d record;
	BEGIN
		LOOP
			SELECT array_agg(p ORDER BY position) INTO batch FROM es_poll(name, page, '50ms', me, '60ms') p;
			COMMIT;
			PERFORM pg_sleep(0.08 * random());
			BEGIN
				INSERT INTO done (subscription, member, partition, position, stream, version)
				SELECT name, me, b.partition, b.position, b.stream, b.version FROM unnest(batch) b ORDER BY b.position;
				FOR d IN SELECT partition, max(position) AS last FROM unnest(batch) GROUP BY partition ORDER BY partition LOOP
					PERFORM es_ack(name, d.partition, d.last, me);
				END LOOP;
			EXCEPTION WHEN SQLSTATE 'VE007' THEN
				INSERT INTO fenced VALUES (me);
			END;
			COMMIT;
			EXIT WHEN over(name);
		END LOOP;
	END
	$$;
	CREATE PROCEDURE write(name text, events int) LANGUAGE plpgsql AS $$
	DECLARE
		k int;
	BEGIN
		WHILE events > 0 LOOP
			FOREACH k IN ARRAY ARRAY(SELECT (random() * 60)::int AS n FROM generate_series(1, 5) ORDER BY n) LOOP
				PERFORM es_append(name || '-' || k, 'T');
			END LOOP;
			PERFORM pg_sleep(0.008 * random());
			IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; events := events - 5; END IF;
		END LOOP;
	END
	$$;
});

# ---- ten members on ten partitions, killed at random; the server crashes once ----
{
	my (%clients, %again, $killed, $crashed);
	my $excused = qr/57P01|57P02|57P03|08006|connection to server|server closed the connection|terminating connection/;
	my $start = sub { my ($name, $sql) = @_; $again{$name} = $sql; $clients{$name} = start_named($node, 'postgres', $name, $sql); };
	my $joined = 0;
	my $join = sub {
		my $name = 'member ' . ++$joined;
		my $how = rand() < 0.5 ? 'consume' : 'consume_late';
		$start->($name, "CALL $how('ten', '$name', " . (2, 10, 100)[ int(rand(3)) ] . ');');
	};
	my $errors = '';
	my $finish = sub {
		my ($name) = @_;
		my ($out, $err) = finish_script(delete $clients{$name});
		my @bad = grep { /\S/ && !/$excused|^\s|The PostgreSQL server|crash of another|HINT|DETAIL|CONTEXT|connection to/ } split /\n/, $err;
		$errors .= "$name: @bad\n" if @bad;
		return $err =~ $excused;
	};

	q_(q{SELECT es_subscribe('ten', 0, '{ten}', partitions => 10)});
	$start->("writer $_", "SELECT setseed(0.$_$seed) AS x \\gset\nCALL write('ten', " . 600 * $rounds . ');') foreach 1 .. 4;
	$join->() foreach 1 .. 10;
	my $until = time() + 60 * $rounds;
	while (time() < $until)
	{
		my @writers = grep { /writer/ } keys %clients;
		foreach my $name (sort keys %clients)
		{
			next if $clients{$name}->{handle}->pumpable;
			my $interrupted = $finish->($name);
			# what a writer had left does not matter
			$start->($name, $again{$name} =~ s/\d+\);$/200);/r) if $interrupted && $name =~ /writer/;
			$join->() if $name =~ /member/;
		}
		last if !@writers && $crashed;
		my @members = sort grep { /member/ } keys %clients;
		my $victim = $members[ int(rand(@members)) ];
		my $pid = q_("SELECT max(pid) FROM pg_stat_activity WHERE application_name = '$victim'");
		if ($pid && !$crashed && $killed && $killed > 4)
		{
			$crashed = kill 'KILL', $pid;
			usleep(50_000);
			$node->poll_query_until('postgres', 'SELECT 1', '1');
		}
		elsif ($pid)
		{
			$killed += q_("SELECT pg_terminate_backend($pid)::int");
		}
		usleep(80_000);
	}
	# the crash may have ended all members that there were
	$join->() foreach 1 .. 3;
	q_('UPDATE state SET ended = clock_timestamp()');
	$finish->($_) foreach sort keys %clients;
	is($errors, '', 'members and writers have no error but being killed');
	cmp_ok($killed, '>', 4, "members were killed ($killed of $joined)");
	ok($crashed, 'and the server crashed');
	is(q_(q{SELECT count(*) FROM (SELECT position, stream, version FROM es_read_category('ten', 0, NULL)) e FULL JOIN (SELECT * FROM done WHERE subscription = 'ten') d
			USING (position, stream, version) WHERE e.position IS NULL OR d.position IS NULL}), '0', 'every committed event was dealt with, no other');
	is(q_(q{SELECT count(*) - count(DISTINCT position) FROM done}), '0', 'none twice');
	is(q_(q{SELECT count(*) FROM (SELECT version, lag(version, 1, 0::bigint) OVER (PARTITION BY stream ORDER BY nth) AS before FROM done) d WHERE before + 1 <> version}), '0',
		q{each stream's in order});
	is(q_(q{SELECT count(*) FROM (SELECT stream FROM done GROUP BY stream HAVING count(DISTINCT partition) > 1) s}), '0', 'each stream in one partition');
	is(q_('SELECT count(DISTINCT partition) FROM done'), '10', 'all partitions were used');
	cmp_ok(q_('SELECT count(*) FROM fenced'), '>', 0, 'members that were late were fenced');
	is(q_(q{SELECT count(*) FROM es_parked('ten')}), '0', 'nothing was parked');
	q_(q{SELECT es_unsubscribe('ten'); TRUNCATE done});
}

$node->stop;
done_testing();
