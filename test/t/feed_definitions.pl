# What feeds let through, as of each place in the WAL: consumers that lag behind changes,
# transactions that span them, the moment in which a feed is made, names that come
# again, and what becomes of definitions without their slots and the reverse.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreFeed;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('definitions', streaming => 'logical', conf => "logical_decoding_work_mem = 64kB\nautovacuum = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }
sub append { my ($stream, @types) = @_; sql(join(' ', map { "SELECT es_append('$stream', '$_');" } @types)); return; }

# What would come of a slot: the types in order, of CloudEvents in upper case.
sub peek
{
	my ($slot, @options) = @_;
	my $options = join(', ', map { "'$_'" } @options);

	return sql("SELECT string_agg(CASE WHEN e ? 'specversion' THEN upper(e->>'type') ELSE e->>'type' END, ' ' ORDER BY n) FROM (
		SELECT data::jsonb AS e, n FROM pg_logical_slot_peek_changes('$slot', NULL, NULL, VARIADIC ARRAY[$options]::text[]) WITH ORDINALITY p(lsn, xid, data, n)) x");
}

sub feed_row { my ($feed) = @_; return sql("SELECT slot_name, categories, types, format FROM es_feeds WHERE feed = '$feed'"); }

# ---- a consumer that lags behind
sql("SELECT es_create_feed('lag', '{a,b}', NULL, 'json')");
append('a-1', 'a1');
append('c-1', 'c1');
sql("SELECT es_alter_feed('lag', '{c}', NULL, NULL)");
append('a-1', 'a2');
append('c-1', 'c2', 'other');
sql("SELECT es_alter_feed('lag', NULL, '{a3,c3}', 'cloudevents')");
append('a-1', 'a3');
append('c-1', 'c3', 'other');
sql("SELECT es_alter_feed('lag', '{}', '{}', NULL)");
append('a-1', 'a4');
append('c-1', 'c4');
sql("SELECT es_alter_feed('lag', NULL, NULL, NULL)");
my $all = 'a1 c2 other C3 A4 C4';
is(peek('es_lag'), $all, 'each event comes as the feed was at its commit');
is(peek('es_lag'), $all, 'the same once more');
is(peek('es_lag', categories => 'a'), 'a1 A4', 'a consumer narrows it');
is(peek('es_lag', types => 'c2,c3,c1'), 'c2 C3', 'by types, too');
is(peek('es_lag', format => 'cloudevents'), uc $all, 'who asks for CloudEvents gets them of a feed in JSON');
is(sqlstates($node, 'postgres', "SELECT * FROM pg_logical_slot_peek_changes('es_lag', NULL, NULL, 'format', 'json')"), '22023',
	'who insists on JSON does not get it of a feed in CloudEvents');
is(feed_row('lag'), 'es_lag|||cloudevents', 'the view shows what it is now');

# ---- it goes on from where it was, whatever has been done to the tables meanwhile
{
	my @taken;
	my $take = sub {
		push @taken, map { $_->{type} } feed_some('es_lag');
		return;
	};
	sub feed_some { my ($slot) = @_; return map { JSON::PP::decode_json($_) } rows($node, 'postgres', "SELECT data FROM pg_logical_slot_get_changes('$slot', NULL, 1)"); }

	$take->();
	sql("VACUUM eventstore.feeds; VACUUM eventstore.feed_definitions");
	$take->();
	sql("VACUUM FULL eventstore.feeds");
	sql("VACUUM FULL eventstore.feed_definitions");
	sql("REINDEX TABLE eventstore.feed_definitions; REINDEX TABLE eventstore.feeds");
	is(peek('es_lag'), 'other C3 A4 C4', 'after VACUUM FULL and REINDEX it goes on by what was');
	$node->stop('immediate');
	$node->start;
	is(peek('es_lag'), 'other C3 A4 C4', 'after a crash, too');
	sql('ALTER TABLE eventstore.feed_definitions ADD COLUMN note text');
	sql("SELECT es_alter_feed('lag', '{a}', NULL, NULL)");
	append('c-1', 'c5');
	append('a-1', 'a5');
	is(peek('es_lag'), 'other C3 A4 C4 A5', 'with a column that somebody has added, too');
	sql('ALTER TABLE eventstore.feed_definitions DROP COLUMN note');
	$take->() for 1 .. 5;
	is("@taken", 'a1 c2 other c3 a4', 'by and by a consumer gets all of it');
}

