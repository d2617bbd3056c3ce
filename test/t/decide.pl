# Decisions by query, among writers of every kind: no decision was stale, as the log
# alone proves.  Each event of a conditional append carries the query and the position
# that it was decided by, and how many events were read.  At the end each is looked up
# in the log, without any of the functions that were used: no other event that matches
# lies between, and what was read was all there was.  Beside it consumers follow
# queries, and each sees each event once; segments are small, indexes are made anew,
# and backends are killed.  ES_SEED repeats a run; ES_DECIDE_COMMANDS (a session in a
# round), ES_DECIDE_ROUNDS (each ends in a crash, but the last) and ES_DECIDE_SESSIONS
# make it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $sessions = $ENV{ES_DECIDE_SESSIONS} // 6;
my $commands = $ENV{ES_DECIDE_COMMANDS} // 120;
my $rounds = $ENV{ES_DECIDE_ROUNDS} // 2;
my @tags = map { "t$_" } 0 .. 5;
my @types = ('A' .. 'E');
my @queries = map { random_query() } 1 .. 12;
my @followed = map { random_query(1) } 1 .. 3;

my $node = new_node('main', conf => "restart_after_crash = on\ndeadlock_timeout = '200ms'\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(100);
	CREATE TABLE outcome (verdict text);
	CREATE TABLE seen (reader int, nth bigserial, position bigint);
	CREATE TABLE reader (reader int PRIMARY KEY, at bigint);
	CREATE TABLE finish (upto bigint);

	-- decide(query, backwards, events): reads what the query asks for, and appends if that is all.  What
	-- has been read is known up to where the log was settled before, or up to the last event read.
	CREATE FUNCTION decide(query jsonb, backwards boolean, events jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		p bigint := es_settled_position();
		n bigint;
		call text := gen_random_uuid();
	BEGIN
		IF backwards THEN
			SELECT position INTO p FROM es_read_query(query, 0, 1, true);
			p := coalesce(p, 0);
			SELECT count(*) INTO n FROM es_read_query(query, 0, NULL, true, p);
		ELSE
			SELECT count(*) FILTER (WHERE position <= p) INTO n FROM es_read_query(query, 0, NULL);
		END IF;
		PERFORM pg_sleep(random() * 0.004);	-- deciding takes time
		PERFORM es_append_if((SELECT jsonb_agg(e || jsonb_build_object('data', jsonb_build_object('call', call, 'query', query, 'p', p, 'n', n)))
			FROM jsonb_array_elements(events) e), p, query => query);
		INSERT INTO outcome VALUES ('appended');
	END
	$$;
	CREATE FUNCTION try_to_decide(query jsonb, backwards boolean, events jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM decide(query, backwards, events);
	EXCEPTION WHEN SQLSTATE 'VE011' THEN
		INSERT INTO outcome VALUES ('conflict');
	END
	$$;

	-- follow(reader, query, page): a consumer as the manual has it: a page, its checkpoint, commit, next page
	CREATE PROCEDURE follow(r int, query jsonb, page bigint) LANGUAGE plpgsql AS $$
	DECLARE
		now_at bigint;
		settled bigint;
		rows bigint;
		goal bigint;
	BEGIN
		LOOP
			SELECT max(upto) INTO goal FROM finish;
			SELECT at INTO now_at FROM reader WHERE reader = r;
			-- a new session may know of less at first
			settled := greatest(now_at, es_settled_position());
			INSERT INTO seen (reader, position) SELECT r, e.position FROM es_read_query(query, now_at, page, to_position => settled) e;
			GET DIAGNOSTICS rows = ROW_COUNT;
			UPDATE reader SET at = CASE WHEN rows < page THEN settled ELSE (SELECT max(position) FROM seen WHERE reader = r) END WHERE reader = r;
			COMMIT;
			EXIT WHEN rows < page AND settled >= goal;
			IF rows < page THEN
				PERFORM es_wait(settled, '50ms');
				COMMIT;
			END IF;
		END LOOP;
	END
	$$;
});
$node->safe_psql('postgres', "SELECT es_index_type('$_')") foreach @types[ 0, 1 ];
$node->safe_psql('postgres', "INSERT INTO reader VALUES ($_, 0)") foreach 0 .. $#followed;

# ---- what sessions do ----

# some(most, names...): a few of them
sub some
{
	my ($most, @names) = @_;

	return [ map { $names[ int(rand(@names)) ] } 1 .. 1 + int(rand($most)) ];
}

# random_query(whole): one to three items; whole: none is for the last event only
sub random_query
{
	my ($whole) = @_;

	return [ map {
			my $dice = rand();
			my %item;
			$item{tags} = some(3, @tags) if $dice < 0.75;
			$item{types} = some(2, @types) if $dice > 0.5;
			$item{last} = rand() < 0.5 ? JSON::PP::true : JSON::PP::false if !$whole && rand() < 0.2;
			\%item;
		} 1 .. 1 + int(rand(3)) ];
}

# new_events(stream): what somebody appends, as JSON; streams of one's own, or shared
sub new_events
{
	my ($stream) = @_;

	return encode_json([ map { { stream => $stream->(), type => some(1, @types)->[0], tags => rand() < 0.8 ? some(3, @tags) : [] } } 1 .. (rand() < 0.7 ? 1 : 1 + int(rand(12))) ]);
}

# A decision.
sub decision
{
	my ($stream) = @_;

	return sprintf("SELECT %s('%s', %s, '%s');\n", rand() < 0.7 ? 'try_to_decide' : 'decide',
		encode_json($queries[ int(rand(@queries)) ]), rand() < 0.5 ? 'true' : 'false', new_events($stream));
}

# An append of some kind that takes no part in decisions.
sub plain_append
{
	my ($stream) = @_;
	my ($name, $type, $metadata) = ($stream->(), some(1, @types)->[0], encode_json({ tags => some(3, @tags) }));
	my $n = 1 + int(rand(8));
	my @ways = (
		"SELECT es_append('$name', '$type', '{}', '$metadata');\n",
		"SELECT es_append_batch('$name', (SELECT jsonb_agg(jsonb_build_object('type', '$type', 'metadata', '$metadata'::jsonb)) FROM generate_series(1, $n)));\n",
		"SELECT count(*) FROM es_append_many('" . new_events($stream) . "');\n",
		"INSERT INTO es_events (stream, type, data, metadata) SELECT '$name', '$type', '{}', '$metadata' FROM generate_series(1, $n);\n",
		"COPY es_events (stream, type, data, metadata) FROM STDIN;\n" . ("$name\t$type\t{}\t$metadata\n" x $n) . "\\.\n");

	return $ways[ int(rand(@ways)) ];
}

# One session's script in a round.
sub session_script
{
	my ($round, $session) = @_;
	my $sql = "SET statement_timeout = '120s';\n";
	my $nap = sub { rand() < 0.5 ? sprintf("SELECT pg_sleep(%.4f);\n", rand(0.006)) : '' };

	for my $i (1 .. $commands)
	{
		my $stream = sub { rand() < 0.2 ? 's-' . int(rand(4)) : "s-$session-" . int(rand(4)) };
		my $own = sub { "s-$round-$session-$i" };
		my $dice = rand();

		if ($dice < 0.4)
		{
			$sql .= decision($stream);
		}
		elsif ($dice < 0.55)
		{
			$sql .= plain_append($stream);
		}
		elsif ($dice < 0.6)
		{
			# somebody else ends it
			$sql .= "BEGIN;\n" . (rand() < 0.5 ? plain_append($own) : decision($own)) . "PREPARE TRANSACTION 'd $round $session $i';\n";
		}
		else
		{
			$sql .= 'BEGIN' . (rand() < 0.5 ? '' : rand() < 0.5 ? ' ISOLATION LEVEL REPEATABLE READ' : ' ISOLATION LEVEL SERIALIZABLE') . ";\n";
			$sql .= "SELECT count(*) FROM es_events;\n" if rand() < 0.3;
			$sql .= "SAVEPOINT s;\n" . (rand() < 0.5 ? plain_append($stream) : decision($stream)) . $nap->() . (rand() < 0.7 ? "ROLLBACK TO s;\n" : "RELEASE s;\n")
			  if rand() < 0.4;
			$sql .= (rand() < 0.5 ? plain_append($stream) : decision($stream)) . $nap->() . (rand() < 0.75 ? "COMMIT;\n" : "ROLLBACK;\n");
		}
	}
	return $sql;
}

# What an administrator does meanwhile, over and over.
sub administrator_script
{
	my @acts = (
		q{SELECT format('REINDEX INDEX CONCURRENTLY %s', i.indexrelid::regclass) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'eventstore_tags' AND c.relkind = 'i' ORDER BY random() LIMIT 1 \gexec},
		q{SELECT format('VACUUM eventstore.events_%s', segment) FROM es_segments ORDER BY random() LIMIT 1 \gexec},
		"SELECT es_index_type('$types[2]');", "SELECT es_drop_type_index('$types[1]');", "SELECT es_index_type('$types[1]');", "SELECT es_drop_type_index('$types[2]');");

	return join "\n", map { ($acts[ int(rand(@acts)) ], sprintf('SELECT pg_sleep(%.3f);', rand(0.2))) } 1 .. $commands;
}

# ---- rounds ----

# end_prepared(): ends the transactions that are prepared
sub end_prepared
{
	my $ends = '';

	$ends .= (rand() < 0.6 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_';\n"
	  foreach rows($node, 'postgres', 'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()');
	$node->psql('postgres', $ends) if $ends;
}

# kill_someone(): ends a session's backend, and with it all of them
sub kill_someone
{
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'session%' ORDER BY random() LIMIT 1});

	kill 'KILL', $pid if $pid;
	return $pid;
}

