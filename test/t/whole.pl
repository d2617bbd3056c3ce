# All of it at once: producers that retry what they were not told of, old ones and new ones
# after the schema changed under way; a consumer that begins in the middle with the
# beginning (esfeed), one on a slot, followers, members of a subscription, projections, a
# standby; snapshots, retention, truncation, deletion, scavenging, segments that go away and
# come back; and all of that is killed at random.
#
# Each event has a number, k, which its content follows from.  Producers are programs outside
# of the server: what they tried and what they were told is in what they have printed, and
# what they were not told of they try again.  The transaction of an append notes in the table
# "told" what it has stored; what was told, the log, and what each consumer has got are
# compared in the end.  Streams of keep- and claim- lose nothing, those of most- and aged-
# by retention, those of cut- are truncated and deleted.
#
# ES_SEED repeats a run's choices; ES_WHOLE_SECONDS (14) makes it longer, ES_WHOLE_KILLS (1) are
# the seconds between two kills.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreFeed;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

seed();
my $seconds = $ENV{ES_WHOLE_SECONDS} // 14;
my $pace = $ENV{ES_WHOLE_KILLS} // 1;
my $dir = PostgreSQL::Test::Utils::tempdir();
my @categories = qw(keep claim most aged cut);
my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\nrestart_after_crash = on\n"
	. "eventstore.retry_delay = '20ms'\neventstore.scavenge_rate = 100000\ndeadlock_timeout = '200ms'\nmax_worker_processes = 20\n"
	. "wal_keep_size = '2GB'\nwal_sender_timeout = '20s'\nmax_wal_senders = 10\nmax_replication_slots = 10\n");

sub run { return $node->safe_psql('postgres', $_[0]); }

# none(sql, name): it finds nothing
sub none { return is(join("\n", map { substr $_, 0, 200 } rows($node, 'postgres', "SELECT x FROM ($_[0]) x LIMIT 10")), '', $_[1]); }

# ---- the store ----

