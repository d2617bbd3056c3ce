# Appends over many streams and with consistency boundaries, by many sessions
# at once: no course ever has more students than seats, whatever the order of
# commands; calls over the same streams in other orders never deadlock.
# ES_SEED repeats a run, ES_TORTURE_COMMANDS (a session) makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

seed();
my $sessions = 8;
my $commands = $ENV{ES_TORTURE_COMMANDS} // 200;
my $courses = 6;
my $seats = 3;

my $node = new_node('main');
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$node->safe_psql('postgres', q{
	CREATE TABLE outcome (session int, verdict text);

	-- enrol(student, course, seats): a command handler as the manual has it.  It
	-- decides on what it reads, and appends only if that has not changed.
	CREATE FUNCTION enrol(student int, course int, seats int, extra boolean) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		last bigint := es_settled_position();
		taken int;
		already boolean;
	BEGIN
		SELECT count(*), coalesce(bool_or(e.metadata->'tags' ? ('student:' || student)), false)
		  INTO taken, already
		  FROM es_read_tagged(ARRAY['course:' || course], ARRAY['Enrolled'], 0, NULL) e
		 WHERE e.position <= last;
		IF taken >= seats OR already THEN
			RETURN 'refused';
		END IF;
		PERFORM pg_sleep(random() * 0.004);	-- deciding takes time
		PERFORM es_append_if(jsonb_build_array(
				jsonb_build_object('stream', 'enrolment-' || student, 'type', 'Enrolled',
					'tags', jsonb_build_array('course:' || course, 'student:' || student)))
			|| CASE WHEN extra THEN jsonb_build_array(
				jsonb_build_object('stream', 'log-' || course, 'type', 'Noted')) ELSE '[]' END,
			last, ARRAY['Enrolled'], ARRAY['course:' || course]);
		RETURN 'enrolled';
	EXCEPTION WHEN SQLSTATE 'VE011' THEN
		RETURN 'conflict';
	END
	$$;
});

# One session's script: commands, some in transactions that wait or roll back,
# between plain appends of the same streams.
sub session_script
{
	my ($session) = @_;
	my $sql = '';

	for my $i (1 .. $commands)
	{
		my ($student, $course) = (1 + int(rand(40)), 1 + int(rand($courses)));
		my $extra = rand() < 0.3 ? 'true' : 'false';
		my $enrol = "INSERT INTO outcome SELECT $session, enrol($student, $course, $seats, $extra);\n";
		my $dice = rand();

		if ($dice < 0.5)
		{
			$sql .= $enrol;
		}
		elsif ($dice < 0.65)
		{
			$sql .= "BEGIN;\n$enrol ROLLBACK;\n";
		}
		elsif ($dice < 0.8)
		{
			$sql .= "BEGIN;\n$enrol SELECT pg_sleep(0.002);\nCOMMIT;\n";
		}
		else
		{
			$sql .= "SELECT es_append('log-$course', 'Noted');\n";
		}
	}
	return $sql;
}

my @scripts = map { start_script($node, 'postgres', session_script($_)) } 1 .. $sessions;
my $errors = join '', map { (finish_script($_))[1] } @scripts;
is($errors, '', 'no command fails but by a conflict');

is( $node->safe_psql('postgres', qq{
		SELECT tag, count(*) FROM (SELECT jsonb_array_elements_text(metadata -> 'tags') AS tag FROM es_events) t WHERE tag LIKE 'course:%'
		GROUP BY tag HAVING count(*) > $seats}),
	'', "no course has more than $seats students");
is( $node->safe_psql('postgres', q{
		SELECT e.metadata->'tags' FROM es_events e WHERE e.type = 'Enrolled'
		GROUP BY 1 HAVING count(*) > 1}),
	'', 'no student is twice in a course');
is( $node->safe_psql('postgres', qq{
		SELECT count(*) FROM (SELECT tag FROM (SELECT jsonb_array_elements_text(metadata -> 'tags') AS tag FROM es_events) t WHERE tag LIKE 'course:%'
		GROUP BY tag HAVING count(*) = $seats) full_courses}),
	$courses, 'every course filled up');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM outcome WHERE verdict = 'conflict'"),
	'>', 0, 'there were conflicts');
is( $node->safe_psql('postgres', qq{
		SELECT (SELECT count(*) FROM es_events WHERE type = 'Enrolled')
			 = (SELECT count(*) FROM generate_series(1, $courses) n, es_read_tagged(ARRAY['course:' || n], NULL, 0, NULL) WHERE type = 'Enrolled')}),
	't', 'every enrolment is found by its tag');
is(gaps($node, 'postgres'), '', 'versions have no gap');

# Calls over the same streams, in random orders: few streams and many, more than
# there are locks, some only checked; alone, or as one call of a transaction that
# commits or rolls back.
sub many_script
{
	my $sql = '';

	for my $i (1 .. $commands)
	{
		my ($among, $most) = rand() < 0.8 ? (12, 10) : (300, 200);
		my @streams = (sort { $a->[0] <=> $b->[0] } map { [ rand(), "many-$_" ] } 1 .. $among)[ 0 .. 2 + int(rand($most - 2)) ];
		my $events = join ',', map { rand() < 0.1 ? qq({"stream": "$_->[1]"}) : qq({"stream": "$_->[1]", "type": "T"}) } @streams;
		my $call = "SELECT count(*) FROM es_append_many('[$events]');\n";
		my $dice = rand();

		if ($dice < 0.5)
		{
			$sql .= $call;
		}
		else
		{
			$sql .= "BEGIN;\n$call" . ($dice < 0.75 ? 'COMMIT' : 'ROLLBACK') . ";\n";
		}
	}
	return $sql;
}

