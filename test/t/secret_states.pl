# States made of protected data: which reducers fold what is encrypted, and which need it plain;
# that both give what they give without protection; what is left after es_shred; projections,
# snapshots, truncations; without the master key; a standby, a dump.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = PostgreSQL::Test::Utils::tempdir();
my $key = join('', map { sprintf('%02x', $_) } 1 .. 32);
append_to_file("$keys/key", "$key\n");
my $conf = "eventstore.master_key_command = 'cat $keys/key'\nmax_prepared_transactions = 5\n";
my $node = new_node('main', streaming => 1, conf => $conf);

$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');

# sql(statement): what it gives, on the main server.
sub sql
{
	my ($statement, $server) = @_;

	my ($ret, $out, $err) = ($server // $node)->psql('postgres', $statement);

	fail("$statement: $err") if $ret != 0;
	return $out;
}

# state_of(stream, reducer): without what differs of the two streams of a pair.
sub state_of
{
	my ($stream, $reducer, $call) = @_;

	my ($ret, $out, $err) = $node->psql('postgres', sprintf(q{SELECT jsonb_strip_nulls(state - '{stream,position,event_id,recorded_at}'::text[]) FROM %s},
		$call // "es_replay('$stream', '$reducer')"));

	return $ret == 0 ? $out : (split /\n/, $err)[0];
}

# append(stream number, type, data): to the stream that is protected and to the one that is not.
sub append
{
	my ($n, $type, $data) = @_;

	$data =~ s/'/''/g;
	sql("SELECT es_append('person-$n', '$type', '$data'), es_append('open-$n', '$type', '$data')");
}

# set_key_command(command): from now on
sub set_key_command
{
	my ($command, $server) = @_;

	$server //= $node;
	$server->safe_psql('postgres', "ALTER SYSTEM SET eventstore.master_key_command = '$command'");
	$server->reload;
	return $server->poll_query_until('postgres', "SELECT current_setting('eventstore.master_key_command') = '$command'");
}

# ---- which reducers copy ----

sql(q{SELECT es_protect('person', '{$.data.email, $.data.home.street, $.data.items[*].note}', '$.data.id')});

my @events = (
	[ 'Joined', '{"id": 1, "email": "ann@example.com", "home": {"street": "Elm 1", "town": "Ulm"}, "n": 3, "items": [{"note": "first", "x": 1}, {"note": "second", "x": 2}], "tag": "a"}' ],
	[ 'Moved', '{"id": 1, "home": {"street": "Oak 2", "town": "Bonn"}, "email": "ann@example.org", "n": 4, "items": [{"note": "first", "x": 1}]}' ],
	[ 'Left', '{"id": 1, "n": 5, "items": [], "home": {"town": null}}' ]);
append(1, @$_) foreach @events;
append(3, 'Odd', $_) foreach '{"id": 3, "email": {"a": 1, "b": [null]}, "home": {"street": ["x", 2.50]}}', '{"id": 3, "email": {"b": null}, "home": null}', '{"id": 3, "email": null}',
	'{"id": 3, "email": "", "items": [[{"note": true}], {"note": {"$secret:": "$secret:"}}]}';

# operations, and whether what is left of them is encrypted as a whole
my @ops = (
	[ '"merge"', 0 ], [ '"replace"', 0 ], [ '"merge_patch"', 1 ], [ '"ignore"', 0 ],
	[ '{"set": {"mail": "$.data.email", "town": "$.data.home.town"}}', 0 ],
	[ '{"set": {"all": "$.data", "homes": ["$.data.home", {"again": "$.data.home"}]}}', 0 ],
	[ '{"set": {"n": "$.data.n * 2"}}', 0 ],
	[ '{"set": {"n": "$.data.email == \"x\""}}', 1 ],
	[ '{"set": {"n": "$.data.email.size()"}}', 1 ],
	[ '{"set": {"n": "$.data.*"}}', 1 ],
	[ '{"set": {"n": "$.data.home.keyvalue().key"}}', 1 ],
	[ '{"set": {"n": "$.data.items[*] ? (@.x == 1).x"}}', 0 ],
	[ '{"set": {"n": "$.data.items[*] ? (@.note == \"first\").x"}}', 1 ],
	[ '{"set": {"n": "$.data.items ? (exists (@.note)).x"}}', 1 ],
	[ '{"set": {"n": "$.data ? (@.n > 3).email"}}', 1 ],
	[ '{"set": {"notes": "$.data.items.note"}}', 0 ],
	[ '{"set": {"town": "$.data.home.street.town"}}', 1 ],
	[ '{"append": {"mails": "$.data.email"}}', 0 ],
	[ '{"append": {"log": {"at": "$.version", "mail": "$.data.email"}}}', 0 ],
	[ '[{"set": {"mails": "$.data.items"}}, {"append": {"mails": "$.data.email"}}]', 0 ],
	[ '[{"set": {"items": "$.data.items"}}, {"unset": ["items.0.note"]}]', 0 ],
	[ '{"merge": {"home": "$.data.home"}}', 0 ],
	[ '{"inc": {"n": 1}}', 0 ],
	[ '{"max": {"best": "$.data.email"}}', 1 ],
	[ '{"max": {"best": "$.data.n"}}', 0 ],
	[ '[{"set": {"items": "$.data.items"}}, {"remove": {"items": {"x": 1}}}]', 0 ],
	[ '[{"set": {"items": "$.data.items"}}, {"remove": {"items": {"note": "first"}}}]', 1 ],
	[ '[{"append": {"items": "$.data.email"}}, {"remove": {"items": {"x": "$.data.email"}}}]', 1 ],
	[ '[{"set": {"deep.a": "$.data.home"}}, {"set": {"copy": "$.state.deep"}}]', 0 ],
	[ '[{"set": {"deep.a": "$.data.home"}}, {"set": {"street": "$.state.deep.a.street"}}, {"unset": ["deep.a.town"]}]', 0 ],
	[ '[{"set": {"deep.a": "$.data.home"}}, {"set": {"long": "$.state.deep.a.street starts with \"E\""}}]', 1 ],
	[ '[{"set": {"last": "$.state.mail"}}, {"set": {"mail": "$.data.email"}}, {"unset": ["mail"]}]', 0 ],
	[ '[{"set": {"mail": "$.data.tag"}}, {"max": {"mail": "$.data.tag"}}]', 0 ],
	[ '[{"set": {"nested": {"state": "$.state"}}}, {"set": {"mail": "$.data.email"}}]', 1 ]);

for my $i (0 .. $#ops)
{
	my ($ops, $sealed) = @{ $ops[$i] };
	(my $quoted = $ops) =~ s/'/''/g;

	sql("SELECT es_register_reducer_ops('ops$i', '*', '$quoted')");
	is(state_of('person-1', "ops$i"), state_of('open-1', "ops$i"), "same state: $ops");
	sql("SELECT es_snapshot('person-1', 'ops$i')");
	is(sql("SELECT sealed IS NOT NULL FROM eventstore.snapshots WHERE reducer = 'ops$i'"), $sealed ? 't' : 'f',
		($sealed ? 'sealed' : 'copied') . ": $ops");
	is(state_of('person-1', "ops$i"), state_of('open-1', "ops$i"), "same state from the snapshot: $ops");
}
foreach ([ 'merge', 0 ], [ 'merge_patch', 1 ], [ 'count', 0 ], [ 'last', 0 ])
{
	my ($reducer, $sealed) = @$_;

	sql("SELECT es_snapshot('person-1', '$reducer')");
	is(sql("SELECT sealed IS NOT NULL FROM eventstore.snapshots WHERE reducer = '$reducer'"), $sealed ? 't' : 'f', $reducer);
	is(state_of("person-$_", $reducer), state_of("open-$_", $reducer), "same state: $reducer, stream $_") foreach 1, 3;
}

# functions, states of other types, upcasters
sql($_) foreach (
	q{CREATE TYPE card AS (mail text, n int)},
	q{CREATE FUNCTION put_card(state card, data jsonb) RETURNS card LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT ROW(coalesce(data->>'email', (state).mail), coalesce((state).n, 0) + 1)::card $$},
	q{CREATE FUNCTION add_mail(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT state || jsonb_build_object('mails', coalesce(state->>'mails', '') || '/' || coalesce((event).data->>'email', '-')) $$},
	q{SELECT es_create_reducer('card', NULL, 'card')}, q{SELECT es_register_reducer('card', '*', 'put_card(card, jsonb)')},
	q{SELECT es_register_reducer('mails', '*', 'add_mail(jsonb, es_event)')});
foreach my $reducer (qw(card mails))
{
	is(state_of('person-1', $reducer), state_of('open-1', $reducer), "same state by functions: $reducer");
	is(sql("SELECT es_snapshot('person-1', '$reducer')"), 3, 'a snapshot');
	is(sql("SELECT sealed IS NOT NULL AND state IS NULL AND state_text IS NULL FROM eventstore.snapshots WHERE reducer = '$reducer'"), 't', "sealed: $reducer");
	is(state_of('person-1', $reducer), state_of('open-1', $reducer), "same state from the snapshot: $reducer");
	is(sql("SELECT usable FROM es_snapshots WHERE reducer = '$reducer'"), 't', 'usable');
}
is(sql(q{SELECT es_replay_as('person-1', NULL::card, 'card')}), sql(q{SELECT es_replay_as('open-1', NULL::card, 'card')}), 'es_replay_as');
is(sql(q{SELECT (es_replay_as('person-1', NULL::card, 'ops0')).*}), sql(q{SELECT (es_replay_as('open-1', NULL::card, 'ops0')).*}), 'es_replay_as of a copied state');

# other ways to fold
foreach my $reducer (qw(merge mails ops4 card))
{
	foreach my $call ("es_replay('STREAM', '$reducer', 2)", "es_replay('STREAM', '$reducer', as_of => 'infinity')",
		"es_replay_steps('STREAM', '$reducer')", "es_replay_category('CATEGORY', '$reducer')",
		"(SELECT es_fold('$reducer', e ORDER BY e.version) AS state FROM es_events e WHERE e.stream = 'STREAM') f")
	{
		my ($person, $open) = ($call, $call);

		$person =~ s/STREAM/person-1/; $person =~ s/CATEGORY/person/;
		$open =~ s/STREAM/open-1/; $open =~ s/CATEGORY/open/;
		is(state_of(undef, undef, $person), state_of(undef, undef, $open), "same: $person");
	}
}

# nothing of it is in the table as it is
is(sql(q{SELECT count(*) FROM eventstore.snapshots s WHERE s::text ~ 'example|Elm|Oak|first|second'}), 0, 'no snapshot has protected data');
is(sql(q{SELECT count(*) > 0 FROM eventstore.snapshots s WHERE s::text ~ '"tag"'}), 't', 'others are there');

# a string that only looks encrypted stays, also that of another category
my $foreign = sql(q{SELECT data->>'email' FROM eventstore.events WHERE stream = 'person-1' AND version = 1});
like($foreign, qr/^\$secret:/, 'stored encrypted');
sql(q{SELECT es_protect('other', '{$.data.secret}', '$.data.id')});
sql(qq{SELECT es_append('other-1', 'T', '{"id": 1, "secret": "s", "plain": "$foreign", "odd": "\$secret:", "odder": "\$secret:AAAA"}')});
is(sql(q{SELECT state->>'plain', state->>'odd', state->>'odder', state->>'secret' FROM es_replay('other-1', 'merge')}), "$foreign|\$secret:|\$secret:AAAA|s",
	"only fields of the stream's own category are opened");

# ---- projections ----

sql($_) foreach (
	q{CREATE TABLE seen (stream text, email text)},
	q{CREATE FUNCTION see(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES (event.stream, event.data->>'email') $$},
	q{CREATE FUNCTION unsee() RETURNS void LANGUAGE sql AS $$ TRUNCATE seen $$},
	map { (qq{SELECT es_create_projection('p_$_', '$_', 'inline', 'person')}, qq{SELECT es_create_projection('o_$_', '$_', 'inline', 'open')},
		qq{SELECT es_create_projection('pa_$_', '$_', 'async', 'person', '\$.data.id')}, qq{SELECT es_create_projection('oa_$_', '$_', 'async', 'open', '\$.data.id')}) } qw(merge mails card ops4));
sql(q{SELECT es_create_handler_projection('handler', 'see(es_event)', 'async', '{person}', NULL, 'unsee()')});
append(2, 'Joined', '{"id": 2, "email": "bob@example.com", "home": {"street": "Elm 2"}}');
append(1, 'Joined', '{"id": 3, "email": "cyd@example.com", "home": {"street": "Elm 3"}}');

# run_all(): all of the asynchronous ones
sub run_all
{
	sql("SELECT count(es_run_projection(projection)) FROM es_projections WHERE mode = 'async' OR status = 'rebuilding'");
}

# states(projection): all of them
sub states
{
	my ($projection) = @_;

	return sql("SELECT replace(key, 'open', 'person'), version, state FROM es_projection('$projection')");
}
run_all();
foreach my $reducer (qw(merge mails card ops4))
{
	is(states("p_$reducer"), states("o_$reducer"), "inline states: $reducer");
	is(states("pa_$reducer"), states("oa_$reducer"), "asynchronous states: $reducer");
	sql("SELECT es_projection_view('p_$reducer', 'vp_$reducer'), es_projection_view('o_$reducer', 'vo_$reducer')");
	is(sql("SELECT key, version, state FROM vp_$reducer ORDER BY key"), sql("SELECT replace(key, 'open', 'person'), version, state FROM vo_$reducer ORDER BY key"), "views: $reducer");
}
is(sql(q{SELECT count(*) FROM eventstore.projection_states s JOIN eventstore.projections p USING (projection_id) WHERE p.name ~ '^p' AND s::text ~ 'example|Elm|Oak|first|second'}), 0,
	'no state has protected data');
is(sql('SELECT * FROM seen WHERE email ~ \'cyd\''), 'person-1|cyd@example.com', 'a handler gets it plain');

# what would be stored plain is refused
is(sqlstates($node, 'postgres', q{SELECT es_create_projection('bad', 'merge', 'async', 'person', '$.data.email')}), '22023', 'a protected key');
is(sqlstates($node, 'postgres', q{SELECT es_create_projection('bad', 'merge', 'async', NULL, '{"Joined": "$.data.home.street", "*": "$.stream"}')}), '22023', 'one by type, of all categories');
sql(q{SELECT es_register_upcaster_ops('Wrote', 1, '{"set": {"contact": {"mail": "$.data.email"}}}')});
is(sqlstates($node, 'postgres', qq{SELECT es_create_projection('bad', 'merge', 'async', $_)}), '22023', "... and one that an upcaster copies: $_") foreach q{'person', '$.data.contact.mail'}, q{NULL, '{"Wrote": "$.data.contact"}'};
is(sqlstates($node, 'postgres', q{SELECT es_create_projection('bad', 'merge', 'async', 'person', '{"Wrote": "$.data.n", "*": "$.data.contact.mail"}'), es_drop_projection('bad')}), '', '... of that type only');
sql(q{SELECT es_create_projection('by_place', 'merge', 'async', 'person', '$.data.place')});
is(sqlstates($node, 'postgres', q{SELECT es_register_upcaster_ops('Wrote', 2, '[{"set": {"a": "$.state.contact"}}, {"set": {"place": "$.state.a.mail"}}]')}), '55000', 'an upcaster that copies it to a key');
is(sqlstates($node, 'postgres', q{SELECT es_register_upcaster_ops('Wrote', 2, '{"set": {"place": "$.data.n"}}')}), '', '... and one that copies something else');
sql(q{SELECT es_drop_projection('by_place'), es_drop_upcaster('Wrote', 2), es_drop_upcaster('Wrote', 1)});

# ... whatever else the upcaster does, and whichever of the three comes last
my $by_id = q{SELECT es_create_projection('by_id', 'count', 'async', '%s', '$.data.id')};
my $cards = q{SELECT es_protect('%s', '{$.data.ssn,$.data.card}', '$.data.person')};
my $account = 0;
foreach my $ops ('{"set": {"a": "$.data.ssn.type()", "id": "$.data.ssn"}}', '[{"max": {"n": "$.data.ssn"}}, {"set": {"id": "$.data.ssn"}}]', '[{"inc": {"ssn.x": 1}}, {"set": {"id": "$.data.ssn"}}]',
	'["merge_patch", {"set": {"id": "$.data.ssn"}}]', '{"set": {"id": "$.data.card.number"}}', '{"set": {"id": {"kind": "$.data.ssn.type()"}}}', '{"max": {"id": "$.data.ssn"}}')
{
	my $category = 'acct' . ++$account;
	my $upcast = "SELECT es_register_upcaster_ops('Acct', 1, '$ops')";

	sql(sprintf $cards, $category);
	sql($upcast);
	is(sqlstates($node, 'postgres', sprintf $by_id, $category), '22023', "a projection by what is left by $ops");
	is(sqlstates($node, 'postgres', "SELECT es_create_projection('by_id', 'count', 'async', '$category', '\$.data.other'), es_drop_projection('by_id')"), '', '... not one by something else');
	sql(sprintf $by_id, "new$category");
	is(sqlstates($node, 'postgres', sprintf $cards, "new$category"), '55000', '... fields that are protected last');
	sql(q{SELECT es_drop_projection('by_id'), es_drop_upcaster('Acct', 1)});
	sql(sprintf $by_id, $category);
	is(sqlstates($node, 'postgres', $upcast), '55000', '... an upcaster that is registered last');
	sql(q{SELECT es_drop_projection('by_id')});
}

# more fields than are followed at once
sql(qq{SELECT es_protect('many$_', (SELECT array_agg('\$.data.m${_}_' || i) FROM generate_series(1, 600) i), '\$.data.person')}) foreach 1, 2;
my @fields = map { my $n = $_; map { "m${n}_" . 50 * $_ } 1 .. 12 } 1, 2;
my @outcomes = map { sqlstates($node, 'postgres', qq{BEGIN; SELECT es_register_upcaster_ops('Many', 1, '{"set": {"id": "\$.data.$_"}}');
	SELECT es_create_projection('many', 'count', 'async', NULL, '\$.data.id')}) } @fields, 'other';
is(join(' ', @outcomes), join(' ', ('22023') x @fields, ''), 'each of many protected fields is followed');

# ... and of very many categories, each with fields of its own, for no more memory than they take
sub peak { return $_[0]->query_safe(q{SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')}); }
new_store($node, 'wide');
$node->safe_psql('wide', $_) foreach (
	q{ALTER TABLE eventstore.protections DISABLE TRIGGER USER;
		INSERT INTO eventstore.protections (after_position, created_at, hashed, category, subject, paths) SELECT 0, now(), false, 'wide' || i, '$.data.person', ARRAY['$.data.secret' || i] FROM generate_series(1, 5000) i;
		ALTER TABLE eventstore.protections ENABLE TRIGGER USER},
	q{SELECT es_register_upcaster_ops('Wide', 1, '{"set": {"id": "$.data.secret4711"}}'), es_register_upcaster_ops('Other', 1, '{"set": {"id": "$.data.n"}}')});
my $wide = $node->background_psql('wide', on_error_stop => 0);
$wide->query_safe('SELECT count(*) FROM es_protections');
my $before = peak($wide);
foreach my $case ([ q{SELECT es_create_projection('by_id', 'count', 'async', NULL, '$.data.id')}, qr/must not come from a protected field/, 'a projection by one of them' ],
	[ q{SELECT es_create_projection('by_other', 'count', 'async', NULL, '$.data.other')}, qr/^$/, 'one by none' ],
	[ q{SELECT es_create_projection('by_id', 'count', 'async', '{wide1,wide2,wide3}', '$.data.id')}, qr/^$/, 'one of other categories' ],
	[ q{SELECT es_protect('more', '{$.data.secret}', '$.data.person')}, qr/^$/, 'one more category' ],
	[ q{SELECT es_register_upcaster_ops('Other', 2, '{"set": {"other": "$.data.secret4711"}}')}, qr/cannot put protected fields/, 'an upcaster' ])
{
	my ($statement, $error, $what) = @$case;

	$wide->query($statement);
	like($wide->{stderr}, $error, "$what, of 5,000 categories");
	$wide->{stderr} = '';
}
cmp_ok(peak($wide) - $before, '<', 100_000, '... in less than 100 MB');
$wide->quit;

is(sqlstates($node, 'postgres', q{SELECT es_create_projection('bad', 'mails', 'inline', 'person', '$.data.n')}), '55000', 'an inline one of many subjects');
is(sqlstates($node, 'postgres', q{SELECT es_create_projection('bad', 'mails', 'inline', 'person', '$.data.id'), es_drop_projection('bad')}), '', 'by the subject');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_merge', $$((state ->> 'email'))$$)}), '22023', 'an index on a protected field');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_merge', $$USING gin (state)$$)}), '22023', 'and on everything');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_merge', $$((state -> 'home'))$$)}), '22023', 'and on what has one');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_merge', $$(key) INCLUDE (state)$$)}), '22023', 'and beside a key');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_merge', $$(key) WHERE state ->> 'email' > 'm'$$)}), '22023', 'and by one');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_mails', $$((state ->> 'x'))$$)}), '22023', 'of a state that is sealed');
is(sqlstates($node, 'postgres', q{SELECT es_index_projection('p_merge', $$((state ->> 'tag'), (state -> 'home' ->> 'town'))$$)}), '', 'others are fine');

