# The master key's command in all its failures, its rotation, what a session keeps of keys, and
# subjects shredded while everybody appends.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Digest::SHA qw(hmac_sha256);
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $keys = PostgreSQL::Test::Utils::tempdir();
my @key = map { unpack 'H*', join '', map { chr rand 256 } 1 .. 32 } 0 .. 2;
my $node = new_node('secrets', conf => "eventstore.master_key_command = 'cat $keys/key'\nlog_min_messages = debug1\n");

# key(text): what the command prints
sub key
{
	my ($text) = @_;

	unlink "$keys/key";
	append_to_file("$keys/key", $text);
}

# command(shell, timeout): makes it the command, and waits until sessions have it.
sub command
{
	my ($shell, $timeout) = @_;

	$node->safe_psql('postgres', "LOAD 'eventstore'; ALTER SYSTEM SET eventstore.master_key_command = '" . $shell =~ s/'/''/gr . "'");
	$node->safe_psql('postgres', "LOAD 'eventstore'; ALTER SYSTEM SET eventstore.master_key_timeout = " . ($timeout // 30000));
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('eventstore.master_key_command') = '" . $shell =~ s/'/''/gr . "'") or die 'the command is not known';
}

# failure(sql): SQLSTATE and DETAIL of what must fail.
sub failure
{
	my ($sql) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");

	return join ' ', $err =~ /ERROR:\s+(\w+)/, $err =~ /DETAIL:\s+(.*)/;
}

# memory_has(pid, bytes): how often a process has bytes in the memory that it can write to; undef if that
# cannot be read.
sub memory_has
{
	my ($pid, $bytes) = @_;
	my $count = 0;

	open my $maps, '<', "/proc/$pid/maps" or return undef;
	open my $memory, '<:raw', "/proc/$pid/mem" or return undef;
	while (<$maps>)
	{
		my ($from, $to, $rights, $name) = /^(\w+)-(\w+) (\S+)(.*)/;
		my $part;

		# shared memory is large, and has no keys
		next if $rights !~ /^rw-p/ || $name =~ /\[vvar/;
		sysseek $memory, hex $from, 0 or return undef;
		sysread $memory, $part, hex($to) - hex($from) or return undef;
		$count++ while $part =~ /\Q$bytes\E/g;
	}
	return $count;
}

key($key[0]);
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$node->safe_psql('postgres', $_) foreach (q{SELECT es_protect('c', '{$.data.x}', '$.stream')}, q{SELECT es_append('c-1', 'T', '{"x": "a field"}', event_id => '00000000-0000-4000-8000-000000000001')},
	q{SELECT es_append('d-1', 'T', '{"x": "plain"}')}, q{SELECT es_append('e-1', 'T')}, q{SELECT es_protect('e', '{$.data.x}', '$.stream')}, q{SELECT es_protect('e', '{}', NULL)});

# Whatever the command does wrong, it is told, and everything else goes on.
my $rubbish = 'rubbish' . int rand 1e9;
my $ends = "$keys/ends";
foreach my $case (
	[ 'false', 'The command failed: child process exited with exit code 1.' ], [ 'exit 77', 'The command failed: child process exited with exit code 77.' ],
	[ "cat $keys/none 2>/dev/null", 'The command failed: child process exited with exit code 1.' ], [ "$keys/none 2>/dev/null", 'The command failed: command not found.' ],
	[ 'kill -9 $$', 'The command failed: child process was terminated by signal 9: Killed.' ], [ 'true', 'The command printed nothing.' ],
	[ 'exec >&-; sleep 0.1', 'The command printed nothing.' ], [ "echo $rubbish", 'The command printed something else than 64 hexadecimal digits.' ],
	[ "printf ${rubbish}%064d 1", 'The command printed something else than 64 hexadecimal digits.' ], [ "while :; do echo $rubbish; done", 'The command printed too much.' ],
	[ "head -c 32 /dev/zero", 'The command printed something else than 64 hexadecimal digits.' ], [ "cat $keys/key; exit 1", 'The command failed: child process exited with exit code 1.' ],
	[ "sleep 600 & sleep 600", 'The command took longer than 300 ms.', 300 ], [ "cat $keys/key; sleep 600", 'The command took longer than 300 ms.', 300 ],
	[ "trap : TERM INT HUP; echo \$\$ >$ends; while :; do sleep 1; done", 'The command took longer than 300 ms.', 300 ],
	[ "cat $keys/key; sleep 600 >&- &", undef ], [ '', 'No command is set.' ])
{
	my ($shell, $detail, $timeout) = @$case;

	command($shell, $timeout);
	if (!defined $detail)
	{
		is($node->safe_psql('postgres', q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', 'what a command leaves behind is not waited for');
		next;
	}
	my %failures = map { $_ => failure($_) } (q{SELECT es_append('c-1', 'T', '{"x": 1}')}, q{SELECT es_append('c-9', 'T', '{"x": 1}')}, q{SELECT * FROM es_read('c-1')}, q{SELECT * FROM es_read_all()}, q{SELECT data FROM es_events WHERE stream = 'c-1'},
		q{SELECT es_reveal('c-1', 'T', data) FROM eventstore.events WHERE stream = 'c-1'}, q{SELECT es_append('c-1', 'T', '{"x": "a field"}', event_id => '00000000-0000-4000-8000-000000000001')},
		q{SELECT es_protect('f', '{$.data.x}', '$.stream')}, q{SELECT * FROM es_find_event('c-1', '00000000-0000-4000-8000-000000000001')});
	my @other = grep { $failures{$_} ne "55000 $detail" } sort keys %failures;
	is("@other", '', "'$shell': $detail") or diag join "\n", map { "$_: $failures{$_}" } @other;
	is($node->safe_psql('postgres', q{SELECT es_append('d-1', 'T', '{"x": "plain"}') > 0, es_append('e-1', 'T') > 0, es_append('c-2', 'Other') > 0, es_stream_version('c-1') = 1;
		SELECT count(DISTINCT data) FROM es_read('d-1'); SELECT count(*) > 0 FROM es_read_category('e'); SELECT count(*) > 0 FROM es_events WHERE stream = 'd-1'; SELECT es_position('c-1', 1)}),
		"t|t|t|t\n1\nt\nt\n1", '... and all else goes on');
}
unlike(slurp_file($node->logfile), qr/^(?!.*(?:STATEMENT|statement|parameter|ALTER|LOAD)).*(?:$rubbish|$key[0])/m, 'what a command prints is not told anybody');
my $pid = slurp_file($ends) + 0;
ok(wait_until('the command to end', sub { !kill(0, $pid) }), 'a command that takes too long is killed, though it catches signals');

# What a key looks like.
foreach my $form ("$key[0]\n", $key[0], uc $key[0], "$key[0]\r\n")
{
	key($form);
	command("cat $keys/key # " . length $form);
	is($node->safe_psql('postgres', q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', 'a key of ' . length($form) . ' bytes');
}

# A statement that is canceled ends its command.
my $session = $node->background_psql('postgres', on_error_stop => 0);
command("echo \$\$ >$keys/pid; sleep 600");
$session->query(q{SET application_name = 'waits'});
my $backend = $session->query('SELECT pg_backend_pid()');
my $blocked = start_named($node, 'postgres', 'canceled', q{SELECT * FROM es_read('c-1');});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'canceled' AND wait_event_type = 'Extension'}) or die 'nobody waits';
$node->poll_query_until('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'canceled'});
my ($out, $err) = finish_script($blocked);
like($err, qr/57014/, 'who waits for a command can be canceled');
my $command = slurp_file("$keys/pid") + 0;
ok(wait_until('the command to end', sub { !kill(0, $command) }), '... and the command with it');

# A retry that has waited for the key, and then meets another's append, waits for that transaction as any append does.
command("while [ ! -e $keys/go ]; do sleep 0.1; done; cat $keys/key");
$blocked = start_named($node, 'postgres', 'retries', q{SELECT es_append('c-1', 'T', event_id => '00000000-0000-4000-8000-000000000001');});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'retries' AND wait_event_type = 'Extension'}) or die 'nobody waits';
$session->query_safe(q{BEGIN; SELECT es_append('c-1', 'T')});
append_to_file("$keys/go", '');
ok($node->poll_query_until('postgres', qq{SELECT $backend = ANY (pg_blocking_pids(pid)) FROM pg_stat_activity WHERE application_name = 'retries'}), 'who has waited for the key waits for the transaction in his way');
$session->query_safe('ROLLBACK');
($out, $err) = finish_script($blocked);
like($err, qr/VE010/, '... and goes on after it');
$session->quit;

# Nobody but superusers sees the command, nor may set it.
command("cat $keys/key");
$node->safe_psql('postgres', 'CREATE ROLE somebody LOGIN');
$node->safe_psql('postgres', q{SELECT es_grant('somebody', 'admin'), es_grant('somebody', 'read'), es_grant('somebody', 'append')});
foreach my $load ('', "SELECT es_stream_version('c-1');")
{
	like(sqlstates($node, 'postgres', "SET ROLE somebody; SET eventstore.master_key_command = 'touch $keys/touched'; SELECT es_stream_version('c-1'); SELECT * FROM es_read('c-1');"), qr/^(?:55P02|42501|)$/, 'a session cannot set it' . ($load ? '' : ', be it before the library is there'));
}
is($node->safe_psql('postgres', q{SET ROLE somebody; SELECT data->>'x' FROM es_read('c-1')}), 'a field', '... and reads with the one that the server has');
ok(!-e "$keys/touched", '... which is the one that runs');
is(sqlstates($node, 'postgres', q{SET ROLE somebody; SELECT es_stream_version('c-1'); SHOW eventstore.master_key_command}), '42501', 'it is not shown');
is(sqlstates($node, 'postgres', q{SET ROLE somebody; SELECT es_rotate_master_key('true')}), '42501', 'and who may not run programs gives none');

# Memory that has keys: left out of core dumps; wiped.
$session = $node->background_psql('postgres');
$session->query(q{SELECT * FROM es_read('c-1')});
$backend = $session->query('SELECT pg_backend_pid()');
SKIP:
{
	open my $smaps, '<', "/proc/$backend/smaps" or skip 'no /proc', 9;
	my ($from, $size, $flags, @arenas);
	while (<$smaps>)
	{
		$from = hex $1 if /^(\w+)-\w+ /;
		$size = $1 if /^Size:\s+(\d+) kB/;
		push @arenas, [ $from, $_ ] if /^VmFlags:.* wf\b/ && $size == 64;
	}
	is(scalar @arenas, 1, 'keys are in pages of their own');
	like($arenas[0][1] // '', qr/\bdd\b/, '... that are not in core dumps');

	# what wraps keys is in the first of its places, keys of subjects behind the first seven
	my $arena = sub { my $part; open my $memory, '<:raw', "/proc/$backend/mem" or return undef; sysseek $memory, $arenas[0][0], 0; sysread $memory, $part, 64 * 1024; return $part };
	skip 'memory of other processes cannot be read', 7 unless defined $arena->() && length $arena->();
	my $zeros = sub { return $arena->() =~ /^.{224}\0+\z/s ? 1 : 0 };
	is($zeros->(), 1, '... and wiped when a transaction has ended');
	foreach my $use ([ 'a read', q{SELECT * FROM es_read('c-1')} ], [ 'an append', q{SELECT es_append('c-1', 'T', '{"x": 1}')} ], [ 'a new key', q{SELECT es_append('c-key', 'T', '{"x": 1}')} ])
	{
		$session->query("BEGIN; $use->[1]");
		my $key = substr $arena->(), 224, 32;
		is(memory_has($backend, $key), $key =~ /[^\0]/ ? 1 : -1, "$use->[0]: the key is there, and nowhere else");
		$session->query('ROLLBACK');
		is(memory_has($backend, $key) + !$zeros->(), 0, '... and nowhere after it');
	}
}
$session->quit;

# What a session makes of a master key is nowhere but there, and goes when a rotation fails half way.
my $ours = hmac_sha256("eventstore: wrapping\1", pack 'H*', $key[0]);
my $others = hmac_sha256("eventstore: wrapping\1", pack 'H*', $key[2]);
command('false');
$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query("SELECT es_rotate_master_key('echo $key[2]')");
$backend = $session->query('SELECT pg_backend_pid()');
SKIP:
{
	skip 'memory of other processes cannot be read', 4 unless defined memory_has($backend, $ours);
	is(memory_has($backend, $others), 0, 'a rotation that fails for the new key leaves nothing of the former one');
	command("cat $keys/key");
	$session->query(q{SELECT * FROM es_read('c-1')});
	is(memory_has($backend, $ours), 1, 'what wraps keys is in one place');
	is(memory_has($backend, pack 'H*', $key[0]), 0, '... and the master key in none');
	$session->query('DISCARD ALL');
	is(memory_has($backend, $ours), 0, 'nothing stays after DISCARD ALL');
}
$session->quit;
command("cat $keys/key");

# Another master key.
my $warm = $node->background_psql('postgres', on_error_stop => 0);
is($warm->query(q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', 'a session that has the key');
# shown(setting, value): waits until that session has it
sub shown
{
	my ($setting, $value) = @_;

	return wait_until("$setting in the session", sub { $warm->query("SELECT current_setting('$setting')") eq $value }) || die "the session has not read the configuration";
}
$warm->query(q{CREATE FUNCTION pg_temp.state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN 'none'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END $$});
unlink "$keys/key";
$node->safe_psql('postgres', q{ALTER SYSTEM SET work_mem = '5432kB'});
$node->reload;
shown('work_mem', '5432kB');
is($warm->query(q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', '... goes on with it when the configuration is read again, and the command just fails');
command('false');
shown('eventstore.master_key_command', 'false');
is($warm->query(q{SELECT pg_temp.state_of($$SELECT * FROM es_read('c-1')$$)}), '55000', '... and has it no more when another command is set');
key($key[0]);
command("cat $keys/key");
shown('eventstore.master_key_command', "cat $keys/key");
is($warm->query(q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', '... before that one gives it');
key($key[1]);
is($warm->query(q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', '... goes on with it when the command prints another one');
is(sqlstates($node, 'postgres', q{SELECT * FROM es_read('c-1')}), '55000', 'one that has none cannot');
is(sqlstates($node, 'postgres', q{SELECT es_append('c-new', 'T', '{"x": 1}')}), '55000', 'and makes no key with the other one');
is(sqlstates($node, 'postgres', "SELECT es_rotate_master_key('echo $key[2]')"), '55000', 'a rotation from a key that is not the former one');
is(sqlstates($node, 'postgres', "SELECT es_rotate_master_key('false')"), '55000', 'and one without it');
is($warm->query(q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', '... leaves all as it is');
$node->safe_psql('postgres', "BEGIN; SELECT es_rotate_master_key('echo $key[0]'); ROLLBACK");
is($warm->query(q{SELECT data->>'x' FROM es_read('c-1')}), 'a field', '... and so does one that is rolled back');

# one in flight: readers and appenders go on, who would make a key waits; prepared ones are waited for
key($key[0]);
$node->safe_psql('postgres', q{BEGIN; SELECT es_append('c-prepared', 'T', '{"x": "prepared"}'); PREPARE TRANSACTION 'made a key'});
key($key[1]);
my $rotation = start_named($node, 'postgres', 'rotation', "SELECT es_rotate_master_key('echo $key[0]');");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'rotation' AND wait_event_type = 'Lock'}) or die 'the rotation does not wait';
is($warm->query(q{SELECT es_append('c-1', 'T', '{"x": "another"}')}), '2', 'who has a key appends beside it');
my $maker = start_named($node, 'postgres', 'maker', q{SELECT es_append('c-made', 'T', '{"x": "made"}');});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'maker' AND wait_event_type = 'Lock'}) or die 'the maker does not wait';
$node->safe_psql('postgres', q{COMMIT PREPARED 'made a key'});
is((finish_script($rotation))[1], '', 'a rotation waits for a prepared transaction that has made a key');
is((finish_script($maker))[1], '', 'and who would make one waits for it');
is($node->safe_psql('postgres', q{SELECT string_agg(data->>'x', ' ' ORDER BY position) FROM es_read_category('c')}), 'a field prepared another made', 'all is read with the new key');
is($warm->query(q{SELECT string_agg(data->>'x', ' ' ORDER BY position) FROM es_read_category('c')}), 'a field prepared another made', '... by a session that had the old one, too');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT fingerprint) FROM eventstore.subjects'), '1', 'and all keys are wrapped by it');
key($key[0]);
is(sqlstates($node, 'postgres', q{SELECT * FROM es_read('c-1')}), '55000', 'the old one is of no use');
key($key[1]);
is($warm->query(q{DISCARD ALL; SELECT count(*) FROM es_read('c-1')}), '2', 'after DISCARD ALL the command is run again');
$warm->quit;

# What a session knows of keys between transactions is no more than the table says.
$warm = $node->background_psql('postgres', on_error_stop => 0);
sub warm_says { my ($sql, $says, $name) = @_; is(join(' ', split /\n/, $warm->query($sql)), $says, $name); }
my $read = q{SELECT string_agg(coalesce(data->>'x', 'null'), ' ' ORDER BY position) FROM es_read_category('w')};
$node->safe_psql('postgres', q{SELECT es_protect('w', '{$.data.x}', '$.data.id')});
$warm->query(q{BEGIN; SELECT es_append('w-1', 'T', '{"id": "prepared", "x": "a"}'); PREPARE TRANSACTION 'key'; ROLLBACK PREPARED 'key'});
$warm->query(q{BEGIN; SELECT es_append('w-1', 'T', '{"id": "undone", "x": "a"}'); ROLLBACK});
$warm->query(q{BEGIN; SAVEPOINT s; SELECT es_append('w-1', 'T', '{"id": "half", "x": "a"}'); ROLLBACK TO s; COMMIT});
$warm->query(qq{SELECT es_append('w-1', 'T', '{"id": "$_", "x": "$_"}')}) foreach qw(prepared undone half);
warm_says($read, 'prepared undone half', 'keys that a rollback has taken are made anew');
is($node->safe_psql('postgres', $read), 'prepared undone half', '... and others have them');
$warm->query('BEGIN');
warm_says($read, 'prepared undone half', 'in a transaction');
$node->safe_psql('postgres', q{SELECT es_shred('undone')});
warm_says($read, 'prepared null half', '... another session shreds: at once');
$warm->query('COMMIT');
$node->safe_psql('postgres', q{SELECT es_shred('half')});
warm_says($read, 'prepared null null', 'so between transactions');
$warm->query(q{SELECT es_append('w-1', 'T', '{"id": "half", "x": "again"}')});
warm_says(q{SELECT es_stream_version('w-1')}, '3', 'and nothing more is appended for it');
$node->safe_psql('postgres', q{SELECT es_shred('prepared')});
$warm->query(q{SELECT es_append('w-1', 'T', '{"id": "prepared", "x": "again"}')});
warm_says(q{SELECT es_stream_version('w-1')}, '3', 'by one that has not read since');
# what it knows of before is as it was when what it did itself is undone
$warm->query(q{SELECT es_append('w-3', 'T', '{"id": "own", "x": "kept"}')});
my $own = q{SELECT data->>'x' FROM es_read('w-3')};
warm_says($own, 'kept', 'a key that is known');
warm_says(qq{BEGIN; SELECT es_shred('own'); SELECT coalesce(data->>'x', 'null') FROM es_read('w-3'); ROLLBACK; $own}, ' null kept', '... is there again after a shredding that is rolled back');
warm_says(qq{BEGIN; SAVEPOINT s; SELECT es_shred('own'); SELECT coalesce(data->>'x', 'null') FROM es_read('w-3'); ROLLBACK TO s; $own; COMMIT}, ' null kept', '... to a savepoint');
$warm->query(q{SELECT es_append('w-3', 'T', '{"id": "own", "x": "more"}')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM eventstore.subjects WHERE subject = 'own'}), '1', '... and no other is made');
# more subjects than it knows at a time, and more than are unwrapped at a time; twice
$warm->query(q{SELECT count(es_append('w-2', 'T', jsonb_build_object('id', 's' || n, 'x', 'of s' || n))) FROM generate_series(1, 17000) n});
warm_says(q{SELECT count(*) FROM es_read('w-2', max_count => NULL) WHERE data->>'x' = 'of ' || (data->>'id')}, '17000', 'many subjects') for 1 .. 2;
warm_says(q{SELECT count(es_append('w-2', 'T', jsonb_build_object('id', 's' || n, 'x', 'of s' || n))) FROM generate_series(17000, 1, -1000) n}, '17', '... of which some come again');
warm_says(q{SELECT count(*) FROM es_read('w-2', max_count => NULL) WHERE data->>'x' = 'of ' || (data->>'id')}, '17017', '... and are found');
is($node->safe_psql('postgres', q{SELECT count(*) FROM eventstore.subjects WHERE subject ~ '^s[0-9]+$'}), '17000', '... each with one key');
$warm->quit;

# Everybody appends for few subjects while they are shredded one by one, beside rollbacks and savepoints.
$node->safe_psql('postgres', q{
	SELECT es_protect('t', '{$.data.x}', '$.data.id');
	CREATE TABLE shredded (id int PRIMARY KEY);
	CREATE FUNCTION work(client int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		who int := 1 + random() * 200;
	BEGIN
		BEGIN
			PERFORM es_append('t-' || client, 'T', jsonb_build_object('id', who, 'x', 'of ' || who));
			IF random() < 0.2 THEN
				RAISE EXCEPTION 'undone';
			END IF;
		EXCEPTION
			WHEN raise_exception THEN NULL;
			WHEN object_not_in_prerequisite_state THEN
				IF SQLERRM NOT LIKE 'subject of%' THEN
					RAISE;
				END IF;
		END;
		PERFORM count(*) FROM es_read('t-' || client, backwards => true, max_count => 20)
			WHERE data->>'x' <> 'of ' || (data->>'id') HAVING count(*) > 0;
		IF FOUND THEN
			RAISE 'a field is another one''s';
		END IF;
	END $$;
	CREATE FUNCTION shred() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		who int := (SELECT 1 + (count(*) * 7) % 200 FROM shredded);
	BEGIN
		PERFORM es_shred(who::text);
		INSERT INTO shredded VALUES (who);
	EXCEPTION WHEN SQLSTATE 'VE004' THEN
		NULL;
	END $$;});
my $base = PostgreSQL::Test::Utils::tempdir();
append_to_file("$base/work", "SELECT work(:client_id);\n");
append_to_file("$base/shred", "SELECT shred();\n");
my $bench = start_pgbench($node, "$base/work", '-c', 6, '-T', $ENV{TEST_LONG} ? 60 : 5);
my $shredder = start_pgbench($node, "$base/shred", '-c', 1, '-T', $ENV{TEST_LONG} ? 50 : 4, '-R', 30);
# in the midst of it another master key: whoever has the former one goes on until the keys are wrapped anew
$node->poll_query_until('postgres', q{SELECT count(DISTINCT e.stream) = 6 FROM es_read_category('t') e}) or die 'not all clients append';
key($key[2]);
is($node->psql('postgres', "SELECT es_rotate_master_key('echo $key[1]')"), 0, 'a rotation beside appends');
$bench->finish;
$shredder->finish;
is(slurp_file("$base/work.err") =~ /ERROR|aborted/ ? slurp_file("$base/work.err") : '', '', 'appends and reads beside shredding');
is(slurp_file("$base/shred.err") =~ /ERROR|aborted/ ? slurp_file("$base/shred.err") : '', '', 'shredding beside appends');
note $node->safe_psql('postgres', 'SELECT count(*) FROM shredded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM es_read_category('t', max_count => NULL) e LEFT JOIN shredded s ON s.id::text = e.data->>'id'
	WHERE e.data->>'x' IS DISTINCT FROM CASE WHEN s.id IS NULL THEN 'of ' || (e.data->>'id') END}), '0', 'fields of shredded subjects are null, all others are there');
is($node->safe_psql('postgres', q{SELECT count(*) FROM eventstore.subjects k WHERE k.subject ~ '^[0-9]+$' AND (k.wrapped IS NULL) <> EXISTS (SELECT FROM shredded s WHERE s.id::text = k.subject)}), '0', 'no key of theirs is left');
# What somebody has changed behind the store's back is told, and stops no consumer for good.
new_store($node, 'changed');
sub changed { return $node->safe_psql('changed', $_[0]) }
changed($_) foreach (q{SELECT es_protect('c', '{$.data.x,$.data.y}', '$.data.id')}, q{SELECT es_append('c-' || n, 'T', jsonb_build_object('id', n, 'x', 'x' || n, 'y', 'y' || n)) FROM generate_series(1, 3) n},
	q{SELECT es_append('c-1', 'T', '{"id": 1, "x": "later", "y": "later"}')}, q{SELECT es_subscribe('s', max_attempts => 1)},
	'ALTER TABLE eventstore.events_0 DISABLE TRIGGER guard_rows; ALTER TABLE eventstore.subjects DISABLE TRIGGER guard_rows');
foreach my $case ([ 'another event of the stream', q{(SELECT data FROM eventstore.events_0 WHERE position = 4)} ], [ 'another field', q{jsonb_set(data, '{x}', data->'y')} ], [ 'plain text', q{jsonb_set(data, '{x}', '"x1"')} ],
	[ 'null', q{jsonb_set(data, '{x}', 'null')} ], [ 'a byte', q{jsonb_set(data, '{x}', to_jsonb(overlay(data->>'x' placing CASE substr(data->>'x', 120, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 120 for 1)))} ],
	[ 'another subject\'s', q{(SELECT data FROM eventstore.events_0 WHERE position = 2)} ])
{
	my ($what, $data) = @$case;
	my $was = changed('SELECT data FROM eventstore.events_0 WHERE position = 1');

	changed("UPDATE eventstore.events_0 SET data = $data WHERE position = 1");
	is(join(' ', map { sqlstates($node, 'changed', $_) } (q{SELECT * FROM es_read('c-1')}, 'SELECT * FROM es_read_all()', 'SELECT data FROM es_events')), 'VE008 VE008 VE008', "$what in the place of a field");
	changed("UPDATE eventstore.events_0 SET data = '$was' WHERE position = 1");
}
is(changed(q{SELECT string_agg(data->>'x', ' ' ORDER BY position) FROM es_read_all()}), 'x1 x2 x3 later', 'and all is well when that is undone');
changed(q{UPDATE eventstore.events_0 SET data = jsonb_set(data, '{x}', '"forged"') WHERE position = 1});
is(changed(q{SELECT string_agg(data->>'x', ' ' ORDER BY position) FROM es_poll('s')}) . changed(q{SELECT string_agg(data->>'x', ' ' ORDER BY position) FROM es_poll('s')}), 'x2 x3 laterx2 x3 later', 'a consumer goes on past it') or diag changed('SELECT * FROM es_subscriptions');
like(changed(q{SELECT position, reason FROM es_parked('s')}), qr/^1\|its protected fields cannot be decrypted/, '... and finds it parked');
changed(q{UPDATE eventstore.subjects SET wrapped = (SELECT o.wrapped FROM eventstore.subjects o WHERE o.subject = '3') WHERE subject = '2'});
is(sqlstates($node, 'changed', q{SELECT * FROM es_read('c-2')}), 'VE008', 'the key of another subject');
changed(q{UPDATE eventstore.subjects SET subject = '4' WHERE subject = '3'});
is(sqlstates($node, 'changed', q{SELECT * FROM es_read('c-3')}), 'VE008', 'a key under the name of another subject, which es_shred would not find');
changed(q{DELETE FROM eventstore.subjects WHERE subject = '4'});
is(sqlstates($node, 'changed', q{SELECT * FROM es_read('c-3')}), 'VE008', 'and no key at all');
$node->stop;
done_testing();