# ---- revisions that nobody needs are given up
{
	my $revisions = "SELECT count(*) FROM eventstore.feed_definitions d JOIN eventstore.feeds f USING (definition) WHERE name = 'lag'";

	cmp_ok(sql($revisions), '>=', 5, 'revisions are kept while the slot is behind');
	sql("SELECT count(*) FROM pg_logical_slot_get_changes('es_lag', NULL, NULL)");
	# catalog_xmin follows, when the server has noted what is running and that was confirmed
	for (1 .. 3)
	{
		sql('CHECKPOINT');
		append('a-1', 'settled');
		sql("SELECT count(*) FROM pg_logical_slot_get_changes('es_lag', NULL, NULL)");
	}
	sql("SELECT es_alter_feed('lag', '{b}', NULL, NULL)");
	is(sql($revisions), '2', 'and go when no slot can want them');
	append('b-1', 'b6');
	is(peek('es_lag'), 'B6', 'the last one holds');
	sql("SELECT es_drop_feed('lag')");
	is(sql('SELECT count(*) FROM eventstore.feed_definitions') + sql('SELECT count(*) FROM eventstore.feeds'), 0, 'a feed that is dropped leaves nothing');
}

# ---- transactions: what counts is their commit
{
	sql("SELECT es_create_feed('spans', '{a}')");
	my $open = $node->background_psql('postgres');
	$open->query_safe('BEGIN');
	$open->query_safe("SELECT es_append('a-span', 'before')");
	append('a-1', 'old');
	sql("SELECT es_alter_feed('spans', '{b}', NULL, NULL)");
	append('a-1', 'gone');
	$open->query_safe("SELECT es_append('b-span', 'after')");
	$open->query_safe('COMMIT');
	$open->quit;
	is(peek('es_spans'), 'old after', 'a transaction that spans a change goes by the new definition as a whole');

	sql("BEGIN; SELECT es_append('c-1', 'own1'); SELECT es_alter_feed('spans', '{c}', NULL, NULL); SELECT es_append('b-1', 'own2'), es_append('c-1', 'own3'); COMMIT");
	is(peek('es_spans'), 'old after own1 own3', 'so does the one that makes it');
	sql("BEGIN; SAVEPOINT s; SELECT es_alter_feed('spans', '{d}', NULL, NULL); ROLLBACK TO s; SELECT es_append('c-1', 'kept'), es_append('d-1', 'none'); COMMIT");
	sql("BEGIN; SELECT es_alter_feed('spans', '{d}', NULL, NULL); ROLLBACK");
	append('d-1', 'none');
	is(peek('es_spans'), 'old after own1 own3 kept', 'what is rolled back does not count');
	sql("BEGIN; SELECT es_alter_feed('spans', '{d}', NULL, NULL); SELECT es_alter_feed('spans', '{e}', NULL, NULL); SAVEPOINT s; SELECT es_alter_feed('spans', NULL, '{e1}', NULL); RELEASE s; COMMIT");
	sql("SELECT es_append('d-1', 'e1'), es_append('e-1', 'e1'), es_append('e-1', 'e2')");
	is(peek('es_spans'), 'old after own1 own3 kept e1', 'the last one of a transaction counts');
	sql("SELECT es_drop_feed('spans')");
}

# ---- transactions that are sent before their commit
{
	my @frames = qw(include_transaction on streaming on);
	my $big = sub { my ($stream) = @_; return "SELECT count(es_append('$stream', 'Big', to_jsonb(n))) FROM generate_series(1, 1500) n;"; };
	my $streams = sub { my %n; $n{ $_->{stream} }++ foreach grep { exists $_->{position} } @_; return \%n; };

	sql("SELECT es_create_feed('streamed', '{a,x}')");
	my $open = $node->background_psql('postgres');
	$open->query_safe('BEGIN');
	$open->query_safe($big->('a-big') . $big->('b-big'));
	my @first = feed($node, 'postgres', 'es_streamed', @frames);
	ok($streams->(@first)->{'a-big'} > 0, 'a transaction is streamed');
	sql("SELECT es_alter_feed('streamed', '{b,x}', NULL, NULL)");
	append('x-1', 'x');
	$open->query_safe($big->('a-more') . $big->('b-more'));
	$open->query_safe('COMMIT');
	$open->quit;
	my @second = feed($node, 'postgres', 'es_streamed', @frames);
	my $got = $streams->(@second);
	ok(!$got->{'a-more'} && $got->{'b-more'} == 1500, 'what of it is sent after a change goes by that');
	# that session knew nothing of the first, so all of it was streamed again, as it stood in the WAL
	is_deeply([ sort keys %$got ], [qw(a-big b-more x-1)], 'and what was streamed again, by what held at its place') or note explain $got;
	sql("SELECT es_drop_feed('streamed')");

	my @two_phase = (@frames, qw(two_phase on));
	sql("SELECT es_create_feed('prepared', '{a}')");
	feed($node, 'postgres', 'es_prepared', @two_phase);
	sql("BEGIN; SELECT es_append('a-p', 'A'), es_append('b-p', 'B'); SELECT es_alter_feed('prepared', '{b}', NULL, NULL); PREPARE TRANSACTION 'es_p'");
	append('a-2', 'A');
	append('b-2', 'B');
	my @prepared = feed($node, 'postgres', 'es_prepared', @two_phase);
	is_deeply($streams->(@prepared), { 'a-p' => 1, 'a-2' => 1 }, 'a prepared transaction is sent by what holds at its PREPARE');
	sql("COMMIT PREPARED 'es_p'");
	append('a-3', 'A');
	append('b-3', 'B');
	my @committed = feed($node, 'postgres', 'es_prepared', @two_phase);
	is_deeply($streams->(@committed), { 'b-3' => 1 }, 'and its change counts from its COMMIT PREPARED on');
	final_events(@prepared, @committed);
	sql("SELECT es_drop_feed('prepared')");
}

