# Moves of slots that are cut off: in each stage, router, source or target stops at once, and starts again.  Called
# again the move comes to its end; cancelled, the slots stay where they were, and can be moved later.  Either way nothing
# is lost and nothing twice, no slot is at two shards, and a reader of all shards has each event once, in order.
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

my ($router, @shards) = start_shards(2, 1);

sub ask { return $router->safe_psql('router', $_[0]) }
sub on_shard { return $shards[ $_[0] ]->safe_psql('store', $_[1]) }

# What a step of a move does, by hand: each is one call at one shard.
my %steps = (
	begin => sub { ask("SELECT (scaleout.begin_taking(1, 0, ARRAY[$_[0]])).move") },
	take => sub { ask("SELECT scaleout.take(1, t.move, p.events, t.checkpoint, p.reached) FROM scaleout.begin_taking(1, 0, ARRAY[$_[0]]) t, scaleout.give(0, ARRAY[$_[0]], t.checkpoint) p") },
	fence => sub { ask("SELECT scaleout.fence(0, ARRAY[$_[0]], 1)") },
	finish => sub { ask("SELECT scaleout.finish_taking(1, t.move, scaleout.fence(0, ARRAY[$_[0]], 1)) FROM scaleout.begin_taking(1, 0, ARRAY[$_[0]]) t") });
my @stages = ([qw(begin)], [qw(begin take)], [qw(begin fence)], [qw(begin take fence)], [qw(begin fence take)], [qw(begin fence take finish)]);

# events_of(shard, stream)
sub events_of { return on_shard($_[0], qq{SELECT string_agg(concat_ws(' ', version, type, data, event_id, recorded_at AT TIME ZONE 'UTC'), E'\\n' ORDER BY version) FROM es_events WHERE stream = '$_[1]' AND version <= 5}) }

# owners(slot): the shards that have it
sub owners { return ask("SELECT coalesce(string_agg(shard::text, ' '), '') FROM es_on_shards('SELECT 1 FROM scaleout.slots WHERE slot = $_[0] AND shard = scaleout.shard()') WHERE result IS NOT NULL") }

