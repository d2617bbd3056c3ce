# esfeed with a file: history and what comes, each event once and byte by byte
# as the feed has it; ends, repairs, filters, formats, options, refusals.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main');

# ---- history, then what comes
append($node, "order-$_", qw(Placed Shipped)) foreach 1 .. 20;
append($node, 'invoice-1', 'Sent');
my ($status, $out, $err) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/basic");
is($status, 4, 'without --create there is no feed');
like($err, qr/feed "basic" does not exist.*hint: Use --create/s, 'it says so');

($status, $out, $err) = esfeed($node, '--feed', 'basic', '--create', '--to', "file:$dir/basic", '--until-caught-up');
is($status, 0, 'history is delivered');
is($out, '', 'nothing on standard output');
is_deeply([ lines("$dir/basic") ], [ stored_messages($node) ], 'history in order of positions, byte by byte');
my $run = start_esfeed($node, '--feed', 'basic', '--create', '--to', "file:$dir/basic");
append($node, 'order-1', 'Closed');
ok(wait_for_line("$dir/basic", 'Closed'), 'what comes is delivered');
$node->safe_psql('postgres', "BEGIN; SELECT es_append('order-2', 'Undone'); ROLLBACK");
append($node, 'order-2', 'Closed');
ok(wait_for_line("$dir/basic", '"order-2".*Closed'), 'again');
is(stop_esfeed($run), 0, 'SIGTERM is a clean end');
is_complete([ lines("$dir/basic") ], [ stored_messages($node) ], 'each event once, as es_feed_message has it');
my %state = state_of("$dir/basic");
is($state{length}, -s "$dir/basic", 'the state is about the whole file');
is($node->safe_psql('postgres', "SELECT confirmed_lsn = '$state{lsn}' FROM es_feeds WHERE feed = 'basic'"), 't',
	'the server knows of everything');

# ---- a file that somebody else has
$run = start_esfeed($node, '--feed', 'basic', '--to', "file:$dir/basic");
ok(wait_for_line($run->{err}, 'streaming'), 'it goes on');
symlink("$dir/basic", "$dir/alias") or die;
($status, $out, $err) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/alias");
is($status, 5, 'two esfeeds cannot have one file');
like($err, qr/another esfeed writes to/, 'it says so');
($status, $out, $err) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/other");
is($status, 5, 'nor one feed');
like($err, qr/feed "basic" is in use/, 'it says so');
($status, $out, $err) = esfeed($node, '--feed', 'basic', '--drop');
is($status, 5, 'a feed that is read is not dropped');
is(stop_esfeed($run), 0, 'the first one was not disturbed');

# ---- an unfinished last line, and lines after the last checkpoint
{
	my $whole = slurp_file("$dir/basic");
	append($node, 'order-3', 'Closed');
	my ($message) = stored_messages($node, "stream = 'order-3' AND type = 'Closed'");
	append_to_file("$dir/basic", substr($message, 0, 50));
	($status) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/basic", '--until-caught-up');
	is(slurp_file("$dir/basic"), "$whole$message\n", 'an unfinished line is cut off, and comes whole');

	append($node, 'order-4', 'Closed', 'Opened');
	($message) = stored_messages($node, "stream = 'order-4' AND type = 'Closed'");
	append_to_file("$dir/basic", "$message\n\0\0\0\0");
	($status) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/basic", '--until-caught-up');
	is($status, 0, 'lines after the checkpoint are known');
	is_complete([ lines("$dir/basic") ], [ stored_messages($node) ], 'and do not come again');
}

# ---- files that cannot be
{
	append_to_file("$dir/strange", "hello\n");
	($status, $out, $err) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/strange");
	is($status, 6, 'a file without state is left alone');
	is(slurp_file("$dir/strange"), "hello\n", 'as it is');
	($status, $out, $err) = esfeed($node, '--feed', 'basic', '--types', 'Sent', '--to', "file:$dir/basic");
	is($status, 1, 'a file goes on as it was begun');
	like($err, qr/begun with --types=/, 'it says so');
	truncate("$dir/basic", 100) or die;
	($status, $out, $err) = esfeed($node, '--feed', 'basic', '--to', "file:$dir/basic");
	is($status, 6, 'a file that was cut is no basis');
	like($err, qr/100 bytes, but had/, 'it says so');
	($status) = esfeed($node, '--feed', 'basic', '--to', 'file:/dev/null');
	is($status, 1, 'a device is no file');
}
is((esfeed($node, '--feed', 'basic', '--drop'))[0], 0, '--drop drops');
is((esfeed($node, '--feed', 'basic', '--drop'))[0], 4, 'once');

