# Every function and procedure of ours is called from every place that SQL can be
# called from, with plausible arguments and with NULLs: triggers, also deferred ones,
# handlers in the worker and in an append, reducers, procedures and blocks, cursors,
# constraints and indexes, event triggers, parallel workers, the function call
# protocol, a walsender, an apply worker, single-user mode.  None of them crashes the
# server or ends in an internal error.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreProjection;
use EventstoreTest;
use IO::Socket::UNIX;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$PostgreSQL::Test::Utils::timeout_default = 60 unless $ENV{PG_TEST_TIMEOUT_DEFAULT};

my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\neventstore.retry_delay = '50ms'\nautovacuum = off\nmax_worker_processes = 30\nwal_level = logical\n");
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die;

use_store($node);
$node->safe_psql('postgres', 'CREATE DATABASE store');
run(q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(100);
	SELECT count(es_append('ctx-' || n % 3, 'T', jsonb_build_object('n', n))) FROM generate_series(1, 150) n;
	CREATE FUNCTION writes(e es_event) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION resets() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION folds(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT data';
	CREATE FUNCTION upcasts(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT data';
	SELECT es_register_reducer('folds', '*', 'folds(jsonb, jsonb)'), es_seal();
	SELECT es_register_upcaster('Dropped', 1, 'upcasts(jsonb)'), es_register_schema('Dropped', '{}');
	SELECT es_create_projection('proj', 'count'), es_create_projection('inl', 'folds', 'inline', category => 'other'), es_subscribe('sub')});

# ---- the calls ----

my %value = (
	stream => q{'ctx-1'}, type => q{'T'}, data => q{'{}'::jsonb}, metadata => q{'{}'::jsonb},
	events => q{'[{"type": "T", "stream": "ctx-1"}]'::jsonb}, subscription => q{'sub'}, projection => q{'proj'},
	reducer => q{'folds'}, event_type => q{'T'}, feed => q{'f'}, query => q{'[{"types": ["T"]}]'::jsonb}, feed_query => q{'[{"tags": ["a"]}]'::jsonb}, format => q{'json'}, mode => q{'async'},
	before => q{'-infinity'::timestamptz}, event => q{ROW(1, 'ctx-1', 1, 'T', 1, '{}', '{}', NULL, now())::es_event}, state => 'NULL::jsonb', ops => q{'"merge"'::jsonb},
	state_type => q{'jsonb'::regtype}, on_unknown => q{'ignore'}, initial => q{'{}'::jsonb}, category => q{'ctx'},
	tags => q{'{a}'::text[]}, types => q{'{T}'::text[]}, categories => q{'{ctx}'::text[]}, member => q{''}, reason => q{'no'}, privilege => q{'read'},
	key => q{'$.stream'}, reset => q{'resets()'::regprocedure}, lsn => q{'0/1'::pg_lsn}, segment => '0', stream_id => '1',
	newest => 'true', schema => q{'{}'::jsonb}, compatibility => q{'none'}, relation => q{'pg_class'::regclass}, row_of_view => 'NULL::es_events',
	paths => q{'{$.data.secret}'::text[]}, subject => q{'$.stream'}, old_key_command => q{'printf %064d 1'},
	first_seal => '150', second_seal => 'NULL', seal => 'NULL', view => q{'states'::name}, definition => q{'((state ->> ''n''))'}, index => q{'projection_states_1_idx'::name});
my %by_type = ('bigint' => '1', integer => '1', boolean => 'false', text => q{'x'}, interval => q{'0'::interval}, uuid => 'gen_random_uuid()',
	'timestamp with time zone' => 'now()', jsonb => q{'{}'::jsonb}, 'text[]' => q{'{x}'::text[]}, regprocedure => q{'writes(es_event)'::regprocedure},
	'es_new_event[]' => q{ARRAY[ROW('T', '{}', NULL, NULL)::es_new_event]}, internal => 'NULL', regclass => q{'pg_class'::regclass},
	regtype => q{'jsonb'::regtype}, 'pg_lsn' => q{'0/1'::pg_lsn}, anyelement => 'NULL::jsonb', regrole => q{current_user::regrole}, bytea => q{'\\x00'::bytea}, oid => '10',
	'eventstore.visit' => q{ROW(10, true, '1 min', true, false, false, false, 'public')::eventstore.visit});
my %special = ('es_register_upcaster.handler' => q{'upcasts(jsonb)'::regprocedure}, 'es_register_reducer.handler' => q{'folds(jsonb, jsonb)'::regprocedure},
	'es_subscribe.subscription' => q{'sub2'}, 'es_unsubscribe.subscription' => q{'sub2'}, 'es_create_projection.projection' => q{'proj2'},
	'es_create_handler_projection.projection' => q{'proj2'}, 'es_drop_projection.projection' => q{'proj2'},
	'es_create_reducer.reducer' => q{'folds2'}, 'es_drop_reducer.reducer' => q{'folds2'}, 'es_append.expected_version' => 'NULL', 'es_try_append.expected_version' => 'NULL',
	'require_read.role' => 'current_user', 'shown_state.sealed' => 'NULL', 'role_name.name' => q{'gone'}, 'es_share_feed.other' => q{'shared'},
	'es_delete_stream.stream' => q{'gone-1'}, 'es_delete_stream.expected_version' => 'NULL', 'es_truncate_stream.stream' => q{'ctx-2'},
	'es_protect.category' => q{'kept'}, 'es_shred.subject' => q{'ctx-1'},
	'es_set_retention.category' => q{'kept'}, 'es_set_retention.max_age' => q{'1 year'::interval},
	'es_append_batch.expected_version' => 'NULL', 'es_append_json.expected_version' => 'NULL', 'es_append_events.expected_version' => 'NULL', 'es_append_events.events' => $by_type{'es_new_event[]'},
	'es_drop_upcaster.type' => q{'Dropped'}, 'es_register_schema.compatibility' => q{'none'}, 'es_compare_schemas.compatibility' => q{'full'}, 'es_drop_schema.type' => q{'Dropped'},
	'es_detach_segments.before' => q{'-infinity'::timestamptz},
	'es_append_batch.events' => q{'[{"type": "T"}]'::jsonb}, 'es_append_json.events' => q{'[{"type": "T"}]'});
my $routines = decode_json($node->safe_psql('store', q{
	SELECT json_agg(json_build_object('oid', p.oid::int8, 'name', p.proname, 'full', p.oid::regproc::text, 'kind', p.prokind, 'set', p.proretset,
		'result', p.prorettype::regtype::text, 'schema', n.nspname, 'args', (SELECT json_agg(json_build_array(COALESCE(p.proargnames[i], ''), t::regtype::text) ORDER BY i)
			FROM unnest(p.proargtypes) WITH ORDINALITY u(t, i))) ORDER BY p.proname, p.oid)
	FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_extension x ON x.oid = d.refobjid
	WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND x.extname = 'eventstore'}));

# argument(routine, argument): a plausible value
sub argument
{
	my ($routine, $arg) = @_;
	my ($name, $type) = @$arg;

	return $special{"$routine->{name}.$name"} // $value{$name} // $by_type{$type} // die "no value for $name $type of $routine->{name}";
}

# statement(routine, arguments): calls it
sub statement
{
	my ($routine, @args) = @_;
	my $call = "$routine->{full}(" . join(', ', @args) . ')';

	return "CALL $call" if $routine->{kind} eq 'p';
	return $routine->{set} ? "SELECT count(*) FROM $call" : "SELECT $call";
}

my @calls;
foreach my $routine (grep { $_->{result} ne 'trigger' && $_->{name} !~ /^fold_|_support$/ } @$routines)
{
	my @args = @{ $routine->{args} // [] };

	push @calls, statement($routine, map { argument($routine, $_) } @args);
	push @calls, statement($routine, map { "NULL::$_->[1]" =~ s/anyelement/jsonb/r } @args) if @args;
}
cmp_ok(scalar(@calls), '>', 80, 'calls of all functions and procedures');
run('CREATE TABLE calls (n int PRIMARY KEY, statement text); CREATE TABLE seen (place text, n int, state text, message text);');
run('INSERT INTO calls VALUES ' . join(', ', map { my $s = $calls[$_] =~ s/'/''/gr; "($_, '$s')" } 0 .. $#calls));

# ---- what the assertions share ----

# note(place): calls all, and notes what came of each
run(q{
	CREATE FUNCTION note(place text) RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
	DECLARE call record;
	BEGIN
		FOR call IN SELECT * FROM calls ORDER BY n LOOP
			BEGIN
				EXECUTE call.statement;
				INSERT INTO seen VALUES (place, call.n, 'ok');
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO seen VALUES (place, call.n, SQLSTATE, SQLERRM);
			END;
		END LOOP;
	END$$;
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM public.note(TG_ARGV[0]); RETURN NEW; END$$;
	CREATE FUNCTION fire_event() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN PERFORM note('event trigger'); END$$});

# is_harmless(place, [state, call, message]...): all are there, and nothing internal
sub is_harmless
{
	my ($place, @seen) = @_;

	my %ended = map { $_->[1] => 1 } @seen;

	is(join("\n", grep { !$ended{$_} } @calls), '', "$place: all calls end");
	is(join("\n", map { join ' ', @$_ } grep { $_->[0] =~ /^(XX|58|57P)/ } @seen), '', "$place: no internal error");
	return;
}

# place_is_harmless(place): judges what note() has noted
sub place_is_harmless
{
	my ($place) = @_;

	is_harmless($place, map { my ($state, $n, $message) = split /\|/, $_, 3; [ $state, $calls[$n], $message ] }
		rows($node, 'store', "SELECT state, n, replace(message, E'\\n', ' ') FROM seen WHERE place = '$place' ORDER BY n"));
	return;
}

# each_of(place, before, map, connection): calls each in a statement of its own, whatever the others do
sub each_of
{
	my ($place, $before, $map, $connstr) = @_;
	my ($out, $err) = ('', '');
	my @seen;
	my $script = "\\set VERBOSITY sqlstate\nSET client_min_messages = error;\n$before\n" . join('', map { my $s = $map->($calls[$_]); "\\warn call $_\n$s\n" } 0 .. $#calls) . "\\warn end\n";

	IPC::Run::run([ $node->installed_command('psql'), '-XAtq', '-d', $connstr // $node->connstr('store') ], '<', \$script, '>', \$out, '2>', \$err);
	like($err, qr/^end$/m, "$place: the session lives");
	while ($err =~ /^call (\d+)\n(.*?)(?=^call|^end)/msg)
	{
		my ($n, $said) = ($1, $2);

		push @seen, [ join(' ', $said =~ /(?:ERROR|FATAL|PANIC):\s+(\w+)/g) || 'ok', $calls[$n] ];
	}
	is_harmless($place, @seen);
	return;
}

# plain(call): as it is
sub plain { return "$_[0];"; }

# quoted(call): as a literal
sub quoted { return '$call$' . $_[0] . '$call$'; }

# ---- statements of a client ----

each_of('a statement', '', \&plain);
each_of('a transaction', '', sub { "BEGIN; $_[0]; ROLLBACK;" });
each_of('a savepoint', '', sub { "BEGIN; SAVEPOINT a; $_[0]; ROLLBACK TO a; $_[0]; COMMIT;" });
each_of('repeatable read', 'SET default_transaction_isolation = "repeatable read";', \&plain);
each_of('a read-only transaction', 'SET default_transaction_read_only = on;', \&plain);
each_of('a DO block', '', sub { 'DO $do$BEGIN EXECUTE ' . quoted($_[0]) . '; COMMIT; END$do$;' });
run(q{CREATE PROCEDURE runs(statement text) LANGUAGE plpgsql AS $$BEGIN EXECUTE statement; COMMIT; EXECUTE statement; END$$});
each_of('a procedure', '', sub { 'CALL runs(' . quoted($_[0]) . ');' });
run(q{CREATE PROCEDURE catches(statement text) LANGUAGE plpgsql AS $$BEGIN BEGIN EXECUTE statement; EXCEPTION WHEN division_by_zero THEN NULL; END; COMMIT; EXECUTE statement; END$$});
each_of('an exception block', '', sub { 'CALL catches(' . quoted($_[0]) . ');' });
run(q{CREATE PROCEDURE loops(statement text) LANGUAGE plpgsql AS $$DECLARE r record; BEGIN FOR r IN SELECT generate_series(1, 2) LOOP EXECUTE statement; END LOOP; END$$});
each_of('a loop over a query', '', sub { 'CALL loops(' . quoted($_[0]) . ');' });
run(q{CREATE FUNCTION executes(statement text) RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE statement; RETURN 1; END$$});
each_of('a function', '', sub { 'SELECT executes(' . quoted($_[0]) . ');' });
each_of('a cursor', '', sub { $_[0] =~ /^CALL/ ? "$_[0];" : "BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR $_[0]; FETCH ALL FROM c; FETCH FIRST FROM c; COMMIT; FETCH FIRST FROM c; CLOSE c;" });
each_of('a prepared statement', '', sub { $_[0] =~ /^CALL/ ? "$_[0];" : "PREPARE p AS $_[0]; EXECUTE p; EXECUTE p; DEALLOCATE p;" });
each_of('EXPLAIN ANALYZE', '', sub { $_[0] =~ /^CALL/ ? "$_[0];" : "EXPLAIN (ANALYZE, TIMING off) $_[0];" });
each_of('COPY', '', sub { $_[0] =~ /^CALL/ ? "$_[0];" : "COPY ($_[0]) TO STDOUT;" });
each_of('a prepared transaction', '', sub { "BEGIN; $_[0]; PREPARE TRANSACTION 'here'; ROLLBACK PREPARED 'here';" });
each_of('a walsender', '', \&plain, $node->connstr('store') . ' replication=database');

# ---- triggers ----

run(q{
	CREATE TABLE fired (n int);
	CREATE TRIGGER before_row BEFORE INSERT ON fired FOR EACH ROW WHEN (NEW.n = 1) EXECUTE FUNCTION fire('a trigger');
	CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON fired DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.n = 2) EXECUTE FUNCTION fire('a deferred trigger')});
run('INSERT INTO fired VALUES (1)');
place_is_harmless('a trigger');
run('INSERT INTO fired VALUES (2)');
place_is_harmless('a deferred trigger');
run(q{CREATE EVENT TRIGGER ddl ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION fire_event(); CREATE VIEW ddl AS SELECT 1; DROP EVENT TRIGGER ddl});
place_is_harmless('event trigger');

# procedures at commit, with nothing around them
run(q{CREATE TABLE waits (statement text);
	CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE NEW.statement; RETURN NULL; END$$;
	CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON waits DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit()});
is(error_of(q{INSERT INTO waits VALUES ('CALL es_poll_wait(''sub'', ''0'')')}), '', 'es_poll_wait in a deferred trigger');
is(error_of(q{INSERT INTO waits VALUES ('CALL es_wait_for(0, ''0'')')}), '', 'es_wait_for in a deferred trigger');

# ---- where a function should not do much ----

run(q{CREATE FUNCTION fixed(statement text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN executes(statement); END$$;
	CREATE TABLE checks (statement text CHECK (fixed(statement) = 1), made int GENERATED ALWAYS AS (fixed(statement)) STORED);
	CREATE TABLE indexed (statement text)});
each_of('a constraint', '', sub { 'INSERT INTO checks VALUES (' . quoted($_[0]) . ');' });
each_of('an index', '', sub { 'BEGIN; INSERT INTO indexed VALUES (' . quoted($_[0]) . '); CREATE INDEX ON indexed (fixed(statement)); ROLLBACK;' });

# ---- what we call ----

run(q{
	CREATE FUNCTION note_async(e es_event) RETURNS void LANGUAGE sql AS $$SELECT note('a handler in the worker')$$;
	CREATE FUNCTION note_inline(e es_event) RETURNS void LANGUAGE sql AS $$SELECT note('a handler in an append')$$;
	CREATE FUNCTION note_fold(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT note('a reducer'); SELECT state$$;
	CREATE FUNCTION note_upcast(data jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT note('an upcaster'); SELECT data$$;
	CREATE FUNCTION waits_for(e es_event) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE ready boolean; settled bigint; BEGIN CALL es_poll_wait('sub', '0', ready); CALL es_wait_for(0, '0', settled); END$$});
run(q{SELECT es_create_handler_projection('waits', 'waits_for(es_event)', types => '{Wait}'); SELECT es_append('w-1', 'Wait')});
catches_up('waits', 'procedures that wait, in a handler in the worker');
run(q{SELECT es_create_handler_projection('notes', 'note_async(es_event)', types => '{Async}'); SELECT es_append('n-1', 'Async')});
catches_up('notes', 'a handler that calls all');
place_is_harmless('a handler in the worker');
run(q{SELECT es_create_handler_projection('inline', 'note_inline(es_event)', 'inline', types => '{Inline}')});
run(q{SELECT es_append('i-1', 'Inline')});
place_is_harmless('a handler in an append');
run(q{SELECT es_register_reducer('notes', 'Fold', 'note_fold(jsonb, jsonb)'); SELECT es_append('r-1', 'Fold')});
run(q{SELECT state FROM es_replay('r-1', 'notes')});
place_is_harmless('a reducer');
run(q{SELECT es_register_upcaster('Old', 1, 'note_upcast(jsonb)'); SELECT es_append('u-1', 'Old', type_version => 1)});
run(q{SELECT es_upcast(e) FROM es_read('u-1') e});
place_is_harmless('an upcaster');

# ---- parallel queries ----

my $forced = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
run(q{CREATE FUNCTION as_if_safe(statement text) RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN EXECUTE statement; RETURN 1; END$$});
each_of('a parallel worker', "SET $forced = on;", sub { 'SELECT as_if_safe(' . quoted($_[0]) . ');' });
run('CREATE TABLE big AS SELECT generate_series(1, 20000) n; ANALYZE big');
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;';
run(q{SELECT es_create_feed('parallel')});
foreach my $view (rows($node, 'store', q{SELECT c.oid::regclass FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_extension x ON x.oid = d.refobjid
	WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND x.extname = 'eventstore' AND c.relkind = 'v' AND c.relname <> 'append_gate' ORDER BY 1}))
{
	is(error_of("$parallel SELECT v.* FROM big LEFT JOIN $view v ON true WHERE n < 100"), '', "$view beside a parallel scan");
	is(error_of("$parallel SELECT count(*) FROM big, (SELECT * FROM $view OFFSET 0) v WHERE (v.*)::text IS NOT NULL"), '', "$view below a parallel scan");
}
foreach my $routine (grep { $_->{kind} eq 'f' && $_->{result} !~ /^(trigger|index_am_handler)$/ && $_->{name} !~ /^fold_|_support$/ } @$routines)
{
	my ($label) = rows($node, 'store', "SELECT proparallel FROM pg_proc WHERE oid = $routine->{oid}");
	my $call = statement($routine, map { argument($routine, $_) } @{ $routine->{args} // [] });

	next if $label eq 'u';
	is(error_of("$parallel SELECT count(*), ($call) FROM big"), '', "$routine->{name}, labelled $label, beside a parallel scan");
	is(error_of("SET $forced = on; $call"), '', "$routine->{name}, labelled $label, in a forced parallel query");
}

# ---- the function call protocol, which has no portal ----

# message(type, content): as the protocol has it
sub message { return $_[0] . pack('N', 4 + length $_[1]) . $_[1]; }

# exactly(socket, count): so many bytes
sub exactly
{
	my ($socket, $count) = @_;
	my $bytes = '';

	while (length $bytes < $count)
	{
		sysread($socket, $bytes, $count - length $bytes, length $bytes) or die 'the server has closed the connection';
	}
	return $bytes;
}

# until_ready(socket): the SQLSTATE of an error on the way, else ''
sub until_ready
{
	my ($socket) = @_;
	my $state = '';

	while (1)
	{
		my ($type, $length) = unpack('a N', exactly($socket, 5));
		my $content = exactly($socket, $length - 4);

		$state = $1 if $type eq 'E' && $content =~ /C(\w{5})\0/;
		return $state if $type eq 'Z';
	}
	return;
}

my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "no connection: $!";
my $user = (getpwuid $<)[0];
$socket->syswrite(message('', pack('N', 196608) . "user\0$user\0database\0store\0\0"));
is(until_ready($socket), '', 'a connection for function calls');
foreach my $routine (@$routines)
{
	foreach my $nulls (0, 1)
	{
		my $args = '';

		foreach my $arg (@{ $routine->{args} // [] })
		{
			my $text = argument($routine, $arg);

			# the literal's contents; expressions are left out
			$text = $text =~ /^'((?:[^']|'')*)'/ ? $1 : $text =~ /^(?:\d+|true|false)$/ ? $text : undef;
			$args .= !$nulls && defined $text && $arg->[1] ne 'anyelement' ? pack('N/a*', $text) : pack('N', 0xffffffff);
		}
		$socket->syswrite(message('F', pack('N n n', $routine->{oid}, 0, scalar @{ $routine->{args} // [] }) . $args . pack('n', 0)));
		my $state = until_ready($socket);
		unlike($state, qr/^(XX|58)/, "the function call protocol: $routine->{name}" . ($nulls ? ' of NULLs' : ''));
	}
}
close $socket;

# ---- an apply worker ----

$node->safe_psql('postgres', 'CREATE DATABASE publisher');
$node->safe_psql('publisher', q{CREATE TABLE moved (id int PRIMARY KEY); CREATE PUBLICATION moved FOR TABLE moved});
$node->safe_psql('publisher', q{SELECT pg_create_logical_replication_slot('moved', 'pgoutput')});
run(q{CREATE TABLE moved (id int PRIMARY KEY); CREATE TRIGGER fires BEFORE INSERT ON moved FOR EACH ROW EXECUTE FUNCTION fire('an apply worker'); ALTER TABLE moved ENABLE ALWAYS TRIGGER fires});
run("CREATE SUBSCRIPTION moved CONNECTION '" . ($node->connstr('publisher') =~ s/'/''/gr) . "' PUBLICATION moved WITH (create_slot = false, slot_name = 'moved', copy_data = false)");
$node->safe_psql('publisher', 'INSERT INTO moved VALUES (1)');
becomes(q{SELECT count(*) = 1 FROM moved}, 'a change is applied whose trigger calls all');
place_is_harmless('an apply worker');
run('ALTER SUBSCRIPTION moved DISABLE; ALTER SUBSCRIPTION moved SET (slot_name = NONE); DROP SUBSCRIPTION moved');

# ---- single-user mode ----

is(slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : '', $postmaster, 'the server has been up all the time');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP|server process .* exited with exit code [2-9]/, 'no process of it has crashed');
$node->stop;
my ($said, $complained) = ('', '');
IPC::Run::run([ $node->installed_command('postgres'), '--single', '-D', $node->data_dir, 'store' ], '<',
	\"SELECT count(es_append('single-1', 'T')) FROM generate_series(1, 250)\nSELECT note('single-user mode')\nCALL es_wait_for(0, '0')\nCALL es_poll_wait('sub', '0')\n", '>', \$said, '2>', \$complained);
is($?, 0, 'single-user mode ends well');
unlike($complained, qr/ERROR|FATAL|PANIC/, 'with no error');
$node->start;
place_is_harmless('single-user mode');
is(run(q{SELECT es_stream_version('single-1')}), 250, 'what was appended there is there');
is(gaps($node, 'store'), '', 'no stream has a gap');

done_testing();
