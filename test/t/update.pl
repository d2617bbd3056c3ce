# A store of the last release, with data of every kind, is updated by ALTER EXTENSION, beside sessions that go on: it
# is then what a new one is, in the catalog and in what it does.  Until then, and with the former library, it works, and
# says what it lacks.  pg_upgrade and dumps carry it over as well.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Cwd qw(getcwd);
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $released = "$ENV{TMPDIR}/released";
plan skip_all => slurp_file("$released.missing") if -e "$released.missing";
die 'the last release was not built' if !-d $released;

my ($from) = slurp_file("$released/eventstore.control") =~ /^default_version = '(.*)'/m;
my $settings = "autovacuum = off\neventstore.scavenge_rate = 0\n";
my $preloading = "shared_preload_libraries = 'eventstore'\n";

# The files of these sources, as they are installed.
my $latest = PostgreSQL::Test::Utils::tempdir();
my ($library_folder, $share_folder) = map { my ($folder) = run_command([ 'pg_config', $_ ]); $folder } qw(--pkglibdir --sharedir);
system('bash', '-c', qq{cp -L "$library_folder"/eventstore.so "$share_folder"/extension/eventstore.control "$share_folder"/extension/eventstore--*.sql $latest}) == 0 or die;
my ($to) = slurp_file("$latest/eventstore.control") =~ /^default_version = '(.*)'/m;
plan skip_all => "no version has begun since $from" if $from eq $to;

# install(root, files): takes the place of those of the extension that an installation has, as a package would.
sub install
{
	my ($root, $files) = @_;

	system('bash', '-ec', qq{
		rm -f "$root$library_folder"/eventstore.so "$root$share_folder"/extension/eventstore.control "$root$share_folder"/extension/eventstore--*
		cp $files/eventstore.so "$root$library_folder"/
		cp $files/eventstore.control $files/eventstore--*.sql "$root$share_folder"/extension/}) == 0 or die;
}

