# JSON Schemas against a second validator, written from the text of the dialect
# (test/lib/schema_model.py): random schemas and random data. What it takes for valid
# has no violations and is appended, and nothing else.
# ES_SEED repeats a run, ES_SCHEMA_CASES (random schemas) makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $cases = $ENV{ES_SCHEMA_CASES} // 1000;
my $folder = PostgreSQL::Test::Utils::tempdir();
# One JSON text a line, and no byte of it means anything else to COPY.
my $lines = q{(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02', ENCODING 'UTF8')};
my $node = new_node('main');

$node->safe_psql('postgres', q{CREATE DATABASE model TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'});
{
	my $err = '';
	local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
	IPC::Run::run([ 'python3', "$FindBin::RealBin/../lib/schema_model.py", $seed, $cases ], '>', "$folder/cases", '2>', \$err)
	  or die "schema_model.py: $err";
}
$node->safe_psql('model', qq{
	CREATE EXTENSION eventstore;
	CREATE TABLE cases (n serial, doc jsonb);
	COPY cases (doc) FROM '$folder/cases' $lines;
	CREATE TABLE pairs AS SELECT n, doc->'schema' AS schema, d.data, v.valid::boolean
		FROM cases, jsonb_array_elements(doc->'data') WITH ORDINALITY d (data, i), jsonb_array_elements(doc->'valid') WITH ORDINALITY v (valid, i)
		WHERE d.i = v.i;
	ALTER TABLE pairs ADD id serial;

	-- how an append ends
	CREATE FUNCTION append(type text, data jsonb) RETURNS text LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM es_append('model', type, data);
		RETURN '00000';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END \$\$;

	-- what is at a JSON pointer; NULL if there is nothing
	CREATE FUNCTION at_pointer(data jsonb, pointer text) RETURNS jsonb LANGUAGE sql AS \$\$
		SELECT data #> (SELECT coalesce(array_agg(replace(replace(step, '~1', '/'), '~0', '~') ORDER BY n), '{}')
			FROM regexp_split_to_table(pointer, '/') WITH ORDINALITY s (step, n) WHERE n > 1);
	\$\$;
	SELECT count(es_register_schema('T' || n, doc->'schema', 'none')) FROM cases;
});
is($node->safe_psql('model', 'SELECT count(*) FROM pairs'), 8 * $cases, 'so many pairs of schema and data');
is($node->safe_psql('model', 'SELECT count(DISTINCT valid) FROM pairs'), 2, 'some valid, some not');

# none(title, query): that the query has no rows; the first of them are shown
sub none
{
	my ($title, $query) = @_;
	my @found = split /\n/, $node->safe_psql('model', "$query LIMIT 5");

	ok(@found == 0, $title) or diag("for example\n" . join("\n", @found));
}

none('es_check_schema has violations of what the model takes for invalid, and of nothing else', q{
	SELECT schema, data, valid FROM pairs WHERE valid = EXISTS (SELECT FROM es_check_schema(schema, data))});
none('an append takes what the model takes for valid, and nothing else', q{
	SELECT schema, data, valid, outcome FROM pairs, append('T' || n, data) outcome WHERE outcome <> CASE WHEN valid THEN '00000' ELSE 'VE005' END});
none('each violation is somewhere in the data', q{
	SELECT schema, data, pointer FROM pairs, es_check_schema(schema, data) WHERE at_pointer(data, pointer) IS NULL});
none('a rule is a keyword of the schema, or false', q{
	SELECT schema, data, rule FROM pairs, es_check_schema(schema, data) WHERE rule <> 'false' AND strpos(schema::text, '"' || rule || '": ') = 0});
none('the metaschema takes the schemas for valid', q{
	SELECT doc->'schema' FROM cases WHERE EXISTS (SELECT FROM es_check_schema('{"$ref": "https://json-schema.org/draft/2020-12/schema"}', doc->'schema'))});

$node->stop;
done_testing();
