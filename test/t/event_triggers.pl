# Event triggers of others meet the birth of segments: they find the settings that
# they may expect, and where they fail that is known half a segment ahead, tried
# again on the way, and over once they are mended.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "max_worker_processes = 16\n");
my $maker_gone = q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker'};

# A database with an audit trigger, which uses names as they are in the database's search_path.
sub audited
{
	my ($database, $size) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, q{
		CREATE TABLE audit_log (tag text, object text, path text);
		CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO audit_log SELECT command_tag, object_identity, pg_catalog.current_setting('search_path') FROM pg_event_trigger_ddl_commands();
		END $$;
		CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit();
	});
	$node->safe_psql($database, 'CREATE EXTENSION eventstore');
	$node->safe_psql($database, "SELECT es_set_segment_size($size)");
}

# How often the log says that a segment could not be made.
sub failures
{
	my ($segment, $from) = @_;

	return scalar(() = substr(slurp_file($node->logfile), $from) =~ /WARNING:  could not make segment $segment of the event store/g);
}

sub append { return $node->psql($_[0], "SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, $_[1])"); }

# ---- settings ----

audited('settings', 100);
is((append('settings', 260))[0], 0, 'an audit trigger with names of its own does not keep segments from being made');
ok($node->poll_query_until('settings', q{SELECT count(*) > 3 FROM es_segments}), 'nor ahead of need');
is($node->safe_psql('settings', q{SELECT count(DISTINCT object), string_agg(DISTINCT path, ';') FROM audit_log WHERE tag = 'CREATE TABLE' AND object ~ '^eventstore.events_[0-3]$'}),
	'4|"$user", public', 'it sees each, under the search_path it expects');
$node->safe_psql('settings', q{
	ALTER EVENT TRIGGER audit DISABLE;
	CREATE SCHEMA audits; ALTER TABLE audit_log SET SCHEMA audits;
	CREATE FUNCTION audits.wrong(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;
	CREATE OPERATOR audits.> (LEFTARG = int, RIGHTARG = int, FUNCTION = audits.wrong);
	ALTER DATABASE settings SET search_path = audits, pg_catalog, public;
	ALTER EVENT TRIGGER audit ENABLE;
});
is((append('settings', 120))[0], 0, 'or the one of the database');
ok($node->poll_query_until('settings', q{SELECT count(*) > 4 FROM es_segments}), 'for which segments are made as well');
is($node->safe_psql('settings', q{SELECT count(*), count(*) FILTER (WHERE indpred::text = (SELECT indpred::text FROM pg_catalog.pg_index WHERE indexrelid = 'eventstore.events_0_category'::regclass))
		FROM pg_catalog.pg_index WHERE indexrelid::regclass::text ~ '_category$' AND indrelid::regclass::text ~ 'events_[0-4]$'}), '5|5', 'which are like the others, whatever operators it has');

# in the transaction of somebody who has no rights, but a search_path of his own
$node->safe_psql('settings', q{
	ALTER DATABASE settings RESET search_path;
	SET search_path = public;
	ALTER EVENT TRIGGER audit DISABLE;
	ALTER TABLE audits.audit_log SET SCHEMA public;
	CREATE ROLE stranger LOGIN;
	CREATE SCHEMA stranger AUTHORIZATION stranger;
	SELECT es_grant('stranger', 'append');
	CREATE TABLE stranger.audit_log (tag text, object text, path text);
	ALTER TABLE stranger.audit_log OWNER TO stranger;
	TRUNCATE audit_log;
	ALTER EVENT TRIGGER audit ENABLE;
});
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->restart;
my ($status, $out, $err) = $node->psql('settings',
	q{SET search_path = stranger, public; SELECT count(es_append('fill-2', 'F')) FROM generate_series(1, 250)}, extra_params => [ '-U', 'stranger' ]);
like($err, qr/no background worker is free/, 'without workers');
is($out, '250', 'a stranger\'s append makes them');
is($node->safe_psql('settings', q{SELECT count(*) FROM stranger.audit_log UNION ALL SELECT count(*) FROM public.audit_log WHERE tag = 'CREATE TABLE' AND path = '"$user", public'}), "0\n2",
	'and his search_path misleads nobody who acts with the owner\'s rights');
$node->append_conf('postgresql.conf', "max_worker_processes = 16\n");
$node->restart;

# ---- failures ----

audited('failing', 1000);
$node->safe_psql('failing', q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 400)});
$node->poll_query_until('failing', $maker_gone);
$node->safe_psql('failing', 'SELECT count(*) FROM es_segments');
my $log = -s $node->logfile;
# segment 1 was made with the first; the next to be made is 2
$node->safe_psql('failing', q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 700)});
$node->safe_psql('failing', q{ALTER EVENT TRIGGER audit DISABLE; ALTER TABLE audit_log RENAME TO old_log; ALTER EVENT TRIGGER audit ENABLE});
is((append('failing', 500))[0], 0, 'a trigger fails: nobody notices in the middle of a segment');
ok($node->poll_query_until('failing', q{SELECT count(*) = 1 FROM es_segments WHERE state = 'failed'}), 'but es_segments has it');
is($node->safe_psql('failing', q{SELECT segment, first_position, last_position, events FROM es_segments WHERE state = 'failed'; SELECT segment, attempts, error FROM eventstore.maker_failure}),
	qq{2|2001|3000|0\n2|1|relation "audit_log" does not exist}, 'which segment, and a table why');