# fill(node, database): a store with data of every kind.
sub fill
{
	my ($node, $database) = @_;

	new_store($node, $database, 100);
	$node->safe_psql($database, $_) foreach (
		q{SELECT es_grant('clerk', 'append', 'order'), es_grant('clerk', 'read', 'order'), es_grant('boss', 'admin')},
		q{SELECT es_register_reducer_ops('order', 'OrderPlaced', '{"inc": {"n": "$.data.n"}}')},
		q{SELECT es_create_projection('orders', 'order', 'inline', 'order'), es_create_projection('later', 'count')},
		q{CREATE TABLE noted (stream text, version bigint)},
		q{CREATE FUNCTION note(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO noted VALUES (event.stream, event.version)'},
		q{SELECT es_create_handler_projection('notes', 'note(es_event)', categories => '{order}')},
		q{SELECT es_projection_view('orders', 'orders_view')},
		q{SELECT count(es_append('order-' || n % 7, 'OrderPlaced', jsonb_build_object('n', n), '{"tags": ["t"]}')) FROM generate_series(1, 250) n},
		q{SELECT es_snapshot('order-1'), es_snapshot('order-2', 'count'), es_snapshot_every('order', 10)},
		q{SELECT es_register_upcaster_ops('OrderPlaced', 1, '{"inc": {"n": 1}}')},
		q{SELECT es_register_schema('Paid', '{"type": "object", "required": ["id"]}')},
		q{SELECT es_protect('pay', '{$.data.card}', '$.data.id')},
		q{SELECT es_append('pay-' || n, 'Paid', jsonb_build_object('id', 'p' || n, 'card', '4711-' || n)) FROM generate_series(1, 3) n},
		q{SELECT es_subscribe('plain'), es_subscribe('shared', partitions => 3, categories => '{order}', max_attempts => 1), es_subscribe('asked', query => '[{"tags": ["t"]}]')},
		q{SELECT es_ack('plain', 0, max(position)) FROM es_poll('plain', 50)},
		q{SELECT count(es_nack('shared', partition, position, 'no', 'ann')) FROM (SELECT * FROM es_poll('shared', 5, member => 'ann', lease => '1h') LIMIT 1) d},
		q{SELECT es_run_projection('later'), es_run_projection('notes')},
		qq{SELECT es_create_feed('feed_$database', categories => '{order}')},
		q{SELECT es_append('left-' || i, 'L') FROM generate_series(1, 2) i, generate_series(1, 5)},
		q{SELECT es_snapshot('left-1', 'count'), es_truncate_stream('left-1', 4), es_delete_stream('left-2'), es_set_retention('aged', '30 days', 100)},
		q{SELECT es_seal()},
		q{CREATE VIEW how_far AS SELECT subscription, position FROM es_subscriptions});
	# what an administrator has made of it
	# the next segment is made in the background
	$node->poll_query_until($database, q{SELECT count(*) = 4 FROM es_segments}) or die;
	$node->safe_psql($database, $_) foreach (
		q{REVOKE EXECUTE ON FUNCTION es_seal() FROM PUBLIC},
		q{GRANT SELECT ON eventstore.events TO boss},
		q{CREATE INDEX by_member ON eventstore.subscription_members (member)});
}

# definitions(node, database, options): as pg_dump sees them, without what differs from store to store.
sub definitions
{
	my ($node, $database, @options) = @_;
	my ($text) = run_command([ $node->installed_command('pg_dump'), '-s', @options, '-d', $node->connstr($database) ]);

	$text =~ s/^--.*\n//mg;
	$text =~ s/^SELECT pg_catalog\.binary_upgrade_set_next.*\n//mg;
	$text =~ s/^\\(un)?restrict .*\n//mg;
	$text =~ s/relfrozenxid = '\d+', relminmxid = '\d+'/FROZEN/g;
	# which tables' rows are dumped is asked by name below: here they are in the order in which they were told
	$text =~ s/binary_upgrade_create_empty_extension\(.*?\);/$& =~ s!'\{(?:"[^']*|[^"]*?,"")[^']*(?:''[^']*)*\}'!CONDITIONS!gr =~ s!'\d+'|\d{5,}!N!gr/gse;
	$text =~ s/\boid = '\d+'/oid = 'N'/g;
	$text =~ s/feed_$database/FEED/g;
	# the order is that of OIDs here and there
	return join "\n", sort split /\n{2,}/, $text;
}

# What pg_dump does not say: what a new database of the extension begins with, and members.
my $members = q{
	SELECT pg_describe_object(d.classid, d.objid, 0), i.initprivs::text
	FROM pg_depend d LEFT JOIN pg_init_privs i ON i.classoid = d.classid AND i.objoid = d.objid AND i.objsubid = 0
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
	ORDER BY 1, 2};
my $columns = q{
	SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage, a.attcompression, a.attcollation::regcollation, a.attacl, i.initprivs
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		LEFT JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = a.attnum
	WHERE c.relnamespace = 'eventstore'::regnamespace OR c.relname ~ '^es_' ORDER BY 1, 2};

my $dumped = q{SELECT u.id::regclass, u.condition FROM pg_extension x, unnest(x.extconfig, x.extcondition) u(id, condition) WHERE x.extname = 'eventstore' ORDER BY u.id::regclass::text};

# same(a, b, what): is, with the lines that differ.
sub same
{
	my ($got, $wanted, $what) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();

	return pass($what) if $got eq $wanted;
	fail($what);
	append_to_file("$folder/got", "$got\n");
	append_to_file("$folder/wanted", "$wanted\n");
	diag `diff -U2 $folder/wanted $folder/got`;
	return;
}

# same_catalog(node, database, other, of_other, what)
sub same_catalog
{
	my ($node, $database, $other, $of_other, $what) = @_;

	same(definitions($node, $database), definitions($other, $of_other), "$what: the same definitions");
	same(definitions($node, $database, '--binary-upgrade'), definitions($other, $of_other, '--binary-upgrade'), "$what: the same members, rights, comments and options");
	same($node->safe_psql($database, $_), $other->safe_psql($of_other, $_), "$what: and what no dump says") foreach $members, $columns, $dumped;
}

# What a store does; what it answers depends on what fill() has put in, and on what is done here.
my @behaviour = (
	q{SELECT es_append('order-1', 'OrderPlaced', '{"n": 1000}'), es_last_position()},
	q{SELECT state, version FROM es_replay('order-1')},
	q{SELECT es_projection('orders', 'order-1'), (SELECT count(*) FROM orders_view)},
	q{SELECT es_run_projection('later'), es_run_projection('notes'), (SELECT count(*) FROM noted)},
	q{SELECT projection, mode, lag, failed_at IS NULL FROM es_projections ORDER BY 1},
	q{SELECT position, stream, version FROM es_poll('plain', 3)},
	q{SELECT count(*), max(attempt) FROM es_poll('shared', 400, member => 'ann', lease => '1h')},
	q{SELECT count(*) FROM es_poll('asked', 300)},
	q{SELECT subscription, partition, position, member, lag, parked FROM es_subscriptions ORDER BY 1, 2},
	q{SELECT subscription, position FROM how_far ORDER BY 1, 2},
	q{SET ROLE clerk; SELECT es_append('order-2', 'OrderPlaced', '{"n": 1}'); SELECT count(*) FROM es_read_all(0, NULL)},
	q{SELECT role, privilege, category FROM es_grants ORDER BY 1, 2, 3},
	q{SELECT data FROM es_read('pay-1')},
	q{SELECT es_shred('p2'); SELECT data FROM es_read('pay-2')},
	q{SELECT count(*), (SELECT count(*) FROM es_seals) FROM es_verify()},
	q{SELECT array_agg(version) FROM es_read('left-1')},
	q{SELECT count(*) FROM es_read_tagged('{t}', 0, NULL)},
	q{SELECT category, max_age, max_count FROM es_retention ORDER BY 1},
	q{SELECT type, version FROM es_schemas ORDER BY 1, 2},
	q{SELECT count(*) FROM es_snapshots},
	q{SELECT es_subscribe('made', 0), es_alter_subscription('made', '{order}', NULL, 7); SELECT subscription, max_attempts, categories FROM es_subscriptions WHERE subscription = 'made'},
	q{SELECT count(es_append('roll-' || n % 3, 'R')) FROM generate_series(1, 300) n; SELECT es_position('roll-1', 100)},
	q{SELECT has_function_privilege('clerk', 'es_seal()', 'execute'), has_table_privilege('boss', 'eventstore.events', 'select')},
	q{SELECT finding FROM es_doctor() WHERE finding ~ 'version|library on disk|column' ORDER BY 1});

sub behaviour
{
	my ($node, $database) = @_;

	return join "\n", map { my ($ret, $out, $err) = $node->psql($database, "\\set VERBOSITY sqlstate\n$_", on_error_stop => 0); "$out$err" } @behaviour;
}

sub version_of { my ($node, $database) = @_; return $node->safe_psql($database, q{SELECT extversion FROM pg_extension WHERE extname = 'eventstore'}); }

# The remedy for a library and a script that do not belong together; empty if they do.
my $remedy = q{SELECT remedy FROM es_doctor() WHERE finding ~ 'of different versions'};

# lines_of(definitions): sorted, without what pg_upgrade itself does not keep: which rights an extension began with.
sub lines_of { return join "\n", sort grep { !/binary_upgrade_set_record_init_privs/ } split /\n/, $_[0]; }

# data_of(node, database): all that a store holds, with what is NULL in a column that came later left out.
sub data_of { return store_digest(@_) =~ s/,+\)$/)/mgr; }