# ---- where to begin, filters, formats
{
	my $head = $node->safe_psql('postgres', 'SELECT es_settled_position()');
	foreach my $case (
		[ 'now', "position > $head", '--from', 'now' ],
		[ 'after', 'position > 10', '--from', '10' ],
		[ 'later', 'position > ' . ($head + 1), '--from', $head + 1 ],
		[ 'categories', "stream LIKE 'invoice-%'", '--categories', 'invoice, nothing' ],
		[ 'types', "type IN ('Sent', 'a,b')", '--types', '["Sent", "a,b"]' ])
	{
		my ($name, $condition, @args) = @$case;
		my @run = ($node, '--feed', $name, '--create', '--until-caught-up', '--to', "file:$dir/$name", @args);
		is((esfeed(@run))[0], 0, "$name: history");
		append($node, 'invoice-2', 'Sent', 'Paid', 'a,b') if $name eq 'now';
		is((esfeed(@run))[0], 0, "$name: what comes");
		is_deeply([ lines("$dir/$name") ], [ stored_messages($node, $condition) ], "$name: as asked for");
	}
	my @run = ($node, '--feed', 'cloud', '--create', '--until-caught-up', '--format', 'cloudevents', '--to', "file:$dir/cloud");
	is((esfeed(@run))[0], 0, 'cloudevents: history');
	append($node, 'invoice-3', 'Sent');
	is((esfeed(@run))[0], 0, 'cloudevents: what comes');
	is_deeply([ lines("$dir/cloud") ], [ stored_messages($node, 'true', 'cloudevents') ], 'cloudevents: byte by byte');
	like((lines("$dir/cloud"))[-1], qr/"specversion":"1.0"/, 'which they are');
}

# ---- a feed that was created in SQL, and one that a file begins with anew
{
	$node->safe_psql('postgres', "SELECT es_create_feed('sql')");
	append($node, 'sql-1', 'Between');
	is((esfeed($node, '--feed', 'sql', '--until-caught-up', '--to', "file:$dir/sql"))[0], 0, 'a feed created in SQL');
	append($node, 'sql-1', 'After');
	is((esfeed($node, '--feed', 'sql', '--until-caught-up', '--to', "file:$dir/sql2"))[0], 0, 'and another file');
	is_deeply([ lines("$dir/sql2") ], [ stored_messages($node) ], 'which has everything, whatever the slot has given before');
	($status, $out, $err) = esfeed($node, '--feed', 'sql', '--until-caught-up', '--to', "file:$dir/sql");
	is($status, 6, 'the first file notices that somebody else has read the feed');
	($status) = esfeed($node, '--feed', 'sql', '--create', '--until-caught-up', '--to', "file:$dir/sql");
	is($status, 0, 'and is healed');
	is_complete([ lines("$dir/sql") ], [ stored_messages($node) ], 'with every event once');
}

# ---- appends in flight when history is read
{
	my $writer = $node->background_psql('postgres');
	$writer->query_safe('BEGIN');
	$writer->query_safe("SELECT es_append('flight-1', 'Flies')");
	append($node, 'flight-2', 'Lands');
	$run = start_esfeed($node, '--feed', 'sql', '--create', '--to', "file:$dir/flight");
	ok(wait_for_line($run->{err}, 'waiting for transactions'), 'history ends where an append is in flight');
	is(scalar(grep { /flight-/ } lines("$dir/flight")), 0, 'nothing is stepped over');
	$writer->query_safe('COMMIT');
	$writer->quit;
	ok(wait_for_line("$dir/flight", 'Lands'), 'then it goes on');
	is(stop_esfeed($run), 0, 'to a clean end');
	is_deeply([ lines("$dir/flight") ], [ stored_messages($node) ], 'in order, with every event once');
}