# check_followed(name): all shards are read from the beginning, in small portions; each event is there once, in order.
sub check_followed
{
	my ($name) = @_;
	my ($vector, %version, @faults) = ('{}');

	while (1)
	{
		my @rows = split /\n/, ask("SELECT coalesce(stream || ' ' || version, ''), vector FROM es_read_shards('$vector', 7)");
		my ($next) = (pop @rows) =~ /\|(.*)$/;

		foreach (@rows)
		{
			my ($stream, $version) = /^(\S+) (\d+)\|/;

			push @faults, "$stream $version" if $version != ($version{$stream} // 0) + 1;
			$version{$stream} = $version;
		}
		last if $next eq $vector;
		$vector = $next;
	}
	my $wrong = join ', ', grep { ask("SELECT es_stream_version('$_')") != $version{$_} } keys %version;
	is(join(', ', @faults) . $wrong, '', "$name: a reader of all shards has each event once, in order, and all");
	return;
}

my $count = 0;
foreach my $victim (qw(router source target))
{
	my $node = { router => $router, source => $shards[0], target => $shards[1] }->{$victim};
	my @todo;

	# all stages are crashed at once: each has a slot of its own
	foreach my $stage (@stages)
	{
		foreach my $end (qw(move cancel))
		{
			my $stream = 'cut-' . ++$count;
			my $name = "$victim stops after " . join(', ', @$stage) . ", then $end";
			my $slot = ask("SELECT scaleout.slot('$stream')");

			ask("SELECT es_append('$stream', 'C', jsonb_build_object('n', n)) FROM generate_series(1, 5) n");
			my $before = events_of(0, $stream);
			$steps{$_}->($slot) foreach @$stage;
			push @todo, [ $stream, $slot, $end, $name, $before, scalar(grep { $_ eq 'finish' } @$stage) ];
		}
	}
	$node->stop('immediate');
	$node->start;
	foreach my $case (@todo)
	{
		my ($stream, $slot, $end, $name, $before, $finished) = @$case;
		my $at = $end eq 'move' || $finished ? 1 : 0;

		if ($end eq 'cancel' && $finished)
		{
			is(sqlstates($router, 'router', "CALL es_cancel_move(ARRAY[$slot], 1)"), '55000', "$name: what has come to its end is not cancelled");
		}
		elsif ($end eq 'cancel')
		{
			ask("CALL es_cancel_move(ARRAY[$slot], 1)");
			is(on_shard(1, "SELECT count(*) FROM scaleout.takings WHERE cut IS NULL AND $slot = ANY (slots)"), '0', "$name: the target gives up");
		}
		else { ask("CALL es_move_slots(ARRAY[$slot], 1)"); }
		is(owners($slot), $at, "$name: the slot is at one shard");
		is(events_of($at, $stream), $before, "$name: the events are there as they were");
		is(ask("SELECT es_append('$stream', 'C', expected_version => 5)"), '6', "$name: the stream goes on");
	}
	check_followed($victim);

	# what was cancelled can be moved, with what came meanwhile
	my @cancelled = grep { $_->[2] eq 'cancel' && !$_->[5] } @todo;
	ask('CALL es_move_slots(ARRAY[' . join(', ', map { $_->[1] } @cancelled) . '], 1)');
	is(join(' ', map { owners($_->[1]) . ' ' . ask("SELECT es_append('$_->[0]', 'C')") . (events_of(1, $_->[0]) eq $_->[4] ? '' : ' changed') } @cancelled),
		join(' ', map { '1 7' } @cancelled), "$victim: what was cancelled moves later");
	check_followed("$victim, all moved");
}
is(gaps($_, 'store'), '', 'streams are whole') foreach @shards;

# ---- a cancelled move does not come back ----
my $slot = ask("SELECT scaleout.slot('kept-1')");
ask("SELECT es_append('kept-1', 'K')");
my $move = ask("SELECT (scaleout.begin_taking(1, 0, ARRAY[$slot])).move");
my $fence = ask("SELECT scaleout.fence(0, ARRAY[$slot], 1)");
is(ask("SELECT scaleout.cancel_taking(1, 0, ARRAY[$slot], $fence)"), 't', 'the target refuses a fence');
is(sqlstates($router, 'router', "SELECT scaleout.finish_taking(1, $move, $fence)"), 'SC004', 'who was about to finish is told');
is(sqlstates($router, 'router', "CALL es_move_slots(ARRAY[$slot], 1)"), 'SC004', 'so is who begins again before the source has taken it down');
ask("CALL es_cancel_move(ARRAY[$slot], 1)");
is(owners($slot) . ask("SELECT es_append('kept-1', 'K')"), '02', 'cancelled again, the slot is where it was');
ask("CALL es_move_slots(ARRAY[$slot], 1)");
is(owners($slot) . ask("SELECT es_append('kept-1', 'K')"), '13', 'and moves by another fence');

# a mover that does not know of that yet may fence the slots after they were given back
my $late = ask("SELECT scaleout.slot('late-1')");
ask("SELECT es_append('late-1', 'K')");
my ($number, $checkpoint) = split /\|/, ask("SELECT move, checkpoint FROM scaleout.begin_taking(1, 0, ARRAY[$late])");
ask("CALL es_cancel_move(ARRAY[$late], 1)");
ask("SELECT scaleout.fence(0, ARRAY[$late], 1)");
like(($router->psql('router', "\\set VERBOSITY verbose\nSELECT scaleout.take(1, $number, '[]', $checkpoint, $checkpoint + 1)"))[2], qr/SC004: .*has been cancelled.*hint: .*es_cancel_move, called again/si, 'it is told, and what to do');
ask("CALL es_cancel_move(ARRAY[$late], 1)");
is(owners($late) . ask("SELECT es_append('late-1', 'K')"), '02', 'and that is done then');

# ---- a mover that is cancelled, or loses its session, while the source waits for an append ----
foreach my $how (qw(cancel terminate))
{
	my $stream = "waits-$how";
	my $at = ask("SELECT scaleout.slot('$stream')");

	ask("SELECT es_append('$stream', 'W')");
	my $holder = $shards[0]->background_psql('store');
	$holder->query_safe("BEGIN; SELECT scaleout.enter(0, ARRAY[$at])");
	my $mover = start_named($router, 'router', "mover $how", "CALL es_move_slots(ARRAY[$at], 1);");
	ok($shards[0]->poll_query_until('store', q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), "$how: the fence waits for an append that is under way");
	# the fence gives way to appends by itself, after a second
	is(ask("SELECT es_append('$stream', 'W')"), '2', "$how: appends are not held up by that for ever");
	ask("SELECT pg_${how}_backend(pid) FROM pg_stat_activity WHERE application_name = 'mover $how'");
	like((finish_script($mover))[1], $how eq 'cancel' ? qr/57014/ : qr/57P01|server closed/, "$how: the mover ends");
	$holder->query_safe('COMMIT');
	$holder->quit;
	ask("CALL es_cancel_move(ARRAY[$at], 1)");
	is(owners($at) . ask("SELECT es_append('$stream', 'W')"), '03', "$how: cancelled, the slot is where it was");
	ask("CALL es_move_slots(ARRAY[$at], 1)");
	is(owners($at) . ask("SELECT es_append('$stream', 'W')"), '14', "$how: and moves later");
}

check_followed('in the end');

# ---- large events, which compress well ----
my $large = ask(q{SELECT scaleout.slot('large-1')});
ask(q{SELECT count(es_append('large-1', 'L', jsonb_build_object('x', repeat('x', 15000000)))) FROM generate_series(1, 20)});
ask("CALL es_move_slots(ARRAY[$large], 1)");
is(on_shard(1, q{SELECT count(*), sum(length(data ->> 'x')) FROM es_read('large-1')}), '20|300000000', '300 MB move in parcels');

# ---- a stream that is truncated while its slot moves ----
ask(q{SELECT count(es_append('cutting-1', 'C')) FROM generate_series(1, 5)});
my $cutting = ask(q{SELECT scaleout.slot('cutting-1')});
my $blocker = $shards[1]->background_psql('store');
# the move has looked at the source, and waits at the target
$blocker->query_safe('BEGIN; LOCK TABLE scaleout.takings IN SHARE ROW EXCLUSIVE MODE');
my $mover = start_named($router, 'router', 'mover', "CALL es_move_slots(ARRAY[$cutting], 1);");
ok($shards[1]->poll_query_until('store', q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'scaleout.takings'::regclass AND NOT granted}), 'a move has begun');
ask(q{SELECT es_truncate_stream('cutting-1', 3)});
$blocker->query_safe('COMMIT');
$blocker->quit;
like((finish_script($mover))[1], qr/ 0A000$/m, 'a stream that is truncated meanwhile stays where it is');
is(sqlstates($router, 'router', "SELECT scaleout.fence(0, ARRAY[$cutting], 1)"), '0A000', 'in the last moment the source itself sees to that');
ask("CALL es_cancel_move(ARRAY[$cutting], 1)");
is(owners($cutting) . ask(q{SELECT es_append('cutting-1', 'C'), (SELECT min(version) FROM es_read('cutting-1'))}), '06|3', 'cancelled, it goes on there, truncated');

