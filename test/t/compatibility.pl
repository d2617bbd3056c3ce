# What is called compatible is: of random schemas and changes of them, whenever the new
# one is declared backward compatible it accepts every value that the old one accepts,
# and so the other way round.  What is called certain to be incompatible is, as far as
# values were found; a schema is never certain to be incompatible with itself.
# ES_SEED repeats a run, ES_SCHEMA_PAIRS makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use SchemaMaker;
use Test::More;

my $seed = seed();
my $pairs = $ENV{ES_SCHEMA_PAIRS} // 600;
my $values = 40;
my $folder = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('main');

$node->safe_psql('postgres', q{
	CREATE EXTENSION eventstore;
	CREATE TABLE pairs (pair int PRIMARY KEY, old jsonb, new jsonb);
	CREATE TABLE samples (pair int, value jsonb);

	-- references may happen to go round in a circle
	CREATE FUNCTION is_schema(schema jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM FROM es_check_schema(schema, '1');
		RETURN true;
	EXCEPTION WHEN invalid_parameter_value THEN
		RETURN false;
	END $$;
});

# COPY text of a JSON text.
sub copy_text { my ($text) = @_; $text =~ s/\\/\\\\/g; return $text; }

# A value that one of two schemas may accept, or one near to it.
sub make_sample
{
	my ($old, $new) = @_;
	my $schema = rand() < 0.75 ? $old : $new;
	my $value = make_value($schema, $schema, 5);

	$value = vary_value($value) if rand() < 0.25;
	return $value;
}

open my $pair_file, '>', "$folder/pairs" or die $!;
open my $sample_file, '>', "$folder/samples" or die $!;
for my $pair (1 .. $pairs)
{
	aim_at();
	my $old = make_schema(3, 1);
	my $new = change_schema($old);

	aim_at($old, $new);
	print {$pair_file} "$pair\t", copy_text(json_text($old)), "\t", copy_text(json_text($new)), "\n";
	print {$sample_file} "$pair\t", copy_text(json_text(make_sample($old, $new))), "\n" for 1 .. $values;
}
close $pair_file;
close $sample_file;
$node->safe_psql('postgres', "\\copy pairs FROM '$folder/pairs'\n\\copy samples FROM '$folder/samples'\n");

$node->safe_psql('postgres', q{
	DELETE FROM pairs WHERE NOT is_schema(old) OR NOT is_schema(new);
	CREATE TABLE verdicts AS
		SELECT pair, d.direction, count(c.rule) AS problems, coalesce(bool_or(c.decided), false) AS certain
		FROM pairs CROSS JOIN (VALUES ('backward'), ('forward')) d(direction)
		LEFT JOIN LATERAL es_compare_schemas(old, new, d.direction) c ON true
		GROUP BY pair, d.direction;
	CREATE TABLE outcomes AS
		SELECT DISTINCT pair, value, NOT EXISTS (SELECT FROM es_check_schema(old, value)) AS by_old,
			NOT EXISTS (SELECT FROM es_check_schema(new, value)) AS by_new
		FROM samples JOIN pairs USING (pair);
	ANALYZE;
	CREATE VIEW counterexamples AS
		SELECT pair, v.direction, v.problems, v.certain, o.value FROM verdicts v JOIN outcomes o USING (pair)
		WHERE CASE v.direction WHEN 'backward' THEN by_old AND NOT by_new ELSE by_new AND NOT by_old END;
});

is($node->safe_psql('postgres', q{SELECT x.direction, x.value, p.old, p.new FROM counterexamples x JOIN pairs p USING (pair)
		WHERE problems = 0 LIMIT 3}), '', 'what is declared compatible accepts all that the other version accepts');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pairs p WHERE EXISTS (SELECT FROM es_compare_schemas(old, new, 'full'))
		IS DISTINCT FROM EXISTS (SELECT FROM verdicts v WHERE v.pair = p.pair AND problems > 0)}),
	'0', 'full is backward and forward');
is($node->safe_psql('postgres', q{SELECT pair, old FROM pairs
		WHERE EXISTS (SELECT FROM es_compare_schemas(old, old || '{"title": "the same"}') WHERE decided) LIMIT 3}),
	'', 'no schema is certain to be incompatible with itself');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pairs WHERE EXISTS (SELECT FROM es_compare_schemas(old, new, 'none'))}),
	'0', 'none asks for nothing');

# How good the answers are, and the test.
my $counts = $node->safe_psql('postgres', q{
	SELECT format('%s compatible, %s not, %s not known', count(*) FILTER (WHERE problems = 0), count(*) FILTER (WHERE certain),
		count(*) FILTER (WHERE problems > 0 AND NOT certain)) FROM verdicts});
my $found = $node->safe_psql('postgres', q{
	SELECT format('%s of those that are not, %s of those not known', count(DISTINCT (pair, direction)) FILTER (WHERE certain),
		count(DISTINCT (pair, direction)) FILTER (WHERE NOT certain)) FROM counterexamples});
my ($accepted, $all) = split /\|/, $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE by_old), count(*) FROM outcomes});
my $compatible = $node->safe_psql('postgres', q{SELECT count(*) FROM verdicts WHERE problems = 0});
my $itself = $node->safe_psql('postgres',
	q{SELECT count(*) FROM pairs WHERE EXISTS (SELECT FROM es_compare_schemas(old, old || '{"title": "the same"}'))});

note "verdicts: $counts; counterexamples found for $found";
note "$accepted of $all values accepted by the old schema; $itself schemas not known to be compatible with themselves";
cmp_ok($accepted, '>', $all / 5, 'enough values were accepted');
cmp_ok($compatible, '>', $pairs / 5, 'enough versions were compatible');
cmp_ok($itself, '<', $pairs / 10, 'nearly all schemas are known to be compatible with themselves');

# ---- very many patterns of keys ----

# patterns(count, type): a schema with so many
sub patterns
{
	my ($count, $type) = @_;

	return qq{jsonb_build_object('type', 'object', 'patternProperties', (SELECT jsonb_object_agg('^' || i, '{"type": "$type"}'::jsonb) FROM generate_series(1, $count) i))};
}

# peak(session): the kilobytes that a session's process has had at most
sub peak
{
	my ($session) = @_;
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die;
}

my ($integer, $number) = map { patterns(1000, $_) } qw(integer number);
is($node->safe_psql('postgres', "SELECT count(*) FROM es_compare_schemas($integer, $number)"), '0', '1,000 patterns are compared');
is($node->safe_psql('postgres', "SELECT count(*), bool_and(decided) FROM es_compare_schemas($integer, $number, 'forward')"), '100|t', '... and told apart');
SKIP:
{
	skip 'no /proc here', 2 if !-e '/proc/self/status';
	my $session = $node->background_psql('postgres');
	($integer, $number) = map { patterns(10000, $_) } qw(integer number);

	# with 'none' both are compiled and not compared
	$session->query_safe("SELECT count(*) FROM es_compare_schemas($integer, $number, 'none')");
	my $before = peak($session);
	is($session->query_safe("SELECT count(*) FROM es_compare_schemas($integer, $number)"), '0', '10,000 patterns are compared');
	cmp_ok(peak($session) - $before, '<', 100 * 1024, '... which takes a bounded memory');
	$session->quit;
}
done_testing();