# ---- privileges of a consumer
{
	$node->safe_psql('postgres', "CREATE ROLE consumer LOGIN REPLICATION; SELECT es_create_feed('granted');");
	my $as = $node->connstr('postgres') . ' user=consumer';
	($status, $out, $err) = esfeed($as, '--feed', 'granted', '--until-caught-up', '--to', "file:$dir/granted");
	is($status, 3, 'a role without rights is refused');
	like($err, qr/permission denied for the event store.*privilege "read".*42501/s, 'it says what it lacks');
	$node->safe_psql('postgres', q{SELECT es_grant('consumer', 'read')});
	is((esfeed($as, '--feed', 'granted', '--until-caught-up', '--to', "file:$dir/granted"))[0], 0, 'with "read" it can read a feed');
	is_complete([ lines("$dir/granted") ], [ stored_messages($node) ], 'all of it');
	$node->safe_psql('postgres', q{SELECT es_revoke('consumer', 'read'), es_grant('consumer', 'read', 'order')});
	foreach my $feed ('granted', 'denied')
	{
		($status, $out, $err) = esfeed($as, '--feed', $feed, '--create', '--until-caught-up', '--to', "file:$dir/not_$feed");
		is($status, 3, "with \"read\" on a category it can neither read nor create one of all: $feed");
		like($err, qr/privilege "read" on "\*"/, 'it says what it lacks');
	}
	is((esfeed($as, '--feed', 'granted', '--categories', 'order', '--until-caught-up', '--to', "file:$dir/of_it"))[0], 0, 'but of one that category');
	is((esfeed($as, '--feed', 'own', '--categories', 'order', '--create', '--until-caught-up', '--to', "exec:cat >$dir/own"))[0], 0, 'and create one of its own');
	is_complete([ lines("$dir/$_") ], [ stored_messages($node, q{e.stream LIKE 'order-%'}) ], "all of that: $_") foreach qw(of_it own);
}

# ---- the command line
foreach my $case (
	[ 'no feed', qr/--feed is missing/ ],
	[ 'a bad name', qr/lower-case/, '--feed', 'A' ],
	[ 'an unknown option', qr/unrecognized option.*--help/s, '--feed', 'a', '--frobnicate' ],
	[ 'a bad start', qr/--from takes/, '--feed', 'a', '--from', '-1' ],
	[ 'a bad format', qr/--format takes/, '--feed', 'a', '--format', 'xml' ],
	[ 'a bad sink', qr/--to takes/, '--feed', 'a', '--to', 'disk:x' ],
	[ 'nowhere', qr/--to lacks/, '--feed', 'a', '--to', 'file:' ],
	[ 'an argument', qr/unexpected argument/, '--feed', 'a', 'b' ],
	[ 'a bad list', qr/--types is neither/, '--feed', 'a', '--types', '[1' ],
	[ 'an empty list', qr/a list must not be empty/, '--feed', 'a', '--categories', '' ],
	[ 'an empty name', qr/--types has a name that is empty/, '--feed', 'a', '--types', 'a,,b' ],
	[ 'drop and create', qr/does not go with/, '--feed', 'a', '--drop', '--create' ])
{
	my ($name, $pattern, @args) = @$case;
	($status, $out, $err) = esfeed($node, @args);
	is($status, 1, "$name: exit status 1");
	like($err, $pattern, "$name: the message");
}
($status, $out) = esfeed($node, '--help');
is($status, 0, '--help');
like($out, qr/Usage:.*--until-caught-up/s, 'which helps');
like((esfeed($node, '--version'))[1], qr/^esfeed \(eventstore\) \d/, '--version');

# ---- what the server lacks
{
	is((esfeed($node->connstr('nosuch'), '--feed', 'a'))[0], 2, 'no such database');
	$node->safe_psql('postgres', 'CREATE DATABASE bare');
	($status, $out, $err) = esfeed($node->connstr('bare'), '--feed', 'a', '--create');
	is($status, 3, 'a database without the extension');
	like($err, qr/has no event store/, 'it says so');
	my $standby = start_standby($node);
	($status, $out, $err) = esfeed($standby, '--feed', 'a', '--create');
	is($status, 3, 'a standby');
	like($err, qr/is a standby.*target_session_attrs/s, 'it says so');
	$standby->stop;
	$node->safe_psql('postgres', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
	$node->append_conf('postgresql.conf', "wal_level = replica\n");
	$node->restart;
	($status, $out, $err) = esfeed($node, '--feed', 'a', '--create');
	is($status, 3, 'wal_level');
	like($err, qr/"wal_level" to be "logical", not "replica".*hint: Set "wal_level" to "logical"/s, 'it says so');
}

done_testing();