my %errors;
for my $round (1 .. $rounds)
{
	my @work = map { start_script($node, 'postgres', "SET application_name = 'session $_';\n" . session_script($round, $_)) } 1 .. $sessions;
	my @beside = start_script($node, 'postgres', administrator_script());
	push @beside, start_script($node, 'postgres', "CALL follow($_, '" . encode_json($followed[$_]) . "', " . (3, 40, 1000)[$_] . ");\n") foreach 0 .. $#followed;
	my $goal = $round < $rounds ? $node->safe_psql('postgres', 'SELECT count(*) FROM outcome') + $sessions * $commands / 5 : undef;
	my $killed;

	while (grep { $_->{handle}->pumpable } @work)
	{
		last if $killed && !$node->safe_psql('postgres', 'SELECT 1');
		end_prepared();
		$killed = kill_someone() if $goal && $node->safe_psql('postgres', 'SELECT count(*) FROM outcome') >= $goal;
		last if $killed;
		usleep(30_000);
	}
	if (!$goal)
	{
		end_prepared();
		$node->safe_psql('postgres', 'INSERT INTO finish SELECT es_settled_position()');
		$beside[0]{handle}->kill_kill;
	}
	foreach (@work, @beside)
	{
		my ($out, $err) = $_->{handle}->pumpable || $_ != $beside[0] ? finish_script($_) : ('', '');
		$errors{s/\d+/<n>/r}++ foreach $err =~ /(?:ERROR|FATAL|PANIC):  (.*)/g;
	}
	ok($killed, "round $round: a backend was killed") if $goal;
	if ($killed)
	{
		$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'the server is not back';
		end_prepared();
	}
}
foreach (sort keys %errors)
{
	note "$errors{$_} × $_";
	# what writers do to each other, and what a backend that is killed does to all
	next if /^deadlock detected|^current transaction is aborted|^could not serialize|matches the condition of the append|^savepoint "s" does not exist|^maximum number of prepared transactions reached|^the database system is|^terminating connection/
	  || /^type "\w+" is not indexed|^relation .* does not exist/;
	fail("a session failed: $_");
}
is($node->safe_psql('postgres', 'SELECT es_settled_position() = (SELECT last_value FROM eventstore.position_seq)'), 't', 'all is settled');
is(gaps($node, 'postgres'), '', 'versions have no gap');