is(failures(2, $log), 1, 'and the log what it means');
like(substr(slurp_file($node->logfile), $log), qr/making segment 2 of the event store.*appends fail at position 2001/s, 'and until when it must be mended');
append('failing', 100);
is(failures(2, $log), 1, 'it is not tried with each append');
append('failing', 100);
ok($node->poll_query_until('failing', q{SELECT attempts = 2 FROM eventstore.maker_failure}), 'but again when three quarters are full');
$node->safe_psql('failing', q{ALTER EVENT TRIGGER audit DISABLE; ALTER TABLE old_log RENAME TO audit_log; ALTER EVENT TRIGGER audit ENABLE});
append('failing', 100);
ok($node->poll_query_until('failing', q{SELECT count(*) = 1 FROM es_segments WHERE segment = 2 AND state = 'ready'}), 'mended, the next try makes it, ahead of need');
is($node->safe_psql('failing', q{SELECT count(*) FROM es_segments WHERE state = 'failed'}), '0', 'and nothing is left of it');

# not mended in time
$node->safe_psql('failing', q{ALTER EVENT TRIGGER audit DISABLE; ALTER TABLE audit_log RENAME TO old_log; ALTER EVENT TRIGGER audit ENABLE});
$log = -s $node->logfile;
my $left = $node->safe_psql('failing', 'SELECT 3000 - es_settled_position()');
is((append('failing', $left))[0], 0, 'appends go on to the end of the last segment');
foreach (1 .. 10)
{
	($status, $out, $err) = append('failing', 1);
	last if $status != 3;
}
is($status, 3, 'there they fail');
like($err, qr/relation "audit_log" does not exist.*making segment 3 of the event store/s, 'and say why');
cmp_ok(failures(3, $log), '<=', 7, 'without a worker each');
is($node->safe_psql('failing', q{SELECT count(*), max(version) FROM es_read('fill-1')}), '3000|3000', 'what is stored can be read');
$node->safe_psql('failing', q{ALTER EVENT TRIGGER audit DISABLE; ALTER TABLE old_log RENAME TO audit_log; ALTER EVENT TRIGGER audit ENABLE});
is((append('failing', 1500))[0], 0, 'mended, appends go on at once');
is(gaps($node, 'failing'), '', 'and no version is missing');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'nothing broke');
$node->stop;
done_testing();
