# esfeed among settings, names and neighbours that mean it no good: each is to
# cost nothing, or to be told.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main', "max_replication_slots = 30\n");
my ($status, $out, $err, $run);

append($node, "order-$_", 'Placed') foreach 1 .. 20;

# ---- settings of the role, and an encoding that is not the database's
{
	$node->safe_psql('postgres', "CREATE ROLE hostile LOGIN SUPERUSER; CREATE SCHEMA evil;
		CREATE FUNCTION evil.es_feed_message(es_event, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil'''");
	$node->safe_psql('postgres', "ALTER ROLE hostile SET $_")
	  foreach ("search_path = evil, public", "client_encoding = 'LATIN1'", "DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", "statement_timeout = 30",
		"lock_timeout = 1", "idle_session_timeout = 100", "default_transaction_read_only = on", "default_transaction_isolation = 'serializable'",
		"standard_conforming_strings = off", "quote_all_identifiers = on", $node->pg_version >= 17 ? "transaction_timeout = 100" : ());
	my @run = ($node->connstr('postgres') . ' user=hostile', '--feed', 'settings', '--create', '--until-caught-up',
		'--categories', "caf\xc3\xa9", '--to', "file:$dir/settings");

	append($node, "caf\xc3\xa9-1", 'History');
	is((esfeed(@run))[0], 0, 'settings of the role: history');
	append($node, "caf\xc3\xa9-1", 'Later');
	append($node, "order-1", 'Later');
	is((esfeed(@run))[0], 0, 'settings of the role: what comes');
	is_deeply([ lines("$dir/settings") ], [ stored_messages($node, "stream LIKE 'caf%'") ], 'the filter means the same to both');
	append($node, "caf\xc3\xa9-2", 'Latest');
	$run[0] .= ' replication=database';
	local $ENV{PGCLIENTENCODING} = 'LATIN1';
	is((esfeed(@run))[0], 0, 'PGCLIENTENCODING');
	delete $ENV{PGCLIENTENCODING};
	is_deeply([ lines("$dir/settings") ], [ stored_messages($node, "stream LIKE 'caf%'") ], 'does not matter either');
}

# ---- the connection that is to stream waits for history, longer than the role's sessions may be idle
{
	my $writer = $node->background_psql('postgres');

	$node->safe_psql('postgres', "SELECT es_create_feed('idle')");
	$writer->query_safe('BEGIN');
	$writer->query_safe("SELECT es_append('flight-0', 'Flies')");
	$run = start_esfeed($node->connstr('postgres') . ' user=hostile', '--feed', 'idle', '--to', "file:$dir/idle");
	ok(wait_for_line($run->{err}, 'waiting for transactions'), 'history is being delivered');
	$writer->query_safe('COMMIT');
	$writer->quit;
	ok(wait_for_line($run->{err}, 'streaming'), 'then it streams');
	is(stop_esfeed($run), 0, 'it ends');
	unlike(slurp_file($run->{err}), qr/warning:/, 'by the connections that it began with');
	is_complete([ lines("$dir/idle") ], [ stored_messages($node) ], 'every event once');
	is((esfeed($node, '--feed', 'idle', '--drop'))[0], 0, 'dropped');
}

# ---- somebody reads the feed while its history is being delivered
{
	my $writer = $node->background_psql('postgres');

	$node->safe_psql('postgres', "SELECT es_create_feed('shared')");
	$writer->query_safe('BEGIN');
	$writer->query_safe("SELECT es_append('flight-1', 'Flies')");
	my @run = ($node, '--feed', 'shared', '--to', "file:$dir/shared");
	$run = start_esfeed(@run);
	ok(wait_for_line($run->{err}, 'waiting for transactions'), 'history is being delivered');
	append($node, 'stolen-1', 'Stolen');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_logical_slot_get_changes('es_shared', NULL, NULL)"), '1', 'somebody reads the feed');
	$writer->query_safe('COMMIT');
	$writer->quit;
	ok(wait_for_line($run->{err}, 'error:.*somebody else has read it'), 'it is told before anything else is delivered');
	$run->{handle}->finish;
	is($run->{handle}->full_result(0) >> 8, 6, 'with exit status 6');
	is((esfeed(@run, '--create', '--until-caught-up'))[0], 0, '--create heals it');
	is_complete([ lines("$dir/shared") ], [ stored_messages($node) ], 'every event once');
	is((esfeed($node, '--feed', 'shared', '--drop'))[0], 0, 'dropped');
}

# ---- standard files that are closed
{
	my @run = ('-d', $node->connstr('postgres'), '--feed', 'closed', '--create', '--until-caught-up');

	IPC::Run::run([ 'sh', '-c', 'exec esfeed "$@" >&-', 'sh', @run ], '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	is($? >> 8, 7, 'standard output is closed');
	like($err, qr/standard output is closed/, 'it says so');
	IPC::Run::run([ 'sh', '-c', 'exec esfeed "$@" <&- >&- 2>&-', 'sh', @run, '--to', "file:$dir/closed" ]);
	is($?, 0, 'all are closed');
	is_deeply([ lines("$dir/closed") ], [ stored_messages($node) ], 'and what is printed there is not in the file');
	IPC::Run::run([ 'sh', '-c', 'exec esfeed "$@" <&- >&- 2>&-', 'sh', @run, '--feed', 'closed2',
		'--to', "exec:while read -r line; do printf '%s\\n' \"\$line\" >>$dir/closed2; echo; done" ]);
	is($?, 0, 'nor does a command mind');
	is_deeply([ lines("$dir/closed2") ], [ stored_messages($node) ], 'which gets everything');
}

# ---- signals that are ignored
{
	my $file = "$dir/nohup";
	my $nohup = IPC::Run::start([ 'sh', '-c', "trap '' HUP INT CHLD; exec esfeed \"\$@\"", 'sh', '-d', $node->connstr('postgres'),
		'--feed', 'nohup', '--create', '--to', "file:$file" ], '2>', "$file.err");

	ok(wait_for_line("$file.err", 'streaming'), 'started with signals ignored');
	$nohup->signal($_) foreach qw(HUP INT);
	append($node, 'nohup-1', 'Still');
	ok(wait_for_line($file, 'Still'), 'it does not end by them');
	$nohup->signal('TERM');
	$nohup->finish;
	is($nohup->full_result(0), 0, 'SIGTERM is a clean end');
}
is((esfeed($node, '--hfoo'))[0], 1, 'an option that begins like --help is none');

# ---- feeds of similar names
{
	$node->safe_psql('postgres', "SELECT es_create_feed('$_')") foreach qw(search_new search_old search2);
	is((esfeed($node, '--feed', 'search', '--create', '--until-caught-up'))[0], 0, 'a feed is created');
	is((esfeed($node, '--feed', 'search', '--create', '--until-caught-up'))[0], 0, 'and read');
	is((esfeed($node, '--feed', 'search', '--drop'))[0], 0, 'and dropped');
	is($node->safe_psql('postgres', "SELECT string_agg(feed, ' ' ORDER BY feed) FROM es_feeds WHERE feed LIKE 'search%'"),
		'search2 search_new search_old', 'and others of its kind are left alone');
	($status, $out, $err) = esfeed($node, '--feed', 'search_unfinished', '--create');
	is($status, 1, 'the name of a feed that is being made is no name');
	like($err, qr/names that end in _unfinished/, 'it says so');
	($status, $out, $err) = esfeed($node, '--feed', 'x' x 50, '--create', '--until-caught-up');
	is($status, 1, 'a name that has no room for that');
	like($err, qr/at most 49 bytes/, 'is told');
	is((esfeed($node, '--feed', 'x' x 49, '--create', '--until-caught-up'))[0], 0, 'one that has will do');
	is((esfeed($node, '--feed', 'x' x 60, '--create', '--until-caught-up', '--to', "file:$dir/long"))[0], 0, 'and a file needs no room');
	($status, $out, $err) = esfeed($node, '--feed', 'search_old', '--until-caught-up');
	is($out, '', 'for standard output the history of a feed that exists is delivered');
	like($err, qr/history counts as delivered/, 'it says so');
}

# ---- a file that is moved, removed or cut underneath
foreach my $case (
	[ 'moved', sub { rename($_[0], "$_[0].1") }, qr/moved or removed/ ],
	[ 'removed', sub { unlink($_[0]) }, qr/moved or removed/ ],
	[ 'cut', sub { truncate($_[0], 0) }, qr/has changed/ ],
	[ 'written', sub { append_to_file($_[0], "more\n") }, qr/has changed/ ])
{
	my ($name, $act, $pattern) = @$case;
	my $file = "$dir/$name";
	my @run = ($node, '--feed', $name, '--create', '--to', "file:$file");

	$run = start_esfeed(@run);
	ok(wait_for_line($run->{err}, 'streaming'), "$name: it streams");
	$act->($file) or $name eq 'written' or die;
	my $lsn = $node->lsn('insert');
	append($node, 'rotated-1', $name);
	ok(wait_for_line($run->{err}, 'error:'), "$name: it ends");
	$run->{handle}->finish;
	is($run->{handle}->full_result(0) >> 8, 6, "$name: with exit status 6");
	like(slurp_file($run->{err}), $pattern, "$name: it says so");
	is($node->safe_psql('postgres', "SELECT confirmed_lsn <= '$lsn' FROM es_feeds WHERE feed = '$name'"), 't', "$name: nothing is confirmed");
	next if $name ne 'moved';
	rename("$file.1", $file) or die;
	is((esfeed(@run, '--until-caught-up'))[0], 0, "$name: back again it goes on");
	is_complete([ lines($file) ], [ stored_messages($node) ], "$name: every event once");
}

# ---- ended while something is being waited for
{
	my $writer = $node->background_psql('postgres');

	# a new feed waits for those who write, history for those who have appended
	$writer->query_safe('BEGIN');
	$writer->query_safe("SELECT es_append('slow-1', 'Slow')");
	$run = start_esfeed($node, '--feed', 'ended', '--create', '--to', "file:$dir/ended");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%es_create_feed%' AND wait_event = 'transactionid'"),
		'the feed is being created');
	is(stop_esfeed($run), 0, 'ended then');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = 'es_ended'"), 'no feed is left');
	$run = start_esfeed($node, '--feed', 'search_old', '--to', "file:$dir/ended2");
	ok(wait_for_line($run->{err}, 'waiting for transactions'), 'history is being waited for');
	$run->{handle}->signal('INT');
	$run->{handle}->finish;
	is($run->{handle}->full_result(0), 0, 'ended then, by SIGINT');
	$writer->query_safe('ROLLBACK');
	$writer->quit;
	foreach my $file (qw(ended ended2))
	{
		is((esfeed($node, '--feed', $file eq 'ended' ? 'ended' : 'search_old', '--create', '--until-caught-up', '--to', "file:$dir/$file"))[0], 0, "$file: it goes on");
		is_complete([ lines("$dir/$file") ], [ stored_messages($node) ], "$file: every event once");
	}

	# a sink that takes nothing, and one that never acknowledges
	foreach my $case ([ 'blocks', 'exec sleep 1000' ], [ 'keeps', 'while read -r line; do :; done; exec sleep 1000' ])
	{
		my ($name, $command) = @$case;

		$run = start_esfeed($node, '--feed', $name, '--create', '--from', 'now', '--to', "exec:$command");
		ok(wait_for_line($run->{err}, 'streaming'), "$name: it streams");
		$node->safe_psql('postgres', "SELECT count(es_append('blocks-1', 'B', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 300)");
		$run->{handle}->signal('HUP');
		$run->{handle}->finish;
		is($run->{handle}->full_result(0), 0, "$name: ended, by SIGHUP");
		like(slurp_file($run->{err}), qr/the command does not end, \d+ lines are unacknowledged/, "$name: it says what is open");
		my ($status, $out) = esfeed($node, '--feed', $name, '--until-caught-up');
		is(scalar(my @lines = split /\n/, $out), 300, "$name: and that comes again");
	}

	# a server that is away
	$run = start_esfeed($node, '--feed', 'search_new', '--to', "file:$dir/away");
	ok(wait_for_line($run->{err}, 'streaming'), 'it streams');
	$node->stop('immediate');
	ok(wait_for_line($run->{err}, 'could not connect'), 'the server is away');
	is(stop_esfeed($run), 0, 'ended then');
	$node->start;
	is((esfeed($node, '--feed', 'search_new', '--until-caught-up', '--to', "file:$dir/away"))[0], 0, 'it goes on');
	is_complete([ lines("$dir/away") ], [ stored_messages($node) ], 'every event once');
}

# ---- progress on a terminal
SKIP:
{
	skip 'script is not installed', 2 unless grep { -x "$_/script" } split /:/, $ENV{PATH};
	my $connstr = $node->connstr('postgres');
	my $screen = '';

	# more than may be unacknowledged
	$node->safe_psql('postgres', "SELECT count(es_append('progress-' || n % 5, 'P', to_jsonb(repeat('x', 60000)))) FROM generate_series(1, 600) n");
	IPC::Run::run([ 'script', '-qec', "esfeed -d \"$connstr\" --feed progress --create --until-caught-up " .
		"--types P --to 'exec:perl -ne \"select undef, undef, undef, 0.005; syswrite STDOUT, qq{\\\\n}\"'", '/dev/null' ], '<', '/dev/null', '>', \$screen);
	like($screen, qr{history: \d+ events, \d+ events/s, position \d+ of \d+ \(\d+ %\)}, 'a terminal shows how far it is');
	like($screen, qr{ready in \d+:\d\d:\d\d}, 'and when it will be ready');
}

done_testing();