# what 0.1.0 has let in, a key from where an upcaster puts a part of a protected field, is in the way of its category and its type only
new_store($node, 'let_in');
$node->safe_psql('let_in', $_) foreach (
	q{SELECT es_protect('crm', '{$.data.email}', '$.data.person'), es_create_projection('by_n', 'count', 'async', 'crm', '$.data.n'), es_create_projection('all_by_n', 'count', 'async', NULL, '$.data.n')},
	q{ALTER TABLE eventstore.upcasters DISABLE TRIGGER USER;
		INSERT INTO eventstore.upcasters (after_position, from_version, type, ops) VALUES (0, 1, 'T', '{"set": {"n": "$.data.email.size()"}}');
		ALTER TABLE eventstore.upcasters ENABLE TRIGGER USER});
is(sqlstates($node, 'let_in', $_->[0]), $_->[1], $_->[2]) foreach (
	[ q{SELECT es_protect('billing', '{$.data.iban}', '$.data.person')}, '', 'fields of another category' ],
	[ q{SELECT es_register_upcaster_ops('U', 1, '{"set": {"iban": "$.data.n"}}')}, '', 'another type' ],
	[ q{SELECT es_register_upcaster_ops('T', 2, '{"set": {"x": 1}}')}, '55000', 'that type' ],
	[ q{SELECT es_protect('crm', '{$.data.phone}', '$.data.person')}, '55000', 'one field more of that category' ],
	[ q{SELECT es_create_projection('new', 'count', 'async', 'crm', '$.data.n')}, '22023', 'a new projection' ],
	[ q{SELECT es_protect('crm', '{}', NULL)}, '', 'an end to its protection' ]);