# ---- the moment in which a feed is made: its slot is there, its definition not yet committed
{
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $creator = $node->background_psql('postgres');
	$creator->query_until(qr/started/, "\\echo started\nSELECT head_position, pg_advisory_lock(1) FROM es_create_feed('young', '{a}', NULL, 'cloudevents');\n");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") or die;
	append('a-1', 'early');
	append('b-1', 'none');
	is(peek('es_young'), 'EARLY', 'a consumer gets what the feed is going to have');
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$creator->quit;
	$holder->quit;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM es_feeds WHERE feed = 'young' AND format = 'cloudevents'") or die;
	sql("SELECT es_alter_feed('young', '{b}', NULL, NULL)");
	append('b-1', 'late');
	append('a-1', 'none');
	is(peek('es_young'), 'EARLY LATE', 'what was committed before the definition goes by the first one, not by the newest');

	# the same once more under the same name, while there are rows of the one before
	sql("SELECT pg_drop_replication_slot('es_young')");
	is(feed_row('young'), '|{b}||cloudevents', 'a feed whose slot was dropped is shown without');
	$holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	$creator = $node->background_psql('postgres');
	$creator->query_until(qr/started/, "\\echo started\nSELECT head_position, pg_advisory_lock(1) FROM es_create_feed('young', '{c}');\n");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") or die;
	sql("SELECT es_append('a-1', 'none'), es_append('b-1', 'none'), es_append('c-1', 'early')");
	is(peek('es_young'), 'early', 'a definition that an earlier feed has left does not count');
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$creator->quit;
	$holder->quit;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM es_feeds WHERE feed = 'young' AND format = 'json'") or die;
	is(peek('es_young'), 'early', 'nor afterwards');
	is(sql('SELECT count(*) FROM eventstore.feed_definitions'), '1', 'and is gone');
}

# ---- a slot that is made again by hand under a feed's name, or was never a feed's
sql("SELECT pg_drop_replication_slot('es_young')");
sql("SELECT pg_create_logical_replication_slot('es_young', 'eventstore')");
append('b-1', 'none');
append('c-1', 'again');
is(peek('es_young'), 'again', 'a slot that is made again has what the feed has');
sql("SELECT pg_drop_replication_slot('es_young'); SELECT es_drop_feed('young')");
is(sqlstates($node, 'postgres', "SELECT es_drop_feed('young')"), 'VE004', 'a definition without slot can be dropped, once');

sql("SELECT pg_create_logical_replication_slot('es_bare', 'eventstore'), pg_create_logical_replication_slot('bare', 'eventstore')");
append('a-1', 'any');
is(feed_row('bare'), 'es_bare|||', 'a slot made by hand has no definition');
sql("SELECT es_alter_feed('bare', '{b}', NULL, 'cloudevents')");
append('a-1', 'none');
append('b-1', 'some');
is(peek('es_bare'), 'any SOME', 'es_alter_feed gives it one, from then on');
is(peek('bare'), 'any none some', 'what is not named like a feed is none');
sql("SELECT es_drop_feed('bare'); SELECT pg_drop_replication_slot('bare')");
append('a-1', 'any');

# ---- lists of any length
{
	my $many = "(SELECT array_agg('name' || n) FROM generate_series(1, 50000) n)";

	sql("SELECT es_create_feed('many', $many || '{a}'::text[], $many)");
	sql("SELECT es_append('a-1', 'name50000'), es_append('a-1', 'name0'), es_append('name777-1', 'name1'), es_append('name50001-1', 'name1')");
	sql("SELECT es_alter_feed('many', '{a}', NULL, NULL)");
	sql("SELECT es_append('a-1', 'name2'), es_append('name777-1', 'name1')");
	sql('VACUUM FULL eventstore.feed_definitions');
	is(peek('es_many'), 'name50000 name1 name2', 'lists of 50,000 names are kept as of each place');
	is(sql("SELECT cardinality(types) || ' ' || (types = $many) FROM es_feeds WHERE feed = 'many'"), '50000 true', 'and shown in the order in which they were given');
	sql("SELECT es_drop_feed('many')");
}