run(q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(500);
	SELECT es_register_schema('Placed', '{"type": "object", "required": ["sum"], "properties": {"sum": {"type": "integer"}}}');
	SELECT count(es_register_reducer_ops(r, 'Placed', '{"inc": {"n": 1, "sum": "$.data.k", "cents": "$.data.sum * 100"}}')),
		count(es_register_reducer_ops(r, 'Other', '{"inc": {"n": 1, "sum": "$.data.k"}}')), count(es_snapshot_every(r, 10))
	FROM unnest('{keep,claim,most,aged,cut}'::text[]) r;
	SELECT es_set_retention('most', max_count => 20), es_set_retention('aged', max_age => '2 seconds');

	CREATE TABLE told (k bigint, stream text, version bigint, type text, type_version int, position bigint, PRIMARY KEY (k, version));
	CREATE TABLE seen (reader text, nth bigserial, position bigint, stream text, version bigint, type text, type_version int, data jsonb);
	CREATE INDEX ON seen (reader, position);
	CREATE TABLE reader (reader text PRIMARY KEY, at bigint DEFAULT 0);
	INSERT INTO reader VALUES ('all'), ('newest');
	CREATE TABLE finish (upto bigint);

	CREATE FUNCTION type_of(k bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN k % 3 = 0 THEN 'Other' ELSE 'Placed' END $$;
	-- content(k, v): of the event in the form of its type's version
	CREATE FUNCTION content(k bigint, v int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
		SELECT jsonb_build_object('k', k, 'pad', repeat(md5(k::text), (k % 11)::int))
			|| CASE WHEN k % 3 = 0 THEN '{}' WHEN v = 1 THEN jsonb_build_object('sum', k % 1000) ELSE jsonb_build_object('cents', k % 1000 * 100) END
	$$;
	CREATE FUNCTION element(k bigint, stream text, v int, bad boolean, tag text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
		SELECT jsonb_build_object('stream', stream, 'type', type_of(k), 'event_id', md5(k::text)::uuid, 'type_version', CASE WHEN k % 3 = 0 THEN 1 ELSE v END,
			'data', content(k, v) || CASE WHEN bad THEN '{"sum": "?", "cents": "?"}'::jsonb ELSE '{}' END)
			|| CASE WHEN tag IS NULL THEN '{}' ELSE jsonb_build_object('tags', ARRAY[tag]) END
	$$;

	-- attempt(...): appends the events k, k + 1, ..., notes them, and says 'stored', or why not
	CREATE FUNCTION attempt(how text, first bigint, n int, streams text[], expected bigint, v int, bad bigint, tag text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		e jsonb;
		last bigint;
	BEGIN
		SELECT jsonb_agg(element(k, streams[1 + k % cardinality(streams)], v, k = bad, tag) ORDER BY k) INTO e FROM generate_series(first, first + n - 1) k;
		IF how = 'one' THEN
			last := es_append(streams[1], e -> 0 ->> 'type', e -> 0 -> 'data', '{}', expected, md5(first::text)::uuid, (e -> 0 ->> 'type_version')::int);
		ELSIF how = 'batch' THEN
			last := es_append_batch(streams[1], (SELECT jsonb_agg(x - 'stream' ORDER BY nth) FROM jsonb_array_elements(e) WITH ORDINALITY AS x (x, nth)), expected);
		ELSIF how = 'claim' THEN
			PERFORM es_append_if(e, 0, tags => ARRAY[tag]);
			SELECT version INTO last FROM es_find_event(streams[1], md5(first::text)::uuid);
		ELSIF how = 'rows' THEN
			-- without ids a client has to look by itself
			IF NOT EXISTS (SELECT FROM told WHERE k = first) THEN
				WITH r AS (INSERT INTO es_events (stream, type, data, type_version)
					SELECT x ->> 'stream', x ->> 'type', x -> 'data', (x ->> 'type_version')::int FROM jsonb_array_elements(e) x RETURNING *)
				INSERT INTO told SELECT (data ->> 'k')::bigint, stream, version, type, type_version, position FROM r;
			END IF;
			RETURN 'stored';
		ELSE
			INSERT INTO told SELECT first + nth - 1, stream, version, type_of(first + nth - 1), CASE WHEN (first + nth - 1) % 3 = 0 THEN 1 ELSE v END, position
			FROM es_append_many(e) WITH ORDINALITY AS a (stream, version, position, nth) ON CONFLICT DO NOTHING;
			RETURN 'stored';
		END IF;
		INSERT INTO told SELECT k, streams[1], last - (first + n - 1 - k), type_of(k), CASE WHEN k % 3 = 0 THEN 1 ELSE v END, CASE WHEN k = first + n - 1 THEN es_last_position() END
		FROM generate_series(first, first + n - 1) k ON CONFLICT DO NOTHING;
		RETURN 'stored';
	EXCEPTION WHEN SQLSTATE 'VE001' OR SQLSTATE 'VE003' OR SQLSTATE 'VE005' OR SQLSTATE 'VE010' OR SQLSTATE 'VE011' THEN
		RETURN SQLSTATE;
	END
	$$;

	-- follow(name, page): a follower as the manual has it: a page, its checkpoint, commit
	CREATE PROCEDURE follow(name text, page bigint) LANGUAGE plpgsql AS $$
	DECLARE
		now_at bigint;
		settled bigint;
		rows bigint;
		goal bigint;
	BEGIN
		LOOP
			SELECT max(upto) INTO goal FROM finish;
			SELECT at INTO now_at FROM reader WHERE reader = name;
			INSERT INTO seen (reader, position, stream, version, type, type_version, data)
			SELECT name, e.position, e.stream, e.version, e.type, e.type_version, e.data FROM es_read_all(now_at, page) e;
			GET DIAGNOSTICS rows = ROW_COUNT;
			UPDATE reader SET at = (SELECT max(position) FROM seen WHERE reader = name) WHERE reader = name AND rows > 0;
			COMMIT;
			EXIT WHEN rows = 0 AND goal IS NOT NULL;
			IF rows = 0 THEN
				settled := es_settled_position();
				CALL es_wait_for(greatest(now_at, settled), '100ms', settled);
			END IF;
		END LOOP;
	END
	$$;

	-- consume(me): a member of the subscription; what it got commits with the acknowledgement
	CREATE PROCEDURE consume(me text) LANGUAGE plpgsql AS $$
	DECLARE
		rows bigint;
		ended boolean;
	BEGIN
		LOOP
			ended := EXISTS (SELECT FROM finish);
			CREATE TEMP TABLE polled ON COMMIT DROP AS SELECT * FROM es_poll('sub', 60, '50ms', me, '500ms');
			GET DIAGNOSTICS rows = ROW_COUNT;
			INSERT INTO seen (reader, position, stream, version, type, type_version, data)
			SELECT 'sub', position, stream, version, type, type_version, data FROM polled ORDER BY position;
			PERFORM es_ack('sub', partition, max(position), me) FROM polled GROUP BY partition;
			COMMIT;
			EXIT WHEN rows = 0 AND ended AND (SELECT sum(lag) = 0 FROM es_subscriptions WHERE subscription = 'sub');
		END LOOP;
	END
	$$;
	SELECT es_subscribe('sub', categories => '{keep,most,cut}', partitions => 3);
	CREATE FUNCTION note(event es_event) RETURNS void LANGUAGE sql AS $$
		INSERT INTO seen (reader, position, stream, version, type, type_version, data) VALUES ('noted', event.position, event.stream, event.version, event.type, event.type_version, event.data)
	$$;
	SELECT es_create_handler_projection('noted', 'note(es_event)', categories => '{aged,claim,cut}', types => '{Placed,Other}'),
		es_create_projection('beside', 'keep'), es_create_projection('inside', 'keep', 'inline');

	-- bring_back(): attaches what is away; move_away(): what is away goes on into an archive, of which only the rows are kept
	CREATE PROCEDURE bring_back() LANGUAGE plpgsql AS $$
	DECLARE
		s bigint;
	BEGIN
		FOR s IN SELECT segment FROM es_segments WHERE state = 'detached' ORDER BY segment LOOP
			PERFORM es_attach_segment(CASE WHEN to_regclass('archive.events_' || s) IS NULL THEN 'eventstore.events_' || s ELSE 'archive.events_' || s END);
			COMMIT;
		END LOOP;
	END
	$$;
	CREATE SCHEMA archive;
	CREATE PROCEDURE move_away() LANGUAGE plpgsql AS $$
	DECLARE
		s bigint;
	BEGIN
		FOR s IN SELECT segment FROM es_segments WHERE state = 'detached' AND to_regclass('eventstore.events_' || segment) IS NOT NULL ORDER BY segment LIMIT 1 LOOP
			EXECUTE format('CREATE TABLE archive.events_%1$s (LIKE eventstore.events); INSERT INTO archive.events_%1$s TABLE eventstore.events_%1$s; DROP TABLE eventstore.events_%1$s', s);
		END LOOP;
	END
	$$;
});

# ---- producers: programs that print what they try and what they are told ----

my $operations = 0;
my %outcome;		# what was told, by operation
my %operation;		# all of them, as they were tried: first, n, streams, bad, tag
my %said;			# how often what was said

# A new operation; k's are its number times 100 and on.
sub new_operation
{
	my ($v) = @_;
	my $how = (qw(one one batch many many rows claim))[ int(rand(7)) ];
	my $category = $how eq 'claim' ? 'claim' : (qw(keep keep most aged cut))[ int(rand(5)) ];
	my $n = $how eq 'one' || $how eq 'claim' ? 1 : 1 + int(rand(12));
	my %streams = map { $category . '-' . int(rand($category eq 'cut' ? 60 : 12)) => 1 } 1 .. ($how eq 'many' || $how eq 'rows' ? 1 + int(rand(4)) : 1);
	my $id = ++$operations;
	my $bad = $id * 100 + int(rand($n));	# of a type that has a schema, if it is no multiple of 3

	return { id => $id, how => $how, first => $id * 100, n => $n, v => $v, streams => [ sort keys %streams ],
		exact => $how eq 'one' || $how eq 'batch' && rand() < 0.4, bad => $how ne 'rows' && rand() < 0.08 && $bad % 3 ? $bad : undef,
		tag => $how eq 'claim' ? 'claim:' . int($id / 3) : undef };
}

# What psql is to do for it; one that was tried is tried again with the same expectation.
sub operation_script
{
	my ($o) = @_;
	my $expected = exists $o->{tried} ? "\\set v $o->{tried}\n" : $o->{exact} ? "SELECT es_stream_version('$o->{streams}[0]') AS v \\gset\n" : "\\set v NULL\n";

	$operation{ $o->{id} } = $o;
	return $expected . "\\echo try $o->{id} :v\n"
	  . sprintf("SELECT attempt('%s', %d, %d, '{%s}', :v, %d, %s, %s) AS r \\gset\n\\echo told $o->{id} :r\n",
		$o->{how}, $o->{first}, $o->{n}, join(',', @{ $o->{streams} }), $o->{v}, $o->{bad} // 'NULL', $o->{tag} ? "'$o->{tag}'" : 'NULL')
	  . (rand() < 0.7 ? sprintf("SELECT pg_sleep(%.4f) \\g /dev/null\n", rand(0.02)) : '');
}

sub producer_script
{
	my ($producer) = @_;
	my $queue = $producer->{queue};

	push @$queue, map { new_operation($producer->{v}) } @$queue .. 200;
	return join('', map { operation_script($_) } @$queue);
}

# What one has printed until it ended.
sub take_told
{
	my ($producer, $out) = @_;

	foreach (grep { /\n$/ } split /^/, $out)
	{
		my ($what, $id, $value) = /^(try|told) (\d+) (\w+)$/ or die "a producer says: $_";
		my $o = $operation{$id};

		$o->{tried} = $value if $what eq 'try';
		next if $what eq 'try';
		$outcome{$id} = $value;
		$said{"$o->{how} $value"}++;
		$producer->{queue} = [ grep { $_->{id} != $id } @{ $producer->{queue} } ];
	}
	# what failed has its next turn later: it may need a segment that is away
	push @{ $producer->{queue} }, shift @{ $producer->{queue} } if @{ $producer->{queue} };
}

# ---- programs, which are started again when they end ----

my %program;		# by name: start (a handle, or a script with one), ended
my (%errors, $quiet);

# add(name, start, ended): start returns what finish_script takes, ended gets output and errors
sub add
{
	my ($name, $start, $ended) = @_;

	$program{$name} = { start => $start, ended => $ended // sub { }, script => $start->() };
}

sub add_script
{
	my ($name, $sql, $ended, $server) = @_;

	add($name, sub { start_script($server // $node, 'postgres', "\\set VERBOSITY verbose\nSET application_name = '$name';\n" . $sql->(), '-v', 'ON_ERROR_STOP=1') }, $ended);
}

# reap(name): takes in what one has said that has ended; whether it ended well
sub reap
{
	my ($name) = @_;
	my $script = delete $program{$name}{script};
	my ($out, $err) = finish_script($script);

	$errors{ $name =~ s/ \d+$//r . ": $_" }++ foreach map { s/(?<=[-_ ])\d+\b/<n>/gr } $err =~ /(?:ERROR|FATAL|PANIC):  (.*)/g, $out =~ /(wrong.*)/g;
	$program{$name}{ended}->($out, $err, $script->{handle});
	return $script->{handle}->full_result(0) == 0;
}

# restart_ended(may_end): starts those anew that have ended, but those that have come to an end which they may come to
sub restart_ended
{
	my (%may_end) = @_;

	foreach my $name (sort keys %program)
	{
		next if $program{$name}{script}{handle}->pumpable;
		if (reap($name) && $may_end{$name})
		{
			delete $program{$name};
			next;
		}
		$program{$name}{script} = $program{$name}{start}->();
	}
}

sub remove
{
	my ($name) = @_;

	$program{$name}{script}{handle}->kill_kill;
	reap($name);
	delete $program{$name};
}

my %producer;
sub add_producer
{
	my ($name, $v) = @_;

	my $producer = $producer{$name} = { name => $name, v => $v, queue => [] };
	add_script($name, sub { producer_script($producer) }, sub { take_told($producer, $_[0]) });
}

# endless(statements): a script of them in random order, with pauses of so many seconds at most
sub endless
{
	my ($pause, @statements) = @_;

	return sub { return join('', map { $statements[ int(rand(@statements)) ] . ";\n" . sprintf("SELECT pg_sleep(%.3f);\n", rand($pause)) } 1 .. 500) };
}

# esfeed, whose file has everything exactly once, and who may end only as it says it does
my @esfeed = ('--feed', 'whole', '--create', '--to', "file:$dir/file");
sub add_esfeed
{
	add('esfeed', sub { start_esfeed($node, @esfeed) }, sub {
		my $status = $_[2]->full_result(0);

		note "esfeed: $status\n$_[1]";
		# no connection, refused (a segment is away), the slot is still in use; killed
		$errors{"esfeed ended with $status"}++ unless $status == 9 || ($status >> 8) =~ /^[0235]$/;
	});
}

# a consumer of the slot: a file for each time that it is started
my @direct;
sub add_direct
{
	add('direct', sub {
		push @direct, "$dir/direct" . @direct;
		my $handle = start_consumer($node, 'es_direct', $direct[-1]);
		return { handle => $handle, out => "$direct[-1].out", err => "$direct[-1].err" };
	});
}

# a follower on the standby, whose checkpoint is what it has printed
my (@on_standby, $standby);
sub standby_at { return @on_standby ? (split / /, $on_standby[-1])[0] : 0; }
sub add_standby_reader
{
	add_script('standby reader', sub {
		"\\set at " . standby_at() . "\n" . (
			"SELECT coalesce(max(position), :at) AS at, string_agg(concat_ws(' ', position, stream, version, md5(data::text)), E'\\n' ORDER BY position) AS got, count(*) > 0 AS some FROM es_read_all(:at, 300) \\gset\n"
			. "\\if :some\n\\echo :got\n\\endif\nSELECT pg_sleep(0.03) \\g /dev/null\n") x 1000
	}, sub { push @on_standby, map { chomp; $_ } grep { /\n$/ } split /^/, $_[0] }, $standby);
}

# ---- what happens to them ----

sub is_up { my ($server) = @_; return ($server->psql('postgres', 'SELECT 1'))[0] == 0; }
sub wait_up { my ($server) = @_; wait_until('the server', sub { is_up($server) }) or die 'the server is not back'; }

# kill_backend(condition): kill -9, and all of the server crashes
sub kill_backend
{
	my ($condition) = @_;
	my $pid = run("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type NOT IN ('checkpointer', 'walwriter', 'background writer', 'logical replication launcher') AND ($condition) ORDER BY random() LIMIT 1");

	return unless $pid;
	kill 'KILL', $pid;
	wait_until('the crash', sub { !kill 0, $pid });
	wait_up($node);
	return;
}

sub terminate { my ($condition) = @_; run("SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND ($condition) ORDER BY random() LIMIT 1) x"); return; }

sub kill_program { my ($name) = @_; $program{$name}{script}{handle}->signal('KILL') if $program{$name}; return; }

my %acts = (
	'a backend is killed' => sub { kill_backend("application_name <> ''") },
	'a producer\'s backend is killed' => sub { kill_backend("application_name ~ 'old|new'") },
	'a worker is killed' => sub { kill_backend("backend_type LIKE 'eventstore%'") },
	'the server stops at once' => sub { $node->stop('immediate'); $node->start; },
	'workers are ended' => sub { terminate("backend_type LIKE 'eventstore%'") foreach 1 .. 3 },
	'the scavenger or the archivist is ended' => sub { terminate("application_name IN ('scavenger', 'archivist', 'hider')") },
	'a producer is ended' => sub { terminate("application_name ~ 'old|new'") },
	'a member is ended' => sub { terminate("application_name ~ 'member'") },
	'consumers are cut off' => sub { terminate("backend_type = 'walsender' OR application_name = 'esfeed'") },
	'esfeed is killed' => sub { kill_program('esfeed') },
	'a consumer of the slot is killed' => sub { kill_program('direct') },
	'a producer is killed' => sub { kill_program((sort keys %producer)[ int(rand(keys %producer)) ]) },
	'the standby stops at once' => sub { $standby->stop('immediate'); $standby->start; },
	'both stop' => sub { $node->stop('immediate'); $standby->stop('immediate'); $node->start; $standby->start; });

# change_schema(): version 2 of Placed, as the manual has a deployment; the states that were
# kept are as good for the reducers that are changed with it
sub change_schema
{
	my $known = sub { run(q{SELECT count(*) FROM es_schemas WHERE type = 'Placed'}) eq '2' };

	wait_until('the new schema', sub {
		return 1 if $known->();
		my ($ret, $out, $err) = $node->psql('postgres', q{
			BEGIN;
			SELECT es_register_upcaster_ops('Placed', 1, '[{"set": {"cents": "$.data.sum * 100"}}, {"unset": ["sum"]}]'),
				es_register_schema('Placed', '{"type": "object", "required": ["cents"], "properties": {"cents": {"type": "integer"}, "sum": false}}', 'none');
			SELECT count(es_register_reducer_ops(r, 'Placed', '{"inc": {"n": 1, "sum": "$.data.k", "cents": "$.data.cents"}}')) FROM unnest('{keep,claim,most,aged,cut}'::text[]) r;
			SELECT sum(es_adopt_snapshots(r)) FROM unnest('{keep,claim,most,aged,cut}'::text[]) r;
			COMMIT;
		});
		note "change of the schema: $err" if $err;
		return $known->();
	}) or die 'the schema was not changed';
}

# ---- before ----

run(q{SELECT count(attempt('batch', -100 * (n + 1), 40, ARRAY[(ARRAY['keep', 'most', 'aged', 'cut'])[1 + n % 4] || '-' || n % 12], NULL, 1, NULL, NULL)) FROM generate_series(1, 100) n});
run(q{SELECT es_create_feed('direct')});
my $head = run('SELECT es_settled_position()');
$standby = start_standby($node, "hot_standby_feedback = on\nmax_standby_streaming_delay = '500ms'\nwal_retrieve_retry_interval = '100ms'\n");

# ---- all at once ----

add_producer("old $_", 1) foreach 1, 2;
add_direct();
add_standby_reader();
my $pages = sub { (7, 100, 1000)[ int(rand(3)) ] };
add_script('follower', sub { "CALL follow('all', " . $pages->() . ");\n" });
add_script('follower newest', sub { "SET eventstore.upcast = on;\nCALL follow('newest', " . $pages->() . ");\n" });
add_script("member $_", sub { "CALL consume('member $_');\n" }) foreach 1, 2;
my @at_work = ('hider', 'scavenger', 'archivist', 'replayer');
add_script('hider', endless(0.1, (q{SELECT es_truncate_stream(stream, 1 + version / 2) FROM (SELECT * FROM es_streams WHERE category = 'cut' AND NOT deleted ORDER BY random() LIMIT 2) s}) x 4,
		q{SELECT es_delete_stream(stream) FROM (SELECT * FROM es_streams WHERE category = 'cut' AND NOT deleted ORDER BY random() LIMIT 1) s}));
add_script('scavenger', endless(0.4, 'SELECT count(*) FROM es_scavenge()', 'SELECT count(*) FROM es_scavenge(' . int(rand(2000)) . ')'));
add_script('archivist', sub {
	join('', map { "CALL bring_back();\n" . sprintf("SELECT pg_sleep(%.3f);\n", rand(1))
		  . "SELECT es_detach_segments((SELECT from_time FROM es_segments WHERE state <> 'removed' AND from_time IS NOT NULL ORDER BY segment OFFSET " . (1 + int(rand(4))) . " LIMIT 1));\n"
		  . (rand() < 0.5 ? "CALL move_away();\n" : '') . sprintf("SELECT pg_sleep(%.3f);\n", rand(0.3)) } 1 .. 200) });
add_script('replayer', endless(0.05, (map { "SELECT 'wrong replay:', s FROM es_replay_category('$_') s WHERE version <> (state ->> 'n')::bigint" } @categories),
		(map { "SELECT 'wrong replay:', r FROM (SELECT stream FROM es_streams WHERE category = '$_' AND NOT deleted ORDER BY random() LIMIT 5) s, es_replay(s.stream) r WHERE r.version <> (r.state ->> 'n')::bigint" } @categories),
		q{SELECT 'wrong read:', stream FROM (SELECT x.stream, count(*), min(e.version), max(e.version) FROM (SELECT stream FROM es_streams ORDER BY random() LIMIT 5) x, es_read(x.stream) e GROUP BY 1) r WHERE count <> max - min + 1}));

my $start = time;
my ($next, $changed) = ($start + 1, 0);
while (time() < $start + $seconds)
{
	usleep(50_000);
	if (!$changed && time() > $start + $seconds / 3)
	{
		change_schema();
		$changed = 1;
		add_producer("new $_", 2) foreach 1, 2;
		add_esfeed();
	}
	restart_ended();
	next if time() < $next;
	my $act = (sort keys %acts)[ int(rand(keys %acts)) ];
	note sprintf('%.1f: %s', time() - $start, $act);
	$acts{$act}->();
	$next = time() + $pace * rand(2);
}
wait_up($node);

# ---- the end: what nobody was told of is tried again, what is away comes back ----

remove($_) foreach @at_work;
wait_up($node);
$node->poll_query_until('postgres', sprintf(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name IN (%s) OR backend_type = 'eventstore archiver'}, join(', ', map { "'$_'" } @at_work))) or die 'somebody is still at work';
run('CALL bring_back()');
run(q{SELECT es_set_retention('aged')});		# time goes on
foreach my $name (sort keys %producer)
{
	remove($name);
	my @untold = grep { exists $_->{tried} } @{ $producer{$name}{queue} };
	my ($out, $err) = finish_script(start_script($node, 'postgres', join('', map { operation_script($_) } @untold), '-v', 'ON_ERROR_STOP=1'));

	is($err, '', "$name is told of all that it has tried");
	take_told($producer{$name}, $out);
}
note "$said{$_} × $_" foreach sort keys %said;
run(q{SELECT es_append('end-1', 'End')});
run('INSERT INTO finish SELECT es_settled_position()');
my $end = run('SELECT upto FROM finish');
my @may_end = ('follower', 'follower newest', 'member 1', 'member 2');
my %until = (
	(map { my $name = $_; $name => sub { !$program{$name} } } @may_end),
	esfeed => sub { -e "$dir/file" && slurp_file("$dir/file") =~ /"end-1".*\n/ },
	direct => sub { -e $direct[-1] && slurp_file($direct[-1]) =~ /"end-1".*\n/ },
	'standby reader' => sub { standby_at() == $end || slurp_file($program{'standby reader'}{script}{out}) =~ /^$end end-1 .*\n/m });
foreach my $name (sort keys %until)
{
	ok(wait_until("the end of $name", sub { restart_ended(map { $_ => 1 } @may_end); return $until{$name}->() }), "$name comes to the end");
}
is(stop_esfeed((delete $program{esfeed})->{script}), 0, 'esfeed ends well');
remove($_) foreach sort keys %program;
ok($node->safe_psql('postgres', "SELECT es_wait_projection('$_', $end, '120s')") eq 't', "projection $_ has caught up") foreach ('noted', 'beside', 'inside');

foreach (sort keys %errors)
{
	note "$errors{$_} × $_";
	# what is done to them here: kills, segments that are away, a reducer that changes, and who is in whose way
	next if /: (?:57P01|57P02|57P03|40P01|40001|08006|25006): / || /: 55000: segment .* is no longer part of the log$|archivist: 55000: table .* is part of a partitioned table already$/;
	next if /could not receive data|the database system is|server closed the connection|terminating connection|canceling statement due to (?:user request|conflict)|background worker .* has ended|is active for PID/;
	fail("a session failed: $_");
}

# ---- what was told is what is in the log ----

# load(table, columns, lines): lines of tab-separated values into a table
sub load
{
	my ($table, $columns, @lines) = @_;

	run("CREATE TABLE $table ($columns)");
	append_to_file("$dir/$table.copy", join('', map { "$_\n" } @lines));
	run("COPY $table FROM '$dir/$table.copy'");
}
load('outcome', 'id bigint, first bigint, n int, how text, bad boolean, tag text, outcome text',
	map { my $o = $operation{$_}; join("\t", $_, $o->{first}, $o->{n}, $o->{how}, defined $o->{bad} ? 't' : 'f', $o->{tag} // '\N', $outcome{$_}) } sort { $a <=> $b } keys %outcome);
run(q{
	CREATE VIEW hidden AS SELECT t.k, t.version FROM told t JOIN es_streams s USING (stream) WHERE s.deleted OR t.version < s.first_version;
	CREATE TABLE log AS SELECT e.*, (data ->> 'k')::bigint AS k FROM es_read_all(0, NULL) e WHERE type NOT IN ('End', '$stream-deleted');
	CREATE INDEX ON log (stream, version); CREATE INDEX ON seen (stream, version); ANALYZE;
});
note run(q{SELECT count(*) || ' events told, ' || (SELECT count(*) FROM hidden) || ' of them hidden, ' || (SELECT count(*) FROM log) || ' in the log, ' || (SELECT string_agg(count || ' ' || state, ', ') FROM (SELECT state, count(*) FROM es_segments GROUP BY 1) s) FROM told});
is(run(q{SELECT count(*) > 0 AND (SELECT count(*) > 0 FROM told WHERE type_version = 2) AND (SELECT count(*) > 0 FROM told WHERE (k, version) NOT IN (SELECT l.k, l.version FROM log l)) FROM hidden}), 't', 'events were hidden, and removed, and came in the new form');
none(q{SELECT o.id, k FROM outcome o, generate_series(first, first + n - 1) k WHERE outcome = 'stored' AND k NOT IN (SELECT k FROM told)}, 'whatever was told to be stored is');
none(q{SELECT o.id, outcome, k FROM outcome o JOIN told t ON k BETWEEN first AND first + n - 1 WHERE outcome <> 'stored' AND (k, version) NOT IN (SELECT * FROM hidden)}, 'whatever was told to be refused is not, or was hidden before that was told');
none(q{SELECT * FROM outcome WHERE bad <> (outcome = 'VE005') AND outcome NOT IN ('VE001', 'VE003', 'VE010', 'VE011')}, 'what has not the form of its version is refused');
none(q{SELECT * FROM outcome WHERE bad AND outcome = 'stored'}, 'and never stored');
none(q{SELECT tag, count(*) FILTER (WHERE outcome = 'stored') FROM outcome WHERE how = 'claim' AND NOT bad GROUP BY tag HAVING count(*) FILTER (WHERE outcome = 'stored') > 1}, 'nothing is claimed twice');
none(q{SELECT * FROM outcome o WHERE outcome = 'VE011' AND NOT EXISTS (SELECT FROM outcome w WHERE w.tag = o.tag AND w.outcome = 'stored')}, 'nor refused to all');
none(q{SELECT k, count(*) FROM told t WHERE (k, version) NOT IN (SELECT * FROM hidden) GROUP BY k HAVING count(*) > 1}, 'a retry stores nothing twice, unless the first was hidden');
none(q{SELECT t.k, t.version FROM told t LEFT JOIN log l USING (stream, version) WHERE l.k IS NULL AND (t.k, t.version) NOT IN (SELECT * FROM hidden)}, 'nothing is lost that is not hidden');
none(q{SELECT * FROM told t FULL JOIN log l USING (stream, version) WHERE l.k IS NOT NULL AND (t.k IS DISTINCT FROM l.k OR l.type <> t.type OR l.type_version <> t.type_version OR l.data <> content(l.k, l.type_version) OR l.position <> t.position)},
	'what is in the log was told, and is as it was written, in its version of the type');
none(q{SELECT position FROM log GROUP BY 1 HAVING count(*) > 1}, 'no position twice');
none(q{SELECT stream, version FROM told GROUP BY 1, 2 HAVING count(*) > 1}, 'no version twice');
none(q{SELECT t.stream, max(t.version), s.version, count(*) FROM told t JOIN es_streams s USING (stream) GROUP BY t.stream, s.version, s.deleted HAVING count(*) <> max(t.version) OR min(t.version) <> 1 OR max(t.version) <> s.version - s.deleted::int},
	'versions have no gap, and streams know theirs');
none(q{SELECT s.stream, s.first_version, s.version, count(e.version) FROM es_streams s LEFT JOIN LATERAL es_read(s.stream) e ON true WHERE NOT deleted GROUP BY 1, 2, 3 HAVING count(e.version) <> s.version - s.first_version + 1 OR min(e.version) <> s.first_version OR max(e.version) <> s.version},
	'each stream is there from its first version on');
none(q{SELECT * FROM es_streams s WHERE category IN ('keep', 'claim') AND (first_version > 1 OR deleted)}, 'nothing is hidden where nobody has asked for that');
none(q{SELECT * FROM es_events e WHERE type = 'Placed' AND type_version = 2 AND data ? 'sum' OR type = 'Placed' AND type_version = 1 AND data ? 'cents'}, 'types are of the versions of their writers');

# ---- consumers ----

# is_seen(name, reader, filter, form): a consumer whose rows are in "seen" has what the filter passes, in that form
sub is_seen
{
	my ($name, $reader, $filter, $form) = @_;

	none("SELECT t.* FROM told t WHERE ($filter) AND (k, version) NOT IN (SELECT * FROM hidden) AND NOT EXISTS (SELECT FROM seen s WHERE reader = '$reader' AND s.stream = t.stream AND s.version = t.version)", "$name has all that was never hidden");
	none("SELECT s.* FROM seen s LEFT JOIN told t USING (stream, version) WHERE reader = '$reader' AND s.type NOT IN ('End', '\$stream-deleted') AND (t.k IS NULL OR NOT ($filter) OR NOT ($form) OR s.position <> t.position)", "$name has nothing else, and each event as it was written");
}
sub is_once { my ($name, $reader) = @_; none("SELECT stream, version FROM seen WHERE reader = '$reader' GROUP BY 1, 2 HAVING count(*) > 1", "$name has none twice"); }
my $stored = 's.type_version = t.type_version AND s.data = content(t.k, t.type_version)';
is_seen('the follower', 'all', 'true', $stored);
is_seen('the follower of the newest form', 'newest', 'true', "s.data = content(t.k, s.type_version) AND s.type_version >= t.type_version");
foreach ('all', 'newest')
{
	none("SELECT * FROM (SELECT position, lag(position) OVER (ORDER BY nth) AS before FROM seen WHERE reader = '$_') s WHERE before >= position", "follower $_ has events in order, none twice");
}
my $at_change = run(q{SELECT min(nth) FROM seen WHERE reader = 'newest' AND type = 'Placed' AND type_version = 2});
none(qq{SELECT * FROM seen WHERE reader = 'newest' AND nth > $at_change AND type = 'Placed' AND type_version = 1}, 'the newest form stays the newest');
is_once('the subscription', 'sub');
is_seen('the subscription', 'sub', q{t.stream ~ '^(keep|most|cut)-'}, $stored);
none(q{SELECT * FROM (SELECT stream, version, lag(version) OVER (PARTITION BY stream ORDER BY nth) AS before FROM seen WHERE reader = 'sub') s WHERE before >= version}, 'each stream in order');
none(q{SELECT * FROM told t WHERE stream ~ '^(keep|most|cut)-' AND NOT EXISTS (SELECT FROM seen s WHERE reader = 'sub' AND s.stream = t.stream AND s.version = t.version)}, 'also what was hidden before it came');
is_once('the handler projection', 'noted');
is_seen('the handler projection', 'noted', q{t.stream ~ '^(aged|claim|cut)-'}, q{s.data = content(t.k, s.type_version) AND s.type_version >= t.type_version});
none(q{SELECT * FROM told t WHERE stream ~ '^(aged|claim|cut)-' AND NOT EXISTS (SELECT FROM seen s WHERE reader = 'noted' AND s.stream = t.stream AND s.version = t.version)}, 'also what was hidden before it came');

# feeds: messages as the store makes them; each row: position, stream, version, message
sub load_messages
{
	my ($name, @lines) = @_;

	load($name, 'nth bigint, line jsonb', map { $_ + 1 . "\t" . $lines[$_] =~ s/\\/\\\\/gr } 0 .. $#lines);
	run("INSERT INTO seen (reader, nth, position, stream, version, type, type_version, data)
		SELECT '$name', nth, (line ->> 'position')::bigint, line ->> 'stream', (line ->> 'version')::bigint, line ->> 'type', (line ->> 'type_version')::int, line -> 'data' FROM $name ORDER BY nth");
	note "$name: " . @lines . ' messages';
}
load_messages('file', lines("$dir/file"));
is_once("esfeed's file", 'file');
is_seen("esfeed's file", 'file', 'true', $stored);
none(q{SELECT * FROM (SELECT stream, version, lag(version) OVER (PARTITION BY stream ORDER BY nth) AS before FROM seen WHERE reader = 'file') s WHERE before >= version}, 'each stream in order');
load_messages('slot', map { lines($_) } @direct);
is_seen('the consumer of the slot', 'slot', 't.k > 0', $stored);
none(q{SELECT * FROM told t WHERE k > 0 AND NOT EXISTS (SELECT FROM seen s WHERE reader = 'slot' AND s.stream = t.stream AND s.version = t.version)}, 'also what was hidden before it came');
none(q{SELECT * FROM (SELECT stream, version, max(version) OVER (PARTITION BY stream ORDER BY nth ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM seen WHERE reader = 'slot') s WHERE version > before + 1}, 'each stream in order, again from an earlier event on');

# the standby
load('standby_lines', 'nth bigint, position bigint, stream text, version bigint, digest text', map { join("\t", $_ + 1, split(/ /, $on_standby[$_])) } 0 .. $#on_standby);
none(q{SELECT * FROM (SELECT position, lag(position) OVER (ORDER BY nth) AS before FROM standby_lines) s WHERE before >= position}, 'the follower on the standby has events in order, none twice');
none(q{SELECT * FROM told t WHERE (k, version) NOT IN (SELECT * FROM hidden) AND (stream, version) NOT IN (SELECT stream, version FROM standby_lines)}, 'it has all that was never hidden');
none(q{SELECT * FROM standby_lines l LEFT JOIN told t USING (stream, version) LEFT JOIN es_streams s USING (stream) WHERE stream <> 'end-1' AND NOT (s.deleted AND l.version = s.version) AND (t.k IS NULL OR digest <> md5(content(k, type_version)::text))},
	'and nothing else');

# ---- states ----

run(q{CREATE VIEW model AS SELECT stream, jsonb_build_object('n', count(*), 'sum', sum(k)) || CASE WHEN count(*) FILTER (WHERE type = 'Placed') > 0 THEN jsonb_build_object('cents', sum(k % 1000 * 100) FILTER (WHERE type = 'Placed')) ELSE '{}' END AS state
	FROM told JOIN es_streams s USING (stream) WHERE NOT s.deleted GROUP BY stream});
foreach my $category (@categories)
{
	none("SELECT * FROM (SELECT * FROM model WHERE stream LIKE '$category-%') m FULL JOIN es_replay_category('$category') r USING (stream) WHERE m.state IS DISTINCT FROM r.state", "replays of $category are what the model says");
	none("SELECT * FROM (SELECT * FROM model WHERE stream LIKE '$category-%') m, LATERAL es_replay(m.stream) r WHERE m.state IS DISTINCT FROM r.state", 'one by one, too');
	next unless $category =~ /keep|claim/;
	none("SELECT * FROM (SELECT stream, es_fold('$category', e ORDER BY version) AS state FROM es_events e WHERE stream LIKE '$category-%' GROUP BY stream) f FULL JOIN model m USING (stream) WHERE stream LIKE '$category-%' AND f.state IS DISTINCT FROM m.state",
		'and so is a fold of all of the log');
}
cmp_ok(run(q{SELECT count(*) FROM eventstore.snapshots}), '>', 10, 'there are snapshots');
foreach my $projection ('beside', 'inside')
{
	none("SELECT * FROM model m FULL JOIN (SELECT * FROM es_projection('$projection') WHERE key <> 'end-1') p ON p.key = m.stream WHERE m.state IS DISTINCT FROM p.state", "projection $projection is what the model says");
}

# ---- at rest ----

my ($ret, $out, $err) = $node->psql('postgres', 'SELECT es_drop_feed(feed) FROM es_feeds; SELECT sum(events) FROM es_scavenge()');
is($err, '', 'nobody needs anything any more');
none(q{SELECT name FROM eventstore.streams WHERE has_hidden}, 'nothing that is hidden is left');
none(q{SELECT category, skipped, skipped_stream, error FROM es_retention WHERE skipped > 0}, 'retention has passed over no stream for good');
none(q{SELECT stream, version - first_version + 1 FROM es_streams s WHERE category = 'most' AND version - first_version + 1 > 20}, 'retention has been carried out');
run(q{SELECT es_set_retention('most')});
none(q{SELECT s.stream, s.first_version, s.version FROM es_streams s JOIN es_read_all(0, NULL) e USING (stream) WHERE e.version < s.first_version}, 'the log begins where streams begin');
none(q{SELECT t.k FROM told t LEFT JOIN es_read_all(0, NULL) e USING (stream, version) WHERE (e.type IS NULL) <> ((t.k, t.version) IN (SELECT * FROM hidden))}, 'it has what is not hidden, and nothing else');
none(q{SELECT segment FROM es_segments WHERE state = 'detached'}, 'no segment is away');
none(q{SELECT stream, v FROM (SELECT stream, version AS was, es_append(stream, 'Z', '{}', '{}', version) AS v FROM es_streams WHERE NOT deleted) x WHERE v <> was + 1}, 'every stream goes on from its version');
run('SELECT es_settle()');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
foreach my $what ('count(*), md5(string_agg(e::text, \'\' ORDER BY position)) FROM es_read_all(0, NULL) e', 'md5(string_agg(s::text, \'\' ORDER BY stream)) FROM es_streams s',
	'md5(string_agg(r::text, \'\' ORDER BY stream)) FROM unnest(\'{keep,claim,most,aged,cut}\'::text[]) c, es_replay_category(c) r',
	'md5(string_agg(s::text, \'\' ORDER BY segment)) FROM (SELECT segment, first_position, last_position, events, state = \'removed\' FROM es_segments WHERE events > 0 OR state = \'removed\') s')
{
	is($standby->safe_psql('postgres', "SELECT $what"), run("SELECT $what"), 'the standby has the same: ' . $what =~ s/.*FROM //r);
}
SKIP:
{
	skip 'amcheck is not there', 1 if run(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) eq '0';
	run('CREATE EXTENSION amcheck');
	($ret, $out, $err) = $node->psql('postgres', q{
		SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r' AND i.indisvalid AND (SELECT amname FROM pg_class x JOIN pg_am a ON a.oid = x.relam WHERE x.oid = i.indexrelid) = 'btree'});
	is($err, '', 'indexes and tables agree');
}

$standby->stop;
$node->stop;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|terminated by signal (?!9\b)/, $_->name . ' has never failed by itself') foreach $node, $standby;
done_testing();