# a reducer that is changed
sql(q{SELECT es_register_reducer_ops('changing', '*', '"merge"'), es_create_projection('changing', 'changing', 'inline', 'person', '$.data.n')});
is(sqlstates($node, 'postgres', q{SELECT es_register_reducer_ops('changing', '*', '"merge_patch"')}), '55000', 'an inline projection has a reducer that must only copy');
is(sqlstates($node, 'postgres', q{SELECT es_register_reducer('changing', '*', 'add_mail(jsonb, es_event)')}), '55000', '... be it operations or a function');
is(sqlstates($node, 'postgres', q{SELECT es_register_reducer_ops('changing', 'Joined', '{"set": {"mail": "$.data.email"}}')}), '', '... and may copy otherwise');
sql(q{SELECT es_drop_projection('changing')});

# whoever queries a view needs the right
sql(q{CREATE ROLE onlooker; GRANT SELECT ON vp_merge, vp_mails, vo_mails TO onlooker});
is(sqlstates($node, 'postgres', qq{SET ROLE onlooker; SELECT state FROM $_}), '42501', "without the right: $_") foreach qw(vp_merge vp_mails);
is(sqlstates($node, 'postgres', q{SET ROLE onlooker; SELECT state FROM vo_mails}), '', 'what is not protected');
is(sqlstates($node, 'postgres', qq{SET ROLE onlooker; SELECT eventstore.shown_state(projection_id, '1', NULL) FROM (SELECT generate_series(1, 20)::bigint) p (projection_id)}), '42501', 'no way around');
sql(q{SELECT es_grant('onlooker', 'read', 'person')});
is(sql(q{SET ROLE onlooker; SELECT state->>'mails' FROM vp_mails WHERE key = 'person-2'}), '/bob@example.com', 'with it');