# ---- a store of the release ----

my ($root, $untouched) = map { new_installation($_) } qw(server untouched);
install($_, $released) foreach $root, $untouched;
my $node = new_node('main', install => $root, streaming => 'logical', conf => $settings);
$node->safe_psql('postgres', 'CREATE ROLE clerk; CREATE ROLE boss');
fill($node, $_) foreach qw(store waiting);
new_store($node, $_) foreach qw(empty live);
my $thinned = new_thinned_store($node, 'thinned');
# in a schema of its own, with columns of an administrator where ours come
$node->safe_psql('postgres', 'CREATE DATABASE apart');
$node->safe_psql('apart', q{CREATE SCHEMA store; CREATE EXTENSION eventstore SCHEMA store; ALTER DATABASE apart SET search_path = store;
	ALTER TABLE eventstore.subscriptions ADD COLUMN gone int, ADD COLUMN note text DEFAULT 'noted'; ALTER TABLE eventstore.subscriptions DROP COLUMN gone});
$node->safe_psql('apart', q{SELECT es_append('a-1', 'A'), es_subscribe('before')});
# a filter may name a type that no event can have
new_store($node, 'named');
$node->safe_psql('named', $_) foreach (
	q{SELECT es_subscribe('types', types => '{T,$t}'), es_subscribe('query', query => '[{"types": ["T", "$t"]}]')},
	q{SELECT es_create_projection('keys', 'count', key => '{"T": "$.stream", "$t": "$.stream"}')},
	q{SELECT es_create_feed('named', types => '{T,$t}', query => '[{"types": ["T", "$t"]}]')});
# schemas beyond limits that are new
new_store($node, 'limits');
my %beyond = (
	Identified => '{"$id": "LONG", "type": "object", "properties": {"n": {"$ref": "LONG#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}' =~ s!LONG!'https://example.com/' . 'x' x 3000!egr,
	Patterned => '{"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string", "pattern": "(?:^^^^^^^^^^^^^^^^^^^x){600}"}}}');
