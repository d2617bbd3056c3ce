# What the store does with protected data when they do not fit into memory. Every temporary file that the server makes is kept,
# and searched for a word of a protected field, and for another one beside it that is not protected and must be found.
# What is the store's has no plain text; where the reader's query has some, it goes where temp_tablespaces says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use List::Util qw(uniq);
use PostgreSQL::Test::Utils;
use Test::More;

my ($secret, $control) = ('Zq7Vx2Kp9Lm4', 'Ow3Nd8Rt6Yb5');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $kept = "$dir/kept";

mkdir $kept or die "$kept: $!";
mkdir "$dir/elsewhere" or die "$dir/elsewhere: $!";
chomp(my $cc = `pg_config --cc`);
system("$cc -shared -fPIC -o $dir/keep_unlinked.so $FindBin::RealBin/../lib/keep_unlinked.c -ldl") == 0 or die 'keep_unlinked.c cannot be compiled';

# All that the store puts into memory by work_mem alone goes to disk at once; results of its functions, which are the
# reader's, stay in memory unless a test wants to see them there.
my $node;
{
	local $ENV{LD_PRELOAD} = "$dir/keep_unlinked.so";
	local $ENV{KEEP_UNLINKED} = $kept;
	$node = feed_node('main', "eventstore.master_key_command = 'printf %064d 1'\nwork_mem = 64kB\nhash_mem_multiplier = 1000\nmaintenance_work_mem = 1MB\n"
		  . "shared_preload_libraries = 'eventstore'\nmax_parallel_workers_per_gather = 2\n");
}

sub sql { return $node->safe_psql('postgres', $_[0]) }

# kept_with(word): the kept files that have it; undef: all.
sub kept_with
{
	my ($word) = @_;
	return grep { !defined $word || index(slurp_file($_), $word) >= 0 } glob("$kept/*");
}

# caught_up(): projections are as far as the log is, rebuilt ones too.
sub caught_up
{
	sql('SELECT es_settle()');
	$node->poll_query_until('postgres', q{SELECT bool_and(status = 'running' AND lag = 0 AND rebuild_position IS NULL) FROM es_projections}) or die 'projections are not there';
}

# during(what, kind of files that there must be, statements): runs them; what is left of it has the control word, if
# there must be files, and never the secret.
sub during
{
	my ($what, $kind, @statements) = @_;

	unlink glob("$kept/*");
	ref $_ ? $_->() : sql($_) foreach @statements;
	is(scalar(grep { /\Q$kind\E/ } kept_with($control)) > 0, 1, "$what: what is not protected is in temporary files") if $kind;
	is(join(' ', kept_with($secret)), '', "$what: what is protected is in none");
}

my $long = "repeat('x', 50)";

sub data_of { my ($word, $i) = @_; return "jsonb_build_object('id', $i % 100, 'word', '$word' || $long, 'open', '$control')"; }