# ---- the log ----

# fits(event, query): whether a query is about an event
sub fits
{
	my ($event, $query) = @_;

	ITEM: foreach my $item (@$query)
	{
		next if $item->{types} && !grep { $_ eq $event->{type} } @{ $item->{types} };
		foreach my $tag (@{ $item->{tags} // [] })
		{
			next ITEM if !$event->{tags}{$tag};
		}
		return 1;
	}
	return 0;
}

# read_log(): all events, in order
sub read_log
{
	return map {
		my ($position, $type, $metadata, $data) = split /\t/;
		{ position => $position, type => $type, tags => { map { $_ => 1 } @{ decode_json($metadata)->{tags} // [] } }, data => decode_json($data) };
	} rows($node, 'postgres', q{SELECT position || E'\t' || type || E'\t' || metadata || E'\t' || data FROM es_events ORDER BY position});
}

# stale_decisions(log): what is wrong with decisions, in words
sub stale_decisions
{
	my @log = @_;
	my %calls;
	my @wrong;

	foreach (grep { $_->{data}{call} } @log)
	{
		my $call = $calls{ $_->{data}{call} } //= { %{ $_->{data} } };
		$call->{last} = $_->{position};
	}
	foreach my $call (values %calls)
	{
		my $before = 0;

		foreach (@log)
		{
			last if $_->{position} > $call->{last};
			next if ($_->{data}{call} // '') eq $call->{call} || !fits($_, $call->{query});
			$before++ if $_->{position} <= $call->{p};
			push @wrong, "$call->{call} at $call->{last}, decided on what was up to $call->{p}: $_->{position} lies between" if $_->{position} > $call->{p};
		}
		push @wrong, "$call->{call}, decided on $call->{n} events up to $call->{p}: there are $before"
		  if $before != $call->{n} && !grep { $_->{last} } @{ $call->{query} };
	}
	return @wrong;
}

my @log = read_log();
my @wrong = stale_decisions(@log);
is(join("\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]), '', 'no decision was stale');
foreach my $reader (0 .. $#followed)
{
	is(join(' ', rows($node, 'postgres', "SELECT position FROM seen WHERE reader = $reader ORDER BY nth")),
		join(' ', map { $_->{position} } grep { fits($_, $followed[$reader]) } @log),
		"consumer $reader saw what its query asks for, each event once and in order");
}
foreach my $query (@queries)
{
	my @whole = map { { %$_, last => JSON::PP::false } } @$query;

	is($node->safe_psql('postgres', "SELECT string_agg(position::text, ' ') FROM es_read_query('" . encode_json(\@whole) . "', 0, NULL)"),
		join(' ', map { $_->{position} } grep { fits($_, $query) } @log), 'a query finds what SQL finds');
}
note scalar(@log) . ' events, ' . $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM es_segments) || ' segments, ' || string_agg(count || ' ' || verdict, ', ') FROM (SELECT verdict, count(*) FROM outcome GROUP BY 1) o});
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM outcome WHERE verdict = '$_'"), '>', 10, "decisions: $_") foreach ('appended', 'conflict');

# The proof proves something: of these two events the first is not all that was read.
$node->safe_psql('postgres', q{
	SELECT es_append('planted-1', 'Z', '{}', '{"tags": ["planted"]}');
	SELECT es_append('planted-1', 'Z', '{"call": "planted", "query": [{"tags": ["planted"]}], "p": 0, "n": 0}', '{"tags": ["planted"]}')});
is(scalar(stale_decisions(read_log())), 1 + @wrong, 'a decision that is stale would be found');

$node->stop;
done_testing();