$node->safe_psql('limits', "SELECT es_register_schema('$_', '$beyond{$_}')") foreach sort keys %beyond;
my $data = data_of($node, 'store');
my $dump = "$latest/dump";
is(version_of($node, 'store'), $from, 'a store of the last release');
command_ok([ $node->installed_command('pg_dump'), '-Fc', '-f', $dump, '-d', $node->connstr('store') ], 'a dump of it');
my $warm = $node->background_psql('live', on_error_stop => 0);
is($warm->query_safe(q{SELECT es_append('warm-1', 'W'), eventstore.library_version()}), "1|$from", 'a session that has its library');

# ---- the files of the next one ----

install($root, $latest);
$warm->query('ALTER EXTENSION eventstore UPDATE');
like($warm->{stderr}, qr/cannot become version \Q$to\E because the library that is loaded is of version \Q$from\E.*HINT: .*connect anew/s,
	'a session that has the former library does not update, and says why, and what to do');
$warm->{stderr} = '';
is(version_of($node, 'live'), $from, 'and nothing has changed');
is($node->safe_psql('live', $remedy), 'ALTER EXTENSION eventstore UPDATE', 'a new session knows that the script is the former one, and what helps');
my $unlike_script = behaviour($node, 'waiting');

# ---- the update ----

$node->safe_psql($_, 'ALTER EXTENSION eventstore UPDATE') foreach qw(store empty live thinned waiting apart named limits);
is(version_of($node, 'store'), $to, 'updated');
is($node->safe_psql('store', $remedy), '', 'library and script belong together');
is($warm->query_safe(q{SELECT es_append('warm-1', 'W', expected_version => 1), es_subscribe('w'); SELECT es_alter_subscription('w', NULL, NULL, 3); SELECT es_ack('w', partition, max(position)) FROM es_poll('w') GROUP BY partition}),
	"2|\n\n", 'a session with the former library goes on with the new script');
is($warm->query_safe($remedy), '\connect', 'and is told that it has the former one');
is($node->safe_psql('live', q{SELECT position, max_attempts, created_at IS NOT NULL, application IS NULL FROM es_subscriptions}), '2|3|t|t', 'what it has made lacks what is new');
$warm->quit;

is(data_of($node, 'store'), $data, 'what the store holds is what it was');
new_store($node, 'fresh');
same_catalog($node, 'empty', $node, 'fresh', 'an empty store');
fill($node, 'fresh_filled');
same_catalog($node, 'store', $node, 'fresh_filled', 'a store with data');
is($node->safe_psql('store', q{SELECT count(*), count(application), count(created_at) FROM es_subscriptions}), '5|0|5', 'what was not noted is not known');
is($node->safe_psql('store', q{BEGIN; SET application_name = 'app'; SELECT es_subscribe('s'); SET application_name = 'other'; SELECT es_alter_subscription('s', '{order}', NULL, 3);
	SELECT application FROM es_subscriptions WHERE subscription = 's'; ROLLBACK}), "\n\napp", 'what is made now is noted');

is($node->safe_psql('apart', q{SET application_name = 'app'; SELECT es_subscribe('after'); SELECT count(es_alter_subscription(subscription, NULL, NULL, 2)) FROM es_subscriptions; RESET application_name;
	SELECT v.subscription, v.application, t.note, t.max_attempts FROM es_subscriptions v JOIN eventstore.subscriptions t ON t.name = v.subscription ORDER BY 1}),
	"\n2\nafter|app|noted|2\nbefore||noted|2", 'a store in another schema, with columns of its own, is updated, too');
is(sqlstates($node, 'apart', q{ALTER TABLE eventstore.subscriptions DROP COLUMN note; ALTER TABLE eventstore.subscriptions DROP COLUMN application CASCADE}, on_error_stop => 0), 'VE002',
	'the column that has come is the store\'s, and not to be dropped; the other one is');

is($node->safe_psql('named', q{SELECT es_append('a-1', 'T'); SELECT count(*) FROM es_poll('types'); SELECT count(*) FROM es_poll('query'); SELECT es_run_projection('keys');
	SELECT count(*), max(lag) FROM es_subscriptions; SELECT count(*) FROM pg_logical_slot_get_changes('es_named', NULL, NULL)}), "1\n1\n1\n1\n2|1\n1", 'filters that name a type which no event can have go on');
is(join(' ', map { sqlstates($node, 'named', $_) } q{SELECT es_subscribe('t', types => '{T,$t}')}, q{SELECT es_alter_feed('named', NULL, '{$t}', NULL)}, q{SELECT es_alter_feed('named', NULL, NULL, NULL, '[{"types": ["$t"]}]')}),
	'22023 22023 22023', '... and are refused where they are made');

