# An append is committed here, and cut off while it waits for a synchronous standby.  Its retry is no acknowledgement
# before the standby has it: it waits like the append would have.  Otherwise a failover would lose what was acknowledged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

my $node = new_node('main', streaming => 1);
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
# whoever makes a segment waits for the standby, too
$node->safe_psql('postgres', q{SELECT es_append('first-1', 'T')});

# append(name, call): begins it as an application of that name.
my $id = '6ba7b810-9dad-41d1-80b4-00c04fd430c8';
my %calls = (
	es_append => "SELECT es_append('order-1', 'T', event_id => '$id')",
	es_append_many => qq{SELECT version FROM es_append_many('[{"stream": "many-1", "type": "T", "event_id": "$id"}, {"stream": "many-2", "type": "T", "event_id": "$id"}]')},
	es_append_if => qq{SELECT es_append_if('[{"stream": "if-1", "type": "T", "event_id": "$id", "tags": ["a"]}]', 0, tags => '{a}')});

sub wait_for_standby { return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$_[0]' AND wait_event = 'SyncRep'") }

# await_nobody: a standby of that name, which there is none of, is waited for once the checkpointer has told all sessions.
sub await_nobody
{
	standby_names('nobody');
	return wait_until('commits to wait', sub {
		my $probe = start_named($node, 'postgres', 'probe', "SELECT pg_logical_emit_message(true, 'probe', '')");
		my $waits = 0;

		wait_until('the probe', sub {
			$waits = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'probe' AND wait_event = 'SyncRep'});
			return $waits || !$probe->{handle}->pumpable;
		});
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'probe'});
		finish_script($probe);
		return $waits;
	});
}

sub standby_names { $node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$_[0]'"); $node->safe_psql('postgres', 'SELECT pg_reload_conf()') }

foreach my $call (sort keys %calls)
{
	await_nobody();
	my $first = start_named($node, 'postgres', 'first', $calls{$call});
	ok(wait_for_standby('first'), "$call waits for a standby");
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'first'});
	finish_script($first);
	my $retry = start_named($node, 'postgres', 'retry', $calls{$call});
	ok(wait_for_standby('retry'), 'cut off, it is there; its retry waits for the standby, too');
	standby_names('');
	my ($out, $err) = finish_script($retry);
	like("$out$err", qr/^\d[\d\n]*$/, 'and is told then');
	is($node->safe_psql('postgres', $calls{$call}), $out =~ s/\n\z//r, 'without a synchronous standby it waits for nobody');
}
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (stream, version)) FROM es_events}), '5|5', 'nothing is stored twice');
$node->stop;
done_testing();
