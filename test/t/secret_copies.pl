# Copies of a store with protected fields: dumps, also into a database of another encoding and a
# cluster without the master key; a hot standby; a logical subscriber.  Keys that are destroyed
# or wrapped anew are so there, too.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = PostgreSQL::Test::Utils::tempdir();
my @key = ('0' x 63 . '1', '0' x 63 . '2');
my $conf = "eventstore.master_key_command = 'cat $keys/key'\nwal_retrieve_retry_interval = 200ms\n";
my $word = 'Zebrafinch';

# key(text): what the command of all servers prints
sub key
{
	unlink "$keys/key";
	append_to_file("$keys/key", $_[0]);
}

key($key[0]);
my $node = new_node('publisher', streaming => 'logical', conf => $conf);
$node->safe_psql('postgres', $_) foreach (
	'CREATE EXTENSION eventstore', q{SELECT es_protect('c', '{$.data.x,$.data.mail}', '$.data.id'), es_protect('h', '{$.data.mail}', '$.data.mail')},
	qq{SELECT es_append('c-' || n, 'T', jsonb_build_object('id', n, 'x', '$word ' || n, 'mail', jsonb_build_array('\x{c3}\x{a9}', n))) FROM generate_series(1, 5) n},
	qq{SELECT es_append('h-1', 'T', '{"mail": "$word\@example.org"}')}, q{SELECT es_shred('5')}, q{SELECT es_append('plain-1', 'T', '{"x": 1}')});
my $fields = q{SELECT string_agg(coalesce(data->>'x', data->>'mail', 'null'), ', ' ORDER BY position) FROM es_read_all()};
my $all = "$word 1, $word 2, $word 3, $word 4, null, $word\@example.org, 1";
is($node->safe_psql('postgres', $fields), $all, 'a store with protected fields');

# ---- dumps ----

my $dump = "$keys/dump.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'it is dumped');
unlike(slurp_file($dump), qr/$word/, '... without a protected word');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], '... and restored');
is($node->safe_psql('restored', $fields), $all, '... plain');
is(store_digest($node, 'restored'), store_digest($node, 'postgres'), '... the same');
is(sqlstates($node, 'restored', q{SELECT es_append('c-5', 'T', '{"id": 5, "x": 1}')}), '55000', '... with its shredded subject');
$node->safe_psql('restored', qq{SELECT es_shred('$word\@example.org')});
is($node->safe_psql('restored', q{SELECT data FROM es_read('h-1')}), '{"mail": null}', '... and hashed ones, found by what they are');
$node->safe_psql('postgres', q{CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('latin1'), '-f', $dump ], 'it is restored into a database of another encoding');
is($node->safe_psql('latin1', q{SET client_encoding = UTF8}) . $node->safe_psql('latin1', $fields), $all, '... plain');
is($node->safe_psql('latin1', q{SELECT data->'mail'->>0 = chr(233) FROM es_read('c-1')}), 't', '... in its encoding');
my $other = new_node('other', conf => "eventstore.master_key_command = 'printf %064d 3'\n");
$other->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('postgres'), '-f', $dump ], 'it is restored into a cluster with another master key');
is(sqlstates($other, 'postgres', q{SELECT * FROM es_read('c-1')}), '55000', '... where a protected field is an error');
is($other->safe_psql('postgres', q{SELECT data FROM es_read('plain-1'); SELECT es_append('c-1', 'Other'), es_append('plain-1', 'T')}), qq({"x": 1}\n2|2), '... and all else goes on');
is(sqlstates($other, 'postgres', $_), '55000', '... to shred takes the master key where subjects may be hashed') foreach (q{SELECT es_shred('1')}, qq{SELECT es_shred('$word\@example.org')});
$other->stop;

# ---- a standby ----

my $standby = start_standby($node);
sub replayed { $node->wait_for_catchup($standby, 'replay', $node->lsn('insert')) }
replayed();
my $warm = $standby->background_psql('postgres', on_error_stop => 0);
is($warm->query($fields), $all, 'a standby reads');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM es_events WHERE data->>'x' LIKE 'Zebra%'}), '4', '... the view as well');
is(sqlstates($standby, 'postgres', q{SELECT es_shred('1')}), '25006', '... and shreds nothing');
$node->safe_psql('postgres', q{SELECT es_shred('1')});
replayed();
is($warm->query($fields), $all =~ s/$word 1/null/r, '... what is shredded on the primary is null');
key($key[1]);
$node->safe_psql('postgres', "SELECT es_rotate_master_key('echo $key[0]')");
replayed();
is($warm->query($fields), $all =~ s/$word 1/null/r, '... and another master key taken');
$node->safe_psql('postgres', q{SELECT es_protect('new', '{$.data.x}', '$.stream')});
$node->safe_psql('postgres', q{SELECT es_append('new-1', 'T', '{"x": "new"}')});
replayed();
is($warm->query(q{SELECT data FROM es_read('new-1')}), '{"x": "new"}', '... and what is protected later');
$warm->quit;
$standby->stop;

# ---- a subscriber ----

my $subscriber = new_node('subscriber', streaming => 'logical', conf => $conf);
$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$node->safe_psql('postgres', 'CREATE PUBLICATION store FOR TABLES IN SCHEMA eventstore');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION copy CONNECTION '" . ($node->connstr('postgres') =~ s/'/''/gr) . "' PUBLICATION store");
$subscriber->wait_for_subscription_sync($node, 'copy');
$subscriber->poll_query_until('postgres', q{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel});
sub followed { $node->wait_for_catchup('copy') }
is($subscriber->safe_psql('postgres', $fields), ($all =~ s/$word 1/null/r) . ', new', 'a subscriber reads');
$warm = $subscriber->background_psql('postgres', on_error_stop => 0);
$warm->query($fields);
$node->safe_psql('postgres', $_) foreach (q{SELECT es_append('c-6', 'T', '{"id": 6, "x": "six"}')}, q{SELECT es_shred('2')}, q{SELECT es_protect('later', '{$.data.x}', '$.stream')}, q{SELECT es_append('later-1', 'T', '{"x": "later"}')});
followed();
my $now = ($all =~ s/$word [12]/null/gr) . ', new, six, later';
is($warm->query($fields), $now, '... what is made, shredded and protected since');
key($key[0]);
$node->safe_psql('postgres', "SELECT es_rotate_master_key('echo $key[1]')");
followed();
is($warm->query($fields), $now, '... and with another master key');
is(sqlstates($subscriber, 'postgres', $_), '55000', "$_ is the publisher's") foreach (q{SELECT es_shred('3')}, q{SELECT es_protect('c', '{$.data.y}', '$.stream')}, "SELECT es_rotate_master_key('echo $key[0]')");
$warm->quit;
$subscriber->stop;
$node->stop;
done_testing();