# Category p is protected, q is the same and is not.
sql($_) foreach (
	q{SELECT es_protect('p', '{$.data.word}', '$.data.id')},
	q{CREATE FUNCTION say(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT $1 || $2 || jsonb_build_object('n', coalesce(($1->>'n')::int, 0) + 1) $$},
	q{SELECT es_register_reducer('say', 'T', 'say(jsonb, jsonb)')}, q{SELECT es_register_reducer('inline_say', 'T', 'say(jsonb, jsonb)')},
	q{SELECT es_snapshot_every('say', 1)}, q{SELECT es_create_projection('inline', 'inline_say', 'inline', 'p')},
	q{SELECT es_create_projection('states', 'say', 'async')}, q{SELECT es_create_projection('copies', 'merge', 'async')},
	q{SELECT es_subscribe('consumer')}, q{SELECT pg_create_logical_replication_slot('slot', 'eventstore')});

during('appends', '', map { my ($category, $word) = @$_; (
	"SELECT es_append_batch('$category-batch', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', " . data_of($word, 'i') . ")) FROM generate_series(1, 2000) i))",
	"SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', '$category-many' || i % 10, 'type', 'T', 'data', " . data_of($word, 'i') . ")) FROM generate_series(1, 2000) i))",
	"INSERT INTO es_events (stream, type, data) SELECT '$category-' || i % 700, 'T', " . data_of($word, 'i') . ' FROM generate_series(1, 25000) i',
	"COPY es_events (stream, type, data) FROM stdin;\n" . join('', map { "$category-copy\tT\t{\"id\": @{[ $_ % 100 ]}, \"word\": \"$word\", \"open\": \"$control\"}\n" } 1 .. 2000) . "\\.\n") }
	[ 'p', $secret ], [ 'q', $control ]);
during('states that become snapshots', 'pgsql_tmp', map { "SELECT count(*) FROM es_replay_category('$_', 'say')" } qw(q p));
is(sql(q{SELECT count(DISTINCT (s.stream ~ '^p')) FROM es_snapshots s WHERE reducer = 'say'}), '2', '... of both categories');
during('projections', '', \&caught_up);
during('rebuilding', '', (map { "SELECT es_rebuild_projection('$_')" } qw(states copies inline)), \&caught_up);
during('functions that read', '', map { "SELECT count(*) FROM $_" } q{es_read_all(0, NULL)}, q{es_read_category('p', 0, NULL)}, q{es_read('p-batch', max_count => NULL)}, q{es_read_query(NULL, 0, NULL)},
	q{es_poll('consumer', 10000)}, q{es_projection('states')}, q{es_projection('copies')}, q{es_projection('inline')}, q{es_replay_category('p', 'merge')}, q{es_replay_steps('p-batch', 'say')});
during('reads in FROM, larger than memory', '', map { "SET hash_mem_multiplier = 1; SELECT count(data), count(metadata) FROM $_" } q{es_read_all(0, NULL)}, q{es_read_category('p', 0, NULL)},
	q{es_read('p-batch')}, q{es_read_query('[{"types": ["T"]}]', 0, NULL)});
during('a read by many names, larger than memory', 'pgsql_tmp',
	q{SET hash_mem_multiplier = 1; SELECT count(data) FROM es_read_all(0, NULL, (SELECT array_agg('c' || n) || '{p,q}' FROM generate_series(1, 100) n))});
during('the view', 'pgsql_tmp', q{SET hash_mem_multiplier = 1; COPY (SELECT * FROM es_events) TO '/dev/null'},
	q{SET hash_mem_multiplier = 1; BEGIN; DECLARE c CURSOR FOR SELECT * FROM es_events WHERE stream = 'p-batch' ORDER BY version; FETCH 50 FROM c; FETCH 50 FROM c; COMMIT},
	q{SELECT count(*) FROM (SELECT data FROM es_events WHERE stream ~ '^[pq]' ORDER BY metadata::text, recorded_at LIMIT 100000) e});
during('decoding, and the result of a slot', $_, q{SELECT count(data) FROM pg_logical_slot_peek_changes('slot', NULL, NULL)}) foreach '.spill', 'pgsql_tmp';
during('a feed of what was', '', q{SELECT count(*) FROM es_feed_history(0, NULL)});
during('an index of the stored data', 'pgsql_tmp', q{CREATE INDEX ON eventstore.events ((data->>'open'), (data->>'word'))});
during('seals', '', q{SELECT es_settle()}, q{SELECT es_seal()}, q{SELECT count(*) FROM es_verify()});
during('shredding', '', q{SELECT es_shred('17')}, \&caught_up);
during('another master key', '', q{SELECT es_rotate_master_key('printf %064d 1')}, q{VACUUM ANALYZE});

# What a reader's query keeps would be found. It goes where temp_tablespaces says, unless it may have to outlive the transaction.
sql("CREATE TABLESPACE elsewhere LOCATION '$dir/elsewhere'");
foreach my $case ([ 'a result that does not fit into memory', 'pg_tblspc', q{SET hash_mem_multiplier = 1; SELECT count(*) FROM (SELECT es_read_category('p', 0, NULL) OFFSET 0) r} ],
	[ 'a sort of all', 'pg_tblspc', q{SELECT count(*) FROM (SELECT data FROM es_events ORDER BY data->>'word' OFFSET 0) s} ],
	[ 'RETURNING', 'base', q{INSERT INTO es_events (stream, type, data) SELECT 'p-returned', 'T', } . data_of($secret, '7 + 0 * i') . q{ FROM generate_series(1, 2000) i RETURNING data} ],
	[ 'FETCH of much', 'base', q{BEGIN; DECLARE much CURSOR FOR SELECT data FROM es_events WHERE stream = 'p-batch'; FETCH ALL FROM much; COMMIT} ],
	[ 'a cursor WITH HOLD', 'base', q{DECLARE held CURSOR WITH HOLD FOR SELECT data FROM es_events WHERE stream = 'p-batch'; CLOSE held} ])
{
	my ($what, $where, $statement) = @$case;

	unlink glob("$kept/*");
	sql("SET temp_tablespaces = elsewhere; $statement");
	is(join(' ', uniq(map { m{\d\.(\w+)\+[^/]*\z} ? $1 : $_ } kept_with($secret))), $where, "$what may be in a temporary file, plain: below $where");
}
$node->stop;
done_testing();