@scripts = map { start_script($node, 'postgres', many_script()) } 1 .. $sessions;
$errors = join '', map { (finish_script($_))[1] } @scripts;
is($errors, '', 'calls over many streams in any order do not deadlock');
is(gaps($node, 'postgres'), '', 'versions have no gap');
is( $node->safe_psql('postgres', 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'),
	'0', 'no deadlock was counted');

# A transaction that appended something else, and idles, is not waited for: this
# would hang.
my $idle = $node->background_psql('postgres');
$idle->query_safe("BEGIN; SELECT es_append('unrelated', 'Idle')");
is( $node->safe_psql('postgres', q{
		SELECT es_append_if('[{"stream": "own", "type": "Created", "tags": ["own"]}]', 0, ARRAY['Created'], ARRAY['own'])
			 > es_settled_position()}),
	't', 'a condition does not wait for an idle transaction that appended something else');
$idle->query_safe('ROLLBACK');
$idle->quit;

# A retry says what the first attempt said, whatever has come since to a stream
# that it only checks.
my $retried = q{SELECT * FROM es_append_many('[
	{"stream": "retry-1", "type": "T", "event_id": "0189eeee-0000-7000-8000-000000000001"},
	{"stream": "retry-checked", "expected_version": 0}]')};
my $first = $node->safe_psql('postgres', $retried);
$node->safe_psql('postgres', q{SELECT es_append('retry-checked', 'T')});
my (undef, $again) = $node->psql('postgres', $retried);
is($again, $first, 'a retry does not look at its checks again');

# What can be refused without a look at the store takes no position.
my $last = $node->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq');
my ($status) = $node->psql('postgres', q{SELECT es_append('bad-1', 'T', '{}', '{"tags": [""]}')});
isnt($status, 0, 'an empty tag is refused');
is($node->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq'), $last, 'and takes no position');

# A writer who has taken a position and is held up before its row is there is waited for
# only by conditions that its event may match: this would hang.
preload($node, 1);
$node->restart;
$node->safe_psql('postgres', q{
	CREATE FUNCTION held_up(type text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF type = 'Held' THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF;
		RETURN true;
	END $$;
	ALTER TABLE eventstore.events ADD CONSTRAINT held_up CHECK (held_up(type))});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(4711)');
my $held = start_script($node, 'postgres', q{SELECT es_append('held-1', 'Held', '{}', '{"tags": ["held:1", "held:2"]}')});
wait_until('the writer to be held up', sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted}) eq '1' });
foreach my $query ('[{"tags": ["held:4"]}]', '[{"tags": ["held:1", "held:4"]}]', '[{"types": ["Held"], "tags": ["held:5"]}, {"tags": ["held:4", "held:2"]}]')
{
	is($node->safe_psql('postgres', qq{SELECT es_append_if('[{"stream": "held-2", "type": "Free", "tags": ["held:3"]}]', 0, query => '$query') > es_settled_position()}),
		't', "is not waited for by $query");
}
my @waiting = map { start_script($node, 'postgres', qq{\\set VERBOSITY sqlstate\nSET application_name = 'waits'; SELECT es_append_if('[{"stream": "held-3", "type": "Decided"}]', 0, $_)}) }
  (q{query => '[{"tags": ["held:1"]}]'}, q{query => '[{"tags": ["held:4"]}, {"tags": ["held:2", "held:1"]}]'}, q{types => '{Held}'}, q{query => '[{"types": ["Held"]}, {"tags": ["held:4"]}]'});
wait_until('them to wait', sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits' AND state = 'active'}) eq '4' });
$holder->query_safe('SELECT pg_advisory_unlock(4711)');
finish_script($held);
is(join(' ', map { (finish_script($_))[1] =~ /(VE011)/ ? $1 : 'appended' } @waiting), 'VE011 VE011 VE011 VE011', 'and is by those whose query it matches');
$holder->quit;

# Who has written is not waited for any more, though a call within that call, of a user's own constraint, has failed: as
# long as the transaction seems to write, each of these would look at it for a fifth of a second.
$node->safe_psql('postgres', q{
	CREATE FUNCTION appends_within(type text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF type = 'Outer' THEN
			BEGIN
				PERFORM es_append('within-2', 'Refused', '{}', '{"tags": ["within"]}');
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
		ELSIF type = 'Refused' THEN RAISE EXCEPTION 'refused';
		END IF;
		RETURN true;
	END $$;
	ALTER TABLE eventstore.events DROP CONSTRAINT held_up, ADD CONSTRAINT appends_within CHECK (appends_within(type))});
my $outer = $node->background_psql('postgres');
$outer->query_safe(q{BEGIN; SELECT es_append('within-1', 'Outer', '{}', '{"tags": ["without"]}')});
is($node->safe_psql('postgres', q{SET statement_timeout = '60s';
	SELECT count(es_append_if('[{"stream": "within-3", "type": "T", "tags": ["mine"]}]', 0, NULL, ARRAY['within'])) FROM generate_series(1, 500)}),
	'500', 'a call within a call that has failed leaves nobody waiting');
$outer->query_safe('COMMIT');
$outer->quit;
is($node->safe_psql('postgres', q{SELECT string_agg(stream, ' ' ORDER BY position) FROM es_events WHERE stream IN ('within-1', 'within-2')}), 'within-1', '... and nothing else');

$node->stop;
done_testing();