# es_protect with projections there
sql($_) foreach (q{SELECT es_append('late-' || i, 'T', jsonb_build_object('id', i, 'mail', 'late@example.com')) FROM generate_series(1, 3) i},
	q{SELECT es_create_projection('late', 'merge', 'inline', 'late')}, q{SELECT es_projection_view('late', 'vlate')},
	q{SELECT es_index_projection('late', $$((state ->> 'mail'))$$)},
	q{SELECT es_create_projection('late_mail', 'count', 'async', 'late', '$.data.mail')});
is(sql(q{SELECT pg_get_viewdef('vlate') ~ 'shown_state'}), 't', 'a view asks');
unlike(sql(q{EXPLAIN (VERBOSE) SELECT * FROM vlate}), qr/shown_state/, '... and needs not where nothing is protected');
is(sqlstates($node, 'postgres', q{SELECT es_protect('late', '{$.data.mail}', '$.data.id')}), '55000', 'a key is in the way');
sql(q{SELECT es_drop_projection('late_mail')});
sql($_) foreach (q{SELECT es_create_projection('late_mail', 'count', 'async', 'late', '$.data.contact')}, q{SELECT es_register_upcaster_ops('T', 1, '{"set": {"contact": "$.data.mail"}}')});
is(sqlstates($node, 'postgres', q{SELECT es_protect('late', '{$.data.mail}', '$.data.id')}), '55000', '... also one that an upcaster copies');
sql(q{SELECT es_drop_projection('late_mail'), es_drop_upcaster('T', 1)});
is(sqlstates($node, 'postgres', q{SELECT es_protect('late', '{$.data.mail}', '$.data.id')}), '55000', 'an index is');
my $prepared = $node->background_psql('postgres', on_error_stop => 0);
$prepared->query_safe(q{SET plan_cache_mode = force_generic_plan});
$prepared->query_safe(q{PREPARE look AS SELECT string_agg(state->>'mail', ',' ORDER BY key) FROM vlate});
is($prepared->query_safe('EXECUTE look'), 'late@example.com,late@example.com,late@example.com', 'a plan of before');
sql(q{SELECT es_drop_projection_index('late', c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = format('eventstore.projection_states_%s', (SELECT projection_id FROM eventstore.projections WHERE name = 'late'))::regclass AND NOT i.indisprimary});
sql(q{SELECT es_protect('late', '{$.data.mail}', '$.data.id')});
sql(q{SELECT es_append('late-1', 'T', '{"id": 1, "mail": "hidden@example.com"}')});
is($prepared->query_safe('EXECUTE look'), 'hidden@example.com,late@example.com,late@example.com', '... shows what is protected since');
$prepared->quit;

# ---- shredding ----

my %before = map { $_ => states($_) } qw(pa_merge pa_mails);
sql(q{SELECT es_shred('1')});
is(sql(q{SELECT state->'email', state->'home' FROM es_replay('person-1', 'merge', 2)}), 'null|{"town": "Bonn", "street": null}', 'copies are null');
is(sql(q{SELECT state FROM es_replay('person-1', 'mails', 2)}), '{"mails": "/-/-"}', 'a state is folded of nulls');
is(sql(q{SELECT bool_and(NOT usable) FROM es_snapshots WHERE stream = 'person-1' AND reducer IN ('mails', 'card')}), 't', 'snapshots are lost');
is(sql(q{SELECT state IS NULL FROM es_projection('pa_mails', '1')}), 't', 'a state is lost');
is(sql(q{SELECT state->>'mails' FROM es_projection('pa_mails', '2')}), '/bob@example.com', "another subject's is not");
is(sql(q{SELECT count(*) FROM es_projections WHERE projection IN ('p_mails', 'p_card', 'pa_mails', 'pa_card') AND status = 'rebuilding'}), 4, 'rebuilds have begun');
is(sql(q{SELECT count(*) FROM es_projections WHERE projection IN ('p_merge', 'pa_merge', 'p_ops4') AND status = 'rebuilding'}), 0, 'where they are needed');
is(sqlstates($node, 'postgres', q{SELECT es_append('person-1', 'Joined', '{"id": 4, "email": "dan@example.com"}')}), '', 'an append whose inline state is lost');
is(sql(q{SELECT version, state IS NULL FROM es_projection('p_mails', 'person-1')}), '5|t', '... counts, and it stays lost');
run_all();
sql(qq{SELECT es_create_projection('again_$_', replace('$_', 'a_', ''), 'async', 'person', '\$.data.id')}) foreach qw(mails card merge);
sql(qq{SELECT es_create_projection('anew_$_', '$_', 'async', 'person')}) foreach qw(mails card merge);
run_all();
foreach my $reducer (qw(mails card merge))
{
	is(states("pa_$reducer"), states("again_$reducer"), "as made anew: $reducer");
	is(states("p_$reducer"), states("anew_$reducer"), "as made anew, inline: $reducer");
	is(sql("SELECT key, version, state FROM vp_$reducer ORDER BY key"), states("anew_$reducer"), "in a view: $reducer");
}
is(sql(q{SELECT es_snapshot('person-1', 'mails')}), 5, 'a snapshot takes the place of the lost one');
is(sql(q{SELECT bool_or(usable) FROM es_snapshots WHERE stream = 'person-1' AND reducer = 'mails'}), 't', '... and is used');

# ---- truncation ----

append(7, 'Joined', qq{{"id": 7, "email": "eve$_\@example.com"}}) foreach 1 .. 4;
sql(q{SELECT es_snapshot('person-7', 'mails'), es_snapshot('person-7', 'merge'), es_truncate_stream('person-7', 4)});
is(sql(q{SELECT state FROM es_replay('person-7', 'mails')}), '{"mails": "/eve1@example.com/eve2@example.com/eve3@example.com/eve4@example.com"}', 'from what truncation keeps');
sql(q{SELECT es_shred('7')});
is(sqlstates($node, 'postgres', q{SELECT es_replay('person-7', 'mails')}), '55000', 'lost');
is(sql(q{SELECT state FROM es_replay('person-7', 'merge')}), '{"id": 7, "email": null}', 'copied');
sql(q{SELECT es_append('person-7', 'Plain', '{"id": 7}')});
is(sqlstates($node, 'postgres', q{SELECT es_truncate_stream('person-7', 5)}), '', 'what is lost keeps nobody from truncating');

# ---- too many subjects ----

sql(q{SELECT es_create_projection('sum', 'mails', 'async', 'person', '$.type')});
sql(q{SELECT count(es_append('person-' || (1000 + i), 'Many', jsonb_build_object('id', 1000 + i, 'email', i::text))) FROM generate_series(1, 1001) i});
like(sql(q{SELECT es_run_projection('sum'); SELECT error FROM es_projections WHERE projection = 'sum'}), qr/too many subjects/, 'it stops');
sql(q{SELECT es_drop_projection('sum')});
sql(q{SELECT count(es_append('other-9', 'T', jsonb_build_object('id', 5000 + i, 'secret', i::text))) FROM generate_series(1, 1001) i; SELECT es_snapshot_every('merge_patch', 10)});
is(sql(q{SELECT state->>'secret' FROM es_replay('other-9', 'merge_patch')}), '1001', 'a replay has no limit');
is(sql(q{SELECT count(*) FROM es_replay_category('other', 'merge_patch')}), 2, '... of a category neither');
is(sql(q{SELECT count(*) FROM es_snapshots WHERE stream = 'other-9'}), 0, '... but leaves no snapshot');
is(sqlstates($node, 'postgres', q{SELECT es_snapshot('other-9', 'merge_patch')}), '54000', '... which is told who asks for one');
is(sql(q{SELECT es_snapshot('other-9', 'merge')}), 1001, 'where it is copied there is none either');
sql(q{SELECT es_snapshot_every('merge_patch', NULL)});

# ---- without the master key ----

run_all();
my $standby = start_standby($node, undef);
sql('SELECT es_settle()');
$node->wait_for_catchup($standby);
is(sql(q{SELECT state->>'email' FROM es_replay('person-2', 'merge')}, $standby), 'bob@example.com', 'a standby reads');
is(sql(q{SELECT state->>'mails' FROM es_replay('person-2', 'mails')}, $standby), '/bob@example.com', '... and folds');
is(sql(q{SELECT state->>'mails' FROM es_projection('pa_mails', '2')}, $standby), '/bob@example.com', '... and shows states');
set_key_command('false');
is(sql(q{SELECT state->>'tag' FROM es_replay('open-1', 'merge')}), 'a', 'what is not protected goes on');
is(sqlstates($node, 'postgres', q{SELECT es_replay('person-2', 'merge')}), '55000', 'reading a copy');
is(sqlstates($node, 'postgres', q{SELECT es_replay('person-2', 'mails')}), '55000', 'folding what is needed plain');
is(sqlstates($node, 'postgres', q{SELECT es_projection('pa_mails', '2')}), '55000', 'reading a sealed state');
is(sqlstates($node, 'postgres', q{SELECT es_snapshot('person-2', 'merge')}), '', 'a fold of what is encrypted goes on');
is(sql(q{SELECT es_rebuild_projection('pa_merge'); SELECT es_run_projection('pa_merge') > 0}), "\nt", 'also in a projection');
is(sql(q{SELECT status FROM es_projections WHERE projection = 'pa_merge'}), 'running', '... which has not failed');
is(sql(q{SELECT count(*) FROM es_snapshots WHERE usable IS NULL}), 0, 'snapshots can be looked at');
set_key_command("cat $keys/key");

# ---- a dump ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ $node->installed_command('pg_dump'), '-f', $dump, $node->connstr('postgres') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ $node->installed_command('psql'), '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'restored');
foreach my $query (q{SELECT key, version, state FROM es_projection('pa_mails') ORDER BY key}, q{SELECT key, version, state FROM es_projection('p_merge') ORDER BY key},
	q{SELECT key, state FROM vp_card ORDER BY key}, q{SELECT stream, version, state FROM es_replay_category('person', 'merge') ORDER BY stream},
	q{SELECT stream, reducer, version, usable FROM es_snapshots ORDER BY 1, 2, 3})
{
	is($node->safe_psql('copy', $query), sql($query), "the same in a restored store: $query");
}

# ---- handlers that are ended, or end the transaction ----

# what the log has of statements is the administrator's choice
my $ended = new_node('ended', conf => $conf . "shared_preload_libraries = 'eventstore'\nlog_min_error_statement = panic\neventstore.backoff_max = '1h'\neventstore.projection_timeout = '1s'\n");

$ended->safe_psql('postgres', $_) foreach ('CREATE EXTENSION eventstore', q{SELECT es_protect('person', '{$.data.email}', '$.data.id')},
	q{CREATE FUNCTION long(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SELECT pg_sleep(600), %L', event.data->>'email'); END $$},
	q{CREATE FUNCTION retry(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		RAISE EXCEPTION 'not %', event.data->>'email' USING ERRCODE = '40001', DETAIL = event.data, HINT = event.data, TABLE = event.data->>'email'; END $$},
	q{CREATE FUNCTION within(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SELECT state, %L FROM es_replay(%L, %L)', event.data->>'email', 'inner-1', 'failing'); END $$},
	q{CREATE FUNCTION fail(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', data->>'email' USING ERRCODE = '40001'; END $$},
	q{CREATE TABLE mails (email text)},
	q{CREATE FUNCTION note(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO mails VALUES (event.data->>'email') $$},
	q{CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', new.email USING ERRCODE = TG_ARGV[0]; END $$},
	q{CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$ SELECT $$});

# by_hand(handler, sqlstate, warning): what its client, and nobody else, is told of an append with an inline projection
sub by_hand
{
	my ($handler, $sqlstate, $warning) = @_;

	$ended->safe_psql('postgres', "SELECT es_create_handler_projection('$handler', '$handler(es_event)', 'inline', '{person}', NULL, 'forget()')");
	my ($ret, $out, $err) = $ended->psql('postgres', qq{\\set VERBOSITY verbose\nSET statement_timeout = '2s'; SELECT es_append('person-1', 'Joined', '{"id": 1, "email": "word-$handler"}')});
	like($err, qr/ERROR:  $sqlstate: handler failed with protected data/, "inline, $handler: the error keeps its SQLSTATE");
	unlike($err =~ s/WARNING:.*?(?=psql:|\z)//sr, qr/word-$handler/, '... and tells nothing');
	like($err, qr/WARNING:  $sqlstate: what failed with protected data: $warning/, '... beside a warning to its client');
	$ended->safe_psql('postgres', "SELECT es_drop_projection('$handler')");
	return;
}
by_hand('long', '57014', 'canceling statement due to statement timeout');
by_hand('retry', '40001', 'not word-retry');

# what an inner handler says gets the statements of the outer one as context
$ended->safe_psql('postgres', q{SELECT es_protect('inner', '{$.data.email}', '$.data.id'), es_register_reducer('failing', '*', 'fail(jsonb, jsonb)');
	SELECT es_append('inner-1', 'T', '{"id": 1, "email": "word-inner"}')});
by_hand('within', '40001', 'not word-inner');

# the same by the worker
my %noted = (long => qr/SQLSTATE 57014/, retry => qr/SQLSTATE 40001/, note => qr/SQLSTATE 40001/, note_own => qr/HINT/);
$ended->safe_psql('postgres', q{CREATE CONSTRAINT TRIGGER object AFTER INSERT ON mails DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION object('40001')});
foreach my $case (sort keys %noted)
{
	my ($handler) = split /_/, $case;

	$ended->safe_psql('postgres', q{DROP TRIGGER object ON mails; CREATE CONSTRAINT TRIGGER object AFTER INSERT ON mails DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION object('VE009')}) if $case eq 'note_own';
	$ended->safe_psql('postgres', qq{SELECT es_create_handler_projection('$case', '$handler(es_event)', 'async', '{person}', NULL, 'forget()');
		SELECT es_append('person-2', 'Joined', '{"id": 2, "email": "word-$case"}')});
	ok($ended->poll_query_until('postgres', "SELECT error IS NOT NULL FROM es_projections WHERE projection = '$case'"), "worker, $case: it fails");
	unlike($ended->safe_psql('postgres', q{SELECT string_agg(p::text, ' ') FROM eventstore.projection_progress p}), qr/word-/, '... and what is kept of that tells nothing');
	like($ended->safe_psql('postgres', "SELECT error FROM es_projections WHERE projection = '$case'"), qr/^handler failed with protected data.*$noted{$case}/s, '... but that');
	# one by one: each looks at the events of those before
	$ended->safe_psql('postgres', "SELECT es_drop_projection('$case')");
}
$ended->safe_psql('postgres', 'DROP TABLE mails');

# a session that ends in a handler
$ended->safe_psql('postgres', q{SELECT es_protect('last', '{$.data.email}', '$.data.id'), es_create_handler_projection('long', 'long(es_event)', 'inline', '{last}', NULL, 'forget()')});
my $session = start_named($ended, 'postgres', 'ends', q{SELECT es_append('last-1', 'Joined', '{"id": 3, "email": "word-end"}');});
$ended->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'ends' AND wait_event = 'PgSleep'}) or die;
$ended->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ends'});
finish_script($session);
my $log = slurp_file($ended->logfile);
like($log, qr/FATAL: .*terminating connection due to administrator command/, 'the log tells of a session that is ended in a handler');
like($log, qr/ERROR: .*handler failed with protected data/, '... and of handlers that failed');
unlike($log, qr/word-/, '... and nothing of their data');

done_testing();