# ---- events that are removed after the fence, before they are given: retention and es_scavenge know nothing of moves ----
on_shard(0, q{ALTER FUNCTION scaleout.give(int, int[], bigint) RENAME TO give_now; CREATE FUNCTION scaleout.give(shard int, slots int[], after_position bigint) RETURNS scaleout.parcel
	LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN scaleout.give_now($1, $2, $3); END'});
foreach my $case ([ 'all' => 3 ], [ 'the first' => 2 ])
{
	my ($what, $before) = @$case;
	my $stream = "aged-$before";
	my $at = ask("SELECT scaleout.slot('$stream')");
	my ($holder, $gate) = map { $shards[0]->background_psql('store') } 1, 2;

	# what is appended now is not settled, so the fence comes before it is given
	$holder->query_safe("BEGIN; SELECT es_append('held-$before', 'H')");
	ask("SELECT es_append('$stream', 'A'), es_append('$stream', 'A')");
	$mover = start_named($router, 'router', 'mover', "CALL es_move_slots(ARRAY[$at], 1);");
	ok($shards[0]->poll_query_until('store', "SELECT shard = 1 FROM scaleout.slots WHERE slot = $at"), "$what: there is a fence");
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$holder->query_safe('COMMIT');
	$holder->quit;
	on_shard(0, "SELECT es_truncate_stream('$stream', $before)");
	on_shard(0, 'SELECT count(*) FROM es_scavenge()');
	is(on_shard(0, "SELECT count(*) FROM es_events WHERE stream = '$stream'"), 3 - $before, "$what: events are removed at the source");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$gate->quit;
	like((finish_script($mover))[1], qr/ 0A000$/m, "$what: the move does not come to its end");
	ask("CALL es_cancel_move(ARRAY[$at], 1)");
	is(owners($at) . ask("SELECT es_append('$stream', 'A')"), '03', "$what: cancelled, the slot is where it was, and no version comes again");
}

done_testing();