foreach my $type (sort keys %beyond)
{
	is(join(' ', map { sqlstates($node, 'limits', $_) } "SELECT es_append('a-1', '$type', '{\"n\": 1}')", "SELECT es_append('a-1', '$type', '{\"n\": \"x\"}')", "SELECT es_check_schema('$beyond{$type}', '{}')"), ' VE005 22023',
		"$type: a schema that is stored goes on, and would not be taken now");
	is($node->safe_psql('limits', qq{SELECT es_register_schema('$type', '{"type": "object", "properties": {"n": {"type": "integer"}}}'); SELECT es_append('a-1', '$type', '{"n": 2}') > 0}), "2\nt", '... and a next version follows');
}

my $wanted = behaviour($node, 'fresh_filled');
unlike($wanted, qr/VE00[78]|XX000/, 'a new store does what it should');
same(behaviour($node, 'store'), $wanted, 'updated: it does what a new one does');
same($unlike_script, "${wanted}the library and the extension are of different versions", 'and so it did before, with the new library and the former script');
check_thinned_store($node, 'thinned', $thinned, 'updated');

# ---- what else carries it over ----

$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ $node->installed_command('pg_restore'), '-e', '-d', $node->connstr('restored'), $dump ], 'the dump is restored');
is(version_of($node, 'restored') . data_of($node, 'restored'), $to . $data, 'a dump becomes a store of the new version, with the same data');
$node->stop;

my $old = new_node('old', install => $untouched, streaming => 'logical', conf => $settings);
$old->safe_psql('postgres', 'CREATE ROLE clerk; CREATE ROLE boss');
fill($old, 'store');
my $held = data_of($old, 'store');
my $definitions = definitions($old, 'store', '--binary-upgrade');
# since PostgreSQL 17 pg_upgrade takes slots along, but not those that are behind
$old->safe_psql('postgres', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
$old->stop;
my $new = new_node('new', install => $root, streaming => 'logical', conf => $settings, init_only => 1);
my $back = getcwd;
chdir $latest or die;
command_ok([ $new->installed_command('pg_upgrade'), '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old->config_data('--bindir'), '-B', $new->config_data('--bindir'),
		'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade to a server that has the files of the next one');
chdir $back or die;
$new->start;
is(version_of($new, 'store') . $new->safe_psql('store', $remedy), "${from}ALTER EXTENSION eventstore UPDATE", 'pg_upgrade: the script is the former one still');
same(lines_of(definitions($new, 'store', '--binary-upgrade')), lines_of($definitions), 'pg_upgrade: nothing is otherwise');
$new->safe_psql('store', 'ALTER EXTENSION eventstore UPDATE');
is(version_of($new, 'store') . data_of($new, 'store'), $to . $held, 'pg_upgrade: updated, with the same data');
is($new->safe_psql('store', q{SELECT es_append('order-1', 'OrderPlaced', '{"n": 1}', expected_version => 36); SELECT min(position) FROM es_poll('plain', 3)}), "37\n51", 'pg_upgrade: it goes on');
$new->stop;

# ---- where the library is preloaded ----

$old->append_conf('postgresql.conf', $preloading);
$old->start;
install($untouched, $latest);
my ($ret, $out, $err) = $old->psql('store', 'ALTER EXTENSION eventstore UPDATE');
like($err, qr/the library that is loaded is of version \Q$from\E.*Restart the server/s, 'preloaded: a server that runs on does not update, and says what to do');
is($old->safe_psql('store', q{SELECT eventstore.library_version(), count(*) FROM es_doctor() WHERE finding ~ 'library on disk'}), "$from|1", 'preloaded: es_doctor() says so before');
$old->restart;
is($old->safe_psql('store', $remedy), 'ALTER EXTENSION eventstore UPDATE', 'restarted: the script is what is left');
$old->poll_query_until('store', q{SELECT bool_and(lag = 0) FROM es_projections}) or die;
pass('restarted: its worker works with the former script');
like(slurp_file($old->logfile), qr/extension "eventstore" in database "store" is of version \Q$from, the library of version $to\E\n.*HINT:  Run ALTER EXTENSION/, 'restarted: its worker logs it');
$old->safe_psql('store', 'ALTER EXTENSION eventstore UPDATE');
$old->safe_psql('store', q{SELECT es_append('order-1', 'OrderPlaced', '{"n": 1}')});
$old->poll_query_until('store', q{SELECT bool_and(lag = 0) FROM es_projections}) or die;
is(version_of($old, 'store') . $old->safe_psql('store', $remedy), $to, 'updated beside its worker, which goes on');
$old->stop;

done_testing();
