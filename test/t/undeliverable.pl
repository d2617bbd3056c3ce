# An event whose text the server cannot send, as a store of before the limit may
# have one: it stops no consumer for good.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreFeed;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main', "eventstore.retry_delay = '20ms'\n");
my ($status, $out, $err);

sub q_ { return $node->safe_psql('postgres', $_[0]); }

# An event as a restore brings it, past every check; its position.
sub put_huge
{
	my ($stream, $data, $metadata) = @_;

	return q_(qq{
		INSERT INTO eventstore.events (position, stream_id, version, recorded_at, event_id, category_key, type_version, run_length, id_given, stream, type, data, metadata)
		SELECT nextval('eventstore.position_seq'), stream_id, version + 1, recorded_at, gen_random_uuid(), category_key, 1, 1, false, stream, 'Huge', $data, $metadata
		FROM eventstore.events WHERE stream = '$stream' ORDER BY version DESC LIMIT 1
		RETURNING position});
}

# Polls and acknowledges; what was delivered, by type and attempt.
sub consume
{
	my ($name, $more) = @_;

	return q_(qq{WITH p AS MATERIALIZED (SELECT * FROM es_poll('$name'} . ($more ? ", $more" : '') . qq{)),
		a AS MATERIALIZED (SELECT es_ack('$name', partition, max(position)) FROM p GROUP BY partition)
		SELECT coalesce(string_agg(type || attempt, ' ' ORDER BY position), '') || repeat('', (SELECT count(*) FROM a)::int) FROM p});
}
sub parked { return q_("SELECT string_agg(position || ' ' || attempts || ' ' || reason, ', ' ORDER BY position) FROM es_parked('$_[0]')"); }
sub error_of { return ($node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]"))[2]; }

my $bomb = q{('[' || repeat('1e131071,', 8192) || '1]')::jsonb};

q_('SELECT es_set_segment_size(1000)');
q_(q{SELECT es_append('order-1', 'A'), es_append('order-2', 'B')});
my ($slot) = split /\|/, q_(q{SELECT slot_name FROM es_create_feed('raw')});
is((esfeed($node, '--feed', 'told', '--create', '--from', 'now', '--to', "file:$dir/told", '--until-caught-up'))[0], 0, 'a feed is made');
my $huge = put_huge('order-1', $bomb, q('{}'));
my $metadata = put_huge('order-2', q('{}'), qq(jsonb_build_object('m', $bomb)));
q_(q{SELECT es_append('order-1', 'C'), es_append('order-2', 'D'), es_append('order-3', 'E')});
my $reason = "it cannot be sent: the JSON text of its data and metadata is longer than the server's limit of 1 GB";

# ---- subscriptions
{
	q_(q{SELECT es_subscribe('tries', max_attempts => 3), es_subscribe('no_limit', max_attempts => NULL), es_subscribe('one', max_attempts => 2),
		es_subscribe('spread', partitions => 4, max_attempts => 2), es_subscribe('dies', max_attempts => 2)});
	is(consume('tries'), 'A1 B1 C1 D1 E1', 'what can be delivered is, around what cannot');
	is(parked('tries'), '', 'which is an attempt');
	is(consume('tries'), '', 'there is nothing else');
	is(parked('tries'), '', 'another one');
	is(consume('tries'), '', 'nothing else');
	is(parked('tries'), "$huge 3 $reason, $metadata 3 $reason", 'the last attempt parks it, and says why');
	is(q_(q{SELECT position = es_settled_position(), lag, parked FROM es_subscriptions WHERE subscription = 'tries'}), 't|0|2', 'the subscription has caught up');
	is(q_(q{CALL es_poll_wait('tries', '0')}), 'f', 'and has no news');
	q_(q{SELECT es_append('order-1', 'F')});
	is(consume('tries'), 'F1', 'it goes on');
	is(q_(q{SELECT es_replay_parked('tries')}), '2', 'what is parked can be tried again');
	is(join(',', map { consume('tries') } 1 .. 3), ',,', 'in vain');
	is(parked('tries'), "$huge 3 $reason, $metadata 3 $reason", 'and is parked again');

	is(consume('no_limit'), 'A1 B1 C1 D1 E1 F1', 'without a limit of attempts');
	is(parked('no_limit'), "$huge 1 $reason, $metadata 1 $reason", 'it is parked at once');

	is(join(' ', map { consume('one', 'max_count => 1') } 1 .. 10), 'A1 B1   C1 D1 E1 F1  ', 'one by one');
	is(parked('one'), "$huge 2 $reason, $metadata 2 $reason", 'likewise');

	is(join(' ', sort split / /, join ' ', map { consume('spread', 'member => NULL') } 1 .. 2), 'A1 B1 C1 D1 E1 F1', 'in partitions');
	is(parked('spread'), "$huge 2 $reason, $metadata 2 $reason", 'each');

	# a consumer that dies of every batch is delivered events one by one then
	for (1 .. 4)
	{
		q_(q{SELECT count(*) FROM es_poll('dies', lease => '1ms')});
		$node->poll_query_until('postgres', q{SELECT every(lease_until < clock_timestamp()) FROM es_subscriptions WHERE subscription = 'dies'});
	}
	is(q_(q{SELECT count(*) > 0 FROM es_parked('dies') WHERE reason NOT LIKE 'it cannot be sent%'}), 't', 'events of which the consumer dies are parked');
	is(q_(qq{SELECT count(*) FROM es_parked('dies') WHERE position IN ($huge, $metadata)}), '2', 'besides those that cannot be sent');
	is(q_(q{SELECT count(*) FROM eventstore.subscription_partitions p WHERE
		pending <> (SELECT count(*) FROM eventstore.subscription_failures f WHERE f.subscription_id = p.subscription_id AND f.partition = p.partition AND parked_at IS NULL)
		OR parked <> (SELECT count(*) FROM eventstore.subscription_failures f WHERE f.subscription_id = p.subscription_id AND f.partition = p.partition AND parked_at IS NOT NULL)}),
		'0', 'counts of failures are right');
}

# ---- the output plugin
for my $format ('json', 'cloudevents')
{
	my $read = sub { return "SELECT data FROM pg_logical_slot_peek_changes('$slot', NULL, NULL, 'format', '$format'" . ($_[0] ? ", 'skip_positions', '$_[0]'" : '') . ')'; };

	like(error_of($read->()), qr/ERROR:  54000: the event at position $huge is too large.*version 2 of stream "order-1", of type "Huge".*skip_positions/s, "$format: the event is named, with what to do");
	like(error_of($read->($huge)), qr/ERROR:  54000: the event at position $metadata is too large/, 'the next one, too');
	my ($result, $messages, $warnings) = $node->psql('postgres', $read->("$metadata, $huge"));
	is($result, 0, 'a feed goes on without them');
	is(join(' ', map { $_->{type} } map { decode_json($_) } split /\n/, $messages), 'C D E F', 'with all that follows');
	like($warnings, qr/WARNING:  the feed goes on without the event at position $huge\b.*WARNING:.*position $metadata\b/s, 'and says so');
	like(error_of("SELECT es_feed_message(e, '$format') FROM es_read('order-1') e"), qr/ERROR:  54000: the event at position $huge is too large/, 'es_feed_message names it');
}
like(error_of("SELECT pg_logical_slot_peek_changes('$slot', NULL, NULL, 'skip_positions', '$_')"), qr/ERROR:  22023: .*skip_positions/, "\"$_\" is no list of positions")
  for '', '1,,2', '1 2', '1,', 'a', '-1', '9223372036854775808';
is(($node->psql('postgres', "SELECT pg_logical_slot_peek_changes('$slot', NULL, NULL, 'skip_positions', '  $metadata ,  $huge ,1 ')"))[0], 0, 'blanks do not count');
like(slurp_file($node->logfile), qr/WARNING:  the feed goes on without the event at position $huge\b/, 'the server\'s log has it');

# ---- esfeed: the stream, then history
($status, $out, $err) = esfeed($node, '--feed', 'told', '--to', "file:$dir/told", '--until-caught-up');
is($status, 3, 'esfeed ends');
like($err, qr/position $huge is too large.*54000/s, 'with the event');
like($err, qr/--skip-positions/, 'and what to do');
($status, $out, $err) = esfeed($node, '--feed', 'told', '--to', "file:$dir/told", '--until-caught-up', '--skip-positions', "$huge,$metadata");
is($status, 0, 'it goes on without it');
like($err, qr/WARNING:  the feed goes on without the event at position $huge\b/, 'says so');
is(join(' ', map { decode_json($_)->{type} } lines("$dir/told")), 'C D E F', 'and delivers the rest');
q_(q{SELECT es_append('order-1', 'G')});
is((esfeed($node, '--feed', 'told', '--to', "file:$dir/told", '--until-caught-up'))[0], 0, 'what is passed needs no option any more');
is(scalar(lines("$dir/told")), 5, 'the feed goes on');

my @history = ($node, '--feed', 'history', '--create', '--to', "file:$dir/history", '--until-caught-up');
($status, $out, $err) = esfeed(@history);
is($status, 3, 'history ends at it, too');
like($err, qr/position $huge is too large.*54000/s, 'and names it');
($status, $out, $err) = esfeed(@history, '--skip-positions', "$huge,$metadata");
is($status, 0, 'it is left out');
like($err, qr/going on without the event at position $huge\b.*position $metadata\b/s, 'on record');
is(join(' ', map { decode_json($_)->{type} } lines("$dir/history")), 'A B C D E F G', 'and all else delivered');
is((esfeed($node, '--feed', 'x', '--skip-positions', 'a'))[0], 1, 'positions are numbers');

# ---- reading and folding in the server does not need the text
is(q_(q{SELECT string_agg(type, ' ' ORDER BY version) FROM es_read('order-1')}), 'A Huge C F G', 'its stream can be read around it');
is(q_(q{SELECT version, state ->> 'count' FROM es_replay('order-1', 'count')}), '5|5', 'and folded over it');
is(q_(q{SELECT jsonb_array_length(data) FROM es_read('order-1') WHERE type = 'Huge'}), '8193', 'what is in it can be got at');
q_(q{CREATE TABLE seen (type text, size int); CREATE FUNCTION see(e es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES (e.type, octet_length(e.data::text)) $$;
	SELECT es_create_handler_projection('seen', 'see(es_event)')});
$node->psql('postgres', q{SELECT es_run_projection('seen')});
ok($node->poll_query_until('postgres', qq{SELECT status = 'failed' AND error_position = $huge FROM es_projections WHERE projection = 'seen'}), 'a handler that makes the text fails there');
q_("SELECT es_skip_event('seen', $huge)");
$node->psql('postgres', q{SELECT es_run_projection('seen')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 8 FROM seen}), 'and is helped over it');

# ---- pages of history that are full although some of it is left out
q_(q{SELECT count(es_append('many-' || n % 7, 'N')) FROM generate_series(1, 10100) n});
@history = ($node, '--feed', 'pages', '--create', '--to', "file:$dir/pages", '--until-caught-up', '--skip-positions', "$huge,$metadata");
is((esfeed(@history))[0], 0, 'a long history');
is(scalar(lines("$dir/pages")), q_('SELECT count(*) FROM es_events') - 2, 'is complete but for them');

$node->stop;
done_testing();