# ---- a dump has no feeds, as it has no slots
{
	sql("SELECT es_create_feed('undumped', '{a}')");
	sql('CREATE DATABASE restored');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'the store is dumped');
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ], 'and restored');
	is($node->safe_psql('restored', 'SELECT count(*) FROM es_feeds'), '0', 'feeds are the server\'s own');
}

# ---- nor does a logical subscriber get them, which may have its own of the same name
{
	my $subscriber = new_node('subscriber', streaming => 'logical');

	$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
	sql('CREATE PUBLICATION store FOR TABLES IN SCHEMA eventstore');
	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION store CONNECTION '" . $node->connstr('postgres') . "' PUBLICATION store");
	$subscriber->wait_for_subscription_sync($node, 'store');
	is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM es_feeds'), '0', 'feeds are not copied');
	$subscriber->safe_psql('postgres', "SELECT es_create_feed('own', '{a}'); ");
	sql("SELECT es_create_feed('own', '{b}')");
	sql("SELECT es_alter_feed('own', '{c}', NULL, NULL)");
	sql("SELECT es_drop_feed('own')");
	append('a-1', 'replicated');
	append('b-1', 'none');
	$node->wait_for_catchup('store');
	is($subscriber->safe_psql('postgres', q{SELECT categories FROM es_feeds WHERE feed = 'own'}), '{a}', 'nor replicated');
	is($subscriber->safe_psql('postgres', q{SELECT string_agg(data::jsonb->>'type', ' ') FROM pg_logical_slot_peek_changes('es_own', NULL, NULL)}),
		'replicated', 'a subscriber\'s own feed keeps what it has');
	$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION store');
	$subscriber->stop;
}

# ---- a standby that is promoted has the definition, and no slot
{
	my $standby = start_standby($node);

	sql("SELECT es_alter_feed('undumped', '{b}', NULL, NULL)");
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is($standby->safe_psql('postgres', q{SELECT slot_name, categories FROM es_feeds WHERE feed = 'undumped'}), '|{b}', 'a standby shows what the feed has');
	is(sqlstates($standby, 'postgres', "SELECT es_alter_feed('undumped', '{c}', NULL, NULL)"), '55000', 'and does not change it');
	SKIP:
	{
		skip 'no slots on standbys before PostgreSQL 16', 1 if $node->pg_version < 16;
		my $maker = start_script($standby, 'postgres', "SELECT pg_create_logical_replication_slot('es_undumped', 'eventstore')");
		$node->poll_query_until('postgres', 'SELECT pg_log_standby_snapshot() IS NULL OR true');
		wait_until('a slot', sub { sql('SELECT pg_log_standby_snapshot()'); $standby->safe_psql('postgres', q{SELECT count(*) FROM pg_replication_slots}) });
		finish_script($maker);
		append('a-1', 'none');
		append('b-1', 'standby');
		$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
		is($standby->safe_psql('postgres', q{SELECT string_agg(data::jsonb->>'type', ' ') FROM pg_logical_slot_get_changes('es_undumped', NULL, NULL)}),
			'standby', 'a standby\'s slot has what the feed has');
		$standby->safe_psql('postgres', q{SELECT pg_drop_replication_slot('es_undumped')});
	}
	$standby->promote;
	$standby->safe_psql('postgres', "SELECT es_create_feed('undumped', '{c}')");
	$standby->safe_psql('postgres', "SELECT es_append('b-1', 'none'), es_append('c-1', 'promoted')");
	is($standby->safe_psql('postgres', q{SELECT string_agg(data::jsonb->>'type', ' ') FROM pg_logical_slot_peek_changes('es_undumped', NULL, NULL)}),
		'promoted', 'after its promotion a new feed takes the name over');
	$standby->stop;
}

# ---- a feed of a store that is gone
append('b-1', 'lost');
sql('SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE');
my ($result, $stdout, $stderr) = $node->psql('postgres', "SELECT * FROM pg_logical_slot_peek_changes('es_undumped', NULL, NULL)");
like($stderr, qr/definition of feed "undumped" has been dropped with its event store/, 'what it was to let through is not known any more');
sql("SELECT pg_drop_replication_slot('es_undumped')");

done_testing();
