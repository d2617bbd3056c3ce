
# Lists of names of any length: what they give, in segments of any size and with holes;
# what they cost; and that who has given one can take it back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $most_memory = 400 * 1024;    # kB for the longest list there may be

seed();
my $node = new_node('main', conf => "jit = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');

# Segments so small that a read goes through many, runs of all lengths, and holes.
my $categories = 60;
my @appends;
foreach (1 .. 400)
{
	my $stream = 'c' . int(rand() ** 2 * $categories) . '-' . int(rand 3);
	my $events = rand() < 0.5 ? 1 : 1 + int(rand 40);
	my $append = "SELECT es_append_batch('$stream', (SELECT jsonb_agg(jsonb_build_object('type', 'T' || i % 5)) FROM generate_series(1, $events) i));";

	push @appends, rand() < 0.1 ? "BEGIN; $append ROLLBACK;" : $append;
}
$node->safe_psql('postgres', "SELECT es_set_segment_size(" . (100 + int(rand 400)) . "); @appends");
$node->safe_psql('postgres', q{
	CREATE FUNCTION must(after bigint, most bigint, filter text[], kinds text[]) RETURNS bigint[] LANGUAGE sql AS $$
		SELECT array_agg(position ORDER BY position) FROM (SELECT position FROM es_events
			WHERE position > after AND split_part(stream, '-', 1) = ANY (filter) AND (kinds IS NULL OR type = ANY (kinds)) ORDER BY position LIMIT most) e $$;
	CREATE FUNCTION gives(after bigint, most bigint, filter text[], kinds text[]) RETURNS bigint[] LANGUAGE sql AS $$
		SELECT array_agg(position ORDER BY number) FROM es_read_all(after, most, filter, kinds) WITH ORDINALITY
			e(position, stream, version, type, type_version, data, metadata, event_id, recorded_at, number) $$});
my $last = $node->safe_psql('postgres', 'SELECT es_settled_position()');
my @arguments;
foreach (1 .. 300)
{
	my $first = int(rand $categories);
	my $names = int(exp(rand 8));
	my $after = rand() < 0.2 ? 0 : int(rand $last);
	my $most = rand() < 0.5 ? 'NULL' : 1 + int(rand 100);
	my $kinds = rand() < 0.7 ? 'NULL' : "'{T1,T2}'";
	push @arguments, "$after, $most, (SELECT array_agg('c' || i ORDER BY random()) FROM generate_series($first, $first + $names) i), $kinds";
}
is($node->safe_psql('postgres', join('', map { "SELECT \$call\$$_\$call\$ WHERE must($_) IS DISTINCT FROM gives($_);\n" } @arguments)), '', 'reads of many categories give what the filter says, in order');

# Followers with long lists and short ones see the same.
$node->safe_psql('postgres', q{
	CREATE TABLE seen(who text, stream text, version bigint);
	CREATE FUNCTION note_short(e es_event) RETURNS void LANGUAGE sql AS $$INSERT INTO seen VALUES ('short', e.stream, e.version)$$;
	CREATE FUNCTION note_long(e es_event) RETURNS void LANGUAGE sql AS $$INSERT INTO seen VALUES ('long', e.stream, e.version)$$;
	SELECT es_create_handler_projection('short', 'note_short(es_event)', 'async', '{c1,c2,c3,c4}', '{T1,T2}');
	SELECT es_create_handler_projection('long', 'note_long(es_event)', 'async',
		(SELECT array_agg('x' || i) FROM generate_series(1, 30000) i) || '{c1,c2,c3,c4,c4,c4}'::text[],
		(SELECT array_agg('x' || i) FROM generate_series(1, 30000) i) || '{T2,T1}'::text[]);
	SELECT es_run_projection('short'), es_run_projection('long')});
is($node->safe_psql('postgres', q{SELECT count(DISTINCT n) = 1 AND min(n) > 0 FROM (SELECT string_agg(stream || version, ',' ORDER BY stream, version), count(*) AS n FROM seen GROUP BY who) s}),
	't', 'a projection with a long list takes in what one with a short list does');

# One name is one name.  The timeout is there to end it, were it not.
is($node->safe_psql('postgres', q{
		SET statement_timeout = '20s';
		SELECT gives(0, 10, array_fill('c1'::text, ARRAY[30000]), NULL) = gives(0, 10, '{c1}', NULL)}),
	't', 'a name that is given 30,000 times is one name');

# What no one can mean is refused before it costs anything; the longest list costs little.
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
foreach my $call ("es_read_all(0, 10, %s)", "es_read_all(0, 10, types => %s)", "es_read_category('c1', 0, 10, %s)", "es_read_tagged(%s)",
	"es_append_if('[]', 0, %s)", "es_append_if('[]', 0, NULL, %s)", "es_subscribe('s', 0, %s)", "es_create_handler_projection('p', 'note_long(es_event)', 'async', %s)")
{
	is(sqlstates($node, 'postgres', 'SELECT * FROM ' . sprintf($call, q{array_fill('c1'::text, ARRAY[2000000])})), '54000', "2,000,000 names: $call");
}
SKIP:
{
	my $before = status_of($pid, 'VmHWM') // skip('no /proc', 1);

	$session->query(q{SELECT count(*) FROM es_read_all(0, 10, (SELECT array_agg('c' || i) FROM generate_series(1, 1000000) i))});
	cmp_ok(status_of($pid, 'VmHWM') - $before, '<', $most_memory, 'a list of 1,000,000 names takes little memory');
}
$session->quit;

# Who has asked for a lot of work can take it back.
$node->safe_psql('postgres', q{
	SELECT es_create_reducer('r');
	CREATE TABLE large AS SELECT jsonb_agg(jsonb_build_object('set', jsonb_build_object('x' || i, '$.data.x'))) AS ops FROM generate_series(1, 2000000) i});
my $large = start_script($node, 'postgres', "\\set VERBOSITY sqlstate\nSELECT es_register_reducer_ops('r', 'T', ops) FROM large;\n");
$node->poll_query_until('postgres', q{SELECT count(pg_cancel_backend(pid)) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT es_register_reducer_ops%'})
  or die 'the call does not begin';
my (undef, $error) = finish_script($large);
like($error, qr/57014/, 'a call that is cancelled ends');

done_testing();
