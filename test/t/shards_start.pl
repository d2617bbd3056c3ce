# Shards that do not wait for the disk at a commit: es_start_shards is cut off and called again, a move begins and is
# fenced, and after each step the server that took it stops at once.  What others go by is there when it is back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreShards;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = router_missing();
plan skip_all => $missing if $missing;

my @shards = map { make_shard($_, "wal_writer_delay = 10s\nautovacuum = off\n") } 0, 1;
my $router = new_node('router');
EventstoreShards::make_router($router, 'router', @shards);
$_->safe_psql('postgres', 'ALTER DATABASE store SET synchronous_commit = off') foreach @shards;

sub ask { return $router->safe_psql('router', $_[0]) }
sub on_shard { return $shards[ $_[0] ]->safe_psql('store', $_[1]) }

# crash(shard)
sub crash { $shards[ $_[0] ]->stop('immediate'); $shards[ $_[0] ]->start; return; }

# owned(shard): how many slots it has
sub owned { return on_shard($_[0], 'SELECT count(*) FROM scaleout.slots WHERE shard = scaleout.shard()') }

# ---- es_start_shards ----
on_shard(1, q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not now''; END';
	CREATE TRIGGER refuse BEFORE INSERT ON scaleout.slots EXECUTE FUNCTION refuse()});
is(sqlstates($router, 'router', 'SELECT es_start_shards(2)'), 'P0001', 'the second shard does not take its slots');
crash(0);
is(owned(0), '8192', 'the first has its own, and keeps them');
is(ask('SELECT count(*) FROM scaleout.slots'), '0', 'which the router does not know');
on_shard(1, 'DROP TRIGGER refuse ON scaleout.slots');
ask('SELECT es_start_shards(2)');
crash($_) foreach 0, 1;
is(join(' ', owned(0), owned(1), ask('SELECT count(*), sum(shard) FROM scaleout.slots')), '8192 8192 16384|8192', 'called again it goes on where it was left');
is(sqlstates($router, 'router', 'SELECT es_start_shards(2)'), '55000', 'and is done');

# ---- a move ----
my ($stream, $slot) = split /\|/, ask(q{SELECT s, scaleout.slot(s) FROM generate_series(1, 100) n, concat('moving-', n) s WHERE es_shard(s) = 0 LIMIT 1});
ask("SELECT es_append('$stream', 'M')");
ask("SELECT scaleout.begin_taking(1, 0, ARRAY[$slot])");
crash(1);
is(on_shard(1, 'SELECT count(*) FROM scaleout.takings'), '1', 'a move that has begun is known, and its number does not come again');
ask("SELECT scaleout.fence(0, ARRAY[$slot], 1)");
crash(0);
is(on_shard(0, "SELECT shard FROM scaleout.slots WHERE slot = $slot"), '1', 'what was given away stays so');
ask("CALL es_move_slots(ARRAY[$slot], 1)");
crash(1);
is(on_shard(1, "SELECT shard FROM scaleout.slots WHERE slot = $slot"), '1', 'and what has come');
is(ask("SELECT es_append('$stream', 'M')"), '2', 'with its events');

# ---- events that only a commit that was not waited for has: none is given before it is on disk ----
on_shard(0, 'ALTER DATABASE store SET eventstore.read_durable = off');
my $other = ask(qq{SELECT s FROM generate_series(1, 100) n, concat('moving-', n) s WHERE es_shard(s) = 0 AND s <> '$stream' LIMIT 1});
my $next = ask("SELECT scaleout.slot('$other')");
ask("SELECT es_append('$other', 'M')");
is(ask("SELECT jsonb_array_length((scaleout.give(0, ARRAY[$next], 0)).events)"), '1', 'an event is given');
crash(0);
is(ask("SELECT es_stream_version('$other')"), '1', 'and is there after a crash');
done_testing();
