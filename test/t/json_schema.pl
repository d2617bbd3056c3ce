# JSON Schemas: the official suite's required tests; what is no schema, by our own
# checks and by the metaschema; schemas and data that are made to cost much; other
# encodings; and that regular expressions are given back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "statement_timeout = '120s'\n");
my $setup = q{
	CREATE EXTENSION eventstore;
	-- 'valid', 'not valid' or an SQLSTATE; %NUL% stands for what no function of JSON lets through
	CREATE FUNCTION verdict(schema json, data json) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN CASE WHEN EXISTS (SELECT FROM es_check_schema(replace(schema::text, '%NUL%', '\u0000')::jsonb, data::jsonb)) THEN 'not valid' ELSE 'valid' END;
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
};
$node->safe_psql('postgres', q{CREATE DATABASE utf8 TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'});
$node->safe_psql('utf8', $setup);

# ---- the suite ----

my $folder = "$FindBin::RealBin/../data/jsonschema";
my $remote = 'it refers to a document that would have to be fetched';
my $dialect = 'its $schema is another dialect, which would have to be fetched';
my $nul = 'jsonb has no \u0000';
my %refused = (
	'const.json' => { 'nul characters in strings' => [ '22P05', $nul ] },
	'enum.json' => { 'nul characters in strings' => [ '22P05', $nul ] },
	'dynamicRef.json' => {
		'strict-tree schema, guards against misspelled properties' => [ '22023', $remote ],
		'tests for implementation dynamic anchor and reference link' => [ '22023', $remote ],
		'$ref and $dynamicAnchor are independent of order - $defs first' => [ '22023', $remote ],
		'$ref and $dynamicAnchor are independent of order - $ref first' => [ '22023', $remote ],
		'$ref to $dynamicRef finds detached $dynamicAnchor' => [ '22023', $remote ] },
	'vocabulary.json' => {
		'schema that uses custom metaschema with with no validation vocabulary' => [ '22023', $dialect ],
		'ignore unrecognized optional vocabulary' => [ '22023', $dialect ] });
my ($passed, $set_aside) = (0, 0);
foreach my $path (sort glob("$folder/*.json"))
{
	my ($file) = $path =~ m{([^/]+)$};
	my $text = slurp_file($path) =~ s/\\u0000/%NUL%/gr;
	my $groups = decode_json($text);
	my @wrong;

	foreach my $row (rows($node, 'utf8', qq{
		SELECT concat_ws('|', i - 1, j - 1, verdict(g -> 'schema', t -> 'data'))
		FROM json_array_elements(\$suite\$$text\$suite\$) WITH ORDINALITY AS a (g, i), json_array_elements(g -> 'tests') WITH ORDINALITY AS b (t, j)}))
	{
		my ($i, $j, $verdict) = split /\|/, $row;
		my ($group, $case) = map { $_->{description} } $groups->[$i], $groups->[$i]{tests}[$j];
		my $expected = $groups->[$i]{tests}[$j]{valid} ? 'valid' : 'not valid';
		my $why = $refused{$file}{$group};

		push @wrong, "$group, $case: $verdict" if $verdict ne ($why ? $why->[0] : $expected);
		$why ? $set_aside++ : $passed++;
	}
	is(join("\n", @wrong), '', "the suite's $file");
	note("$file, $_: refused, since $refused{$file}{$_}[1]") foreach sort keys %{ $refused{$file} // {} };
}
is("$passed passed, $set_aside refused", '1246 passed, 22 refused', 'that is the whole suite');

# ---- our own checks and the metaschema ----

my $meta = q{'{"$ref": "https://json-schema.org/draft/2020-12/schema"}'};
foreach my $path (sort glob("$folder/*.json"))
{
	my $text = slurp_file($path) =~ s/\\u0000/%NUL%/gr;

	is($node->safe_psql('utf8', qq{
		SELECT g -> 'schema' FROM json_array_elements(\$suite\$$text\$suite\$) g
		WHERE verdict($meta, g -> 'schema') NOT IN ('valid', '22P05')}), '', "the metaschema accepts the schemas of $path");
}
my @malformed = map { qq{{"$_}} } (
	(map { my $k = $_; map { qq{$k": $_} } qw({} "x" -1 1.5 null) } qw(minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains)),
	(map { my $k = $_; map { qq{$k": $_} } qw("1" null true) } qw(minimum maximum exclusiveMinimum exclusiveMaximum multipleOf)),
	(map { my $k = $_; map { qq{$k": $_} } qw(1 "x" null []) } qw(not if then else items contains additionalProperties propertyNames unevaluatedItems unevaluatedProperties contentSchema)),
	(map { my $k = $_; map { qq{$k": $_} } ('1', '{}', '[]', '[1]', 'null') } qw(allOf anyOf oneOf prefixItems)),
	(map { my $k = $_; map { qq{$k": $_} } ('1', '[]', '{"a": 1}', 'null', 'true') } qw($defs definitions properties patternProperties dependentSchemas)),
	(map { my $k = $_; map { qq{$k": $_} } ('1', '{}', 'null') } qw(title description $comment format contentEncoding contentMediaType pattern $ref $dynamicRef $id $schema $recursiveRef)),
	(map { my $k = $_; map { qq{$k": $_} } ('1', '"1a"', '"a b"', '""') } qw($anchor $dynamicAnchor $recursiveAnchor)),
	(map { my $k = $_; map { qq{$k": $_} } ('1', '"true"') } qw(uniqueItems readOnly writeOnly deprecated)),
	'multipleOf": 0', 'multipleOf": -1', 'enum": 1', 'enum": {}', 'examples": 1', '$id": "a#b"', 'type": []', 'type": "any"', 'type": ["string", "string"]', 'type": [1]', 'type": null',
	'required": "a"', 'required": [1]', 'required": ["a", "a"]', 'dependentRequired": []', 'dependentRequired": {"a": "b"}', 'dependentRequired": {"a": ["b", "b"]}',
	'dependencies": 1', 'dependencies": {"a": 1}', '$vocabulary": 1', '$vocabulary": {"https://example.com/": 1}');
is($node->safe_psql('utf8', "SELECT s FROM unnest(ARRAY[\$\$" . join("\$\$, \$\$", @malformed) . "\$\$]::json[]) s WHERE verdict(s, '1') <> '22023'"), '',
	'what the metaschema refuses is refused');
is($node->safe_psql('utf8', "SELECT s FROM unnest(ARRAY[\$\$" . join("\$\$, \$\$", @malformed) . "\$\$]::json[]) s WHERE verdict($meta, s) <> 'not valid'"), '',
	'and the metaschema refuses it');

# ---- what is made to cost much ----

# chain(n, link, last): n definitions, each a link to the next, in which NEXT is its reference
sub chain
{
	my ($n, $link, $last) = @_;
	(my $next = $link) =~ s/NEXT/#\/\$defs\/d' || (i + 1) || '/g;

	return qq{(jsonb_build_object('\$ref', '#/\$defs/d1', '\$defs',
		(SELECT jsonb_object_agg('d' || i, ('$next')::jsonb) FROM generate_series(1, $n) i) || jsonb_build_object('d' || ($n + 1), '$last'::jsonb)))};
}
my $both = '[{"$ref": "NEXT"}, {"$ref": "NEXT"}]';
my $many = q{(SELECT jsonb_agg('value ' || i) FROM generate_series(1, 100000) i)};
my @costly = (
	[ '10,000 levels of items', q{(repeat('{"items":', 10000) || '{}' || repeat('}', 10000))::jsonb}, q{'[]'}, '22023' ],
	[ '3,000 levels of allOf', q{(repeat('{"allOf":[', 3000) || '{}' || repeat(']}', 3000))::jsonb}, q{'[]'}, '22023' ],
	[ '900 levels of not', q{(repeat('{"not":', 900) || 'false' || repeat('}', 900))::jsonb}, q{'[]'}, 'not valid' ],
	[ '900 levels of properties', q{(repeat('{"properties":{"a":', 900) || 'false' || repeat('}}', 900))::jsonb}, q{(repeat('{"a":', 900) || '1' || repeat('}', 900))::jsonb}, 'not valid' ],
	[ 'data of 6,000 levels, all of them looked at', q{'{"items": {"$ref": "#"}}'}, q{(repeat('[', 6000) || repeat(']', 6000))::jsonb}, '22023' ],
	[ 'data of 1,500 levels, all of them looked at', q{'{"items": {"$ref": "#"}}'}, q{(repeat('[', 1500) || repeat(']', 1500))::jsonb}, 'valid' ],
	[ 'data of 6,000 levels, as a constant', q{jsonb_build_object('const', (repeat('[', 6000) || '1' || repeat(']', 6000))::jsonb)}, q{(repeat('[', 6000) || '2' || repeat(']', 6000))::jsonb}, 'not valid' ],
	[ 'a schema that is itself', q{'{"$ref": "#"}'}, '1', '22023' ],
	[ 'a schema that is itself, unless', q{'{"anyOf": [{"type": "string"}, {"$ref": "#"}]}'}, '1', '22023' ],
	[ 'a schema that is not itself', q{'{"not": {"$ref": "#"}}'}, '1', '22023' ],
	[ 'a schema that is itself by a dynamic reference', q{'{"$dynamicAnchor": "a", "allOf": [{"$dynamicRef": "#a"}]}'}, '1', '22023' ],
	[ 'two that are each other', q{'{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}'}, '1', '22023' ],
	[ 'two that ask for each other, with another rule', q{'{"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "$ref": "#/$defs/b"}, "b": {"minProperties": 1, "$ref": "#/$defs/a"}}}'}, q{'{}'}, '22023' ],
	[ 'a chain of 100,000 references', chain(100000, '{"$ref": "NEXT"}', '{"type": "string"}'), '1', 'not valid' ],
	[ 'a chain of 100,000 references with rules', chain(100000, '{"type": "string", "$ref": "NEXT"}', 'true'), '1', '22023' ],
	[ '2^100 ways through allOf', chain(100, "{\"allOf\": $both}", '{"type": "integer"}'), '1', 'valid' ],
	[ '2^100 ways through allOf, which fail', chain(100, "{\"allOf\": $both}", '{"type": "string"}'), '1', 'not valid' ],
	[ '2^100 ways through anyOf', chain(100, "{\"anyOf\": $both}", '{"type": "string"}'), '1', 'not valid' ],
	[ '2^100 ways through oneOf', chain(100, "{\"oneOf\": $both}", '{"type": "string"}'), '1', 'not valid' ],
	[ '2^100 ways, and what is evaluated on them', q{'{"unevaluatedProperties": false}' || } . chain(100, "{\"anyOf\": $both}", '{"properties": {"a": true}}'), q{'{"a": 1}'}, 'valid' ],
	[ '2^100 ways, and many members', q{'{"unevaluatedProperties": false}' || } . chain(100, "{\"anyOf\": $both}", '{"patternProperties": {"^a": true}}'),
		q{(SELECT jsonb_object_agg('a' || i, i) FROM generate_series(1, 10000) i)}, 'valid' ],
	[ '2^500 ways down into the data', q{'{"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}'}, q{(repeat('{"a":', 500) || '1' || repeat('}', 500))::jsonb}, 'valid' ],
	[ 'contains in contains', q{'{"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "minItems": 1, "contains": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}}'},
		q{(repeat('[', 200) || repeat(']', 200))::jsonb}, 'not valid' ],
	[ '100,000 values of enum', "jsonb_build_object('items', jsonb_build_object('enum', $many))", $many, 'valid' ],
	[ '100,000 values of enum that are equal', q{jsonb_build_object('enum', (SELECT jsonb_agg(to_jsonb(('1.' || repeat('0', i % 100))::numeric)) FROM generate_series(1, 100000) i))}, '2', 'not valid' ],
	[ '100,000 elements that must differ, and do', q{'{"uniqueItems": true}'}, $many, 'valid' ],
	[ '100,000 elements that must differ, and two do not', q{'{"uniqueItems": true}'}, q{(SELECT jsonb_agg(jsonb_build_object('a', i % 99999)) FROM generate_series(1, 100000) i)}, 'not valid' ],
	[ '100,000 required keys', "jsonb_build_object('required', $many)", q{'{}'}, 'not valid' ],
	[ '100,000 properties', q{jsonb_build_object('properties', (SELECT jsonb_object_agg('p' || i, jsonb_build_object('type', 'integer')) FROM generate_series(1, 100000) i))}, q{'{"p5": 1, "p99999": "x"}'}, 'not valid' ],
	[ '100,000 anchors', q{jsonb_build_object('$defs', (SELECT jsonb_object_agg('d' || i, jsonb_build_object('$anchor', 'a' || i)) FROM generate_series(1, 100000) i))}, '1', 'valid' ],
	[ '100,000 identifiers', q{jsonb_build_object('$defs', (SELECT jsonb_object_agg('d' || i, jsonb_build_object('$id', 'a' || i)) FROM generate_series(1, 100000) i))}, '1', 'valid' ],
	[ '100,000 branches', q{jsonb_build_object('oneOf', (SELECT jsonb_agg(jsonb_build_object('const', i)) FROM generate_series(1, 100000) i))}, '99999', 'valid' ],
	[ 'anchors of one name', q{jsonb_build_object('$defs', (SELECT jsonb_object_agg('d' || i, '{"$anchor": "a"}'::jsonb) FROM generate_series(1, 10000) i))}, '1', '22023' ],
	[ 'a base of 500,000 characters', q{jsonb_build_object('$id', 'https://example.com/' || repeat('a', 500000) || '/', 'items', jsonb_build_object('$ref', 'x'), 'contains', jsonb_build_object('$id', 'x'))}, '1', '22023' ],
	[ 'dynamic anchors in many combinations', q{jsonb_build_object('$ref', 'r1', '$defs', (SELECT jsonb_object_agg('d' || i, jsonb_build_object('$id', 'r' || i, '$defs', jsonb_build_object('x', jsonb_build_object('$dynamicAnchor', 'a' || i)),
		'anyOf', jsonb_build_array(jsonb_build_object('$ref', 'r' || (i + 1)), jsonb_build_object('$ref', 'r' || (i + 2))), 'items', jsonb_build_object('$dynamicRef', '#a' || i)))
		FROM generate_series(1, 100) i) || '{"y": {"$id": "r101"}, "z": {"$id": "r102"}}')}, '1', '22023' ],
	[ 'a number of 131,000 digits', q{'{"type": "integer", "minimum": 1e130000, "multipleOf": 3}'}, q{repeat('9', 131000)::jsonb}, 'valid' ],
	[ 'bounds of 100,000 digits', q{('{"exclusiveMaximum": ' || repeat('7', 100000) || ', "multipleOf": ' || repeat('3', 99000) || '}')::jsonb}, q{repeat('6', 99000)::jsonb}, 'valid' ],
	[ 'multiples of 1e-300', q{'{"items": {"multipleOf": 1e-300}}'}, q{'[1e300, 1e-299, 123.456]'}, 'valid' ],
	[ 'multiples of 1e-16000', q{'{"items": {"multipleOf": 1e-16000}}'}, q{'[1e130000, 1e-16001]'}, 'not valid' ],
	[ 'lengths beyond all bounds', q{'{"maxLength": 1e100000, "maxItems": 4294967295, "maxProperties": 4294967296, "minLength": 1.0}'}, q{'"x"'}, 'valid' ],
	[ 'a length that nothing has', q{'{"minLength": 1e100000}'}, q{'"x"'}, 'not valid' ],
	[ 'a pattern that explodes elsewhere', q{'{"pattern": "^(a+)+$"}'}, q{to_jsonb(repeat('a', 100000) || 'b')}, 'not valid' ],
	[ 'alternatives that explode elsewhere', q{'{"pattern": "^(a|aa|a*)*$"}'}, q{to_jsonb(repeat('a', 100000) || 'b')}, 'not valid' ],
	[ 'the largest pattern', q{'{"pattern": "^(x{100}){100}$"}'}, q{to_jsonb(repeat('x', 10000))}, 'valid' ],
	[ 'a larger pattern', q{'{"pattern": "((((((((((x{10}){10}){10}){10}){10}){10}){10}){10}){10}){10})"}'}, q{'"x"'}, '22023' ],
	[ 'a pattern of 100,000 characters', q{jsonb_build_object('pattern', repeat('a', 100000))}, q{'"x"'}, '22023' ],
	[ 'a pattern of 100,000 parentheses', q{jsonb_build_object('pattern', repeat('(', 100000))}, q{'"x"'}, '22023' ],
	[ 'a pattern of 9,000 groups', q{jsonb_build_object('pattern', repeat('(', 9000) || 'a' || repeat(')', 9000))}, q{'"x"'}, undef ],
	[ 'groups of nothing, repeated within each other', q{jsonb_build_object('pattern', repeat('(', 5) || repeat('){10000}', 5))}, q{'"x"'}, '22023' ],
	[ '... a few times each', q{'{"pattern": "(((){255}){256}){256}"}'}, q{'"x"'}, '22023' ],
	[ '... less often', q{'{"pattern": "^((){50}){50}$"}'}, q{'""'}, 'valid' ],
	[ 'places between characters, repeated within each other', q{'{"pattern": "((\\\\b|$){10000}){10000}"}'}, q{'"x"'}, '22023' ],
	[ 'many of them in a group', q{jsonb_build_object('pattern', '(' || repeat('^', 1001) || '){10}')}, q{'"x"'}, '22023' ],
	[ 'many large patterns', q{jsonb_build_object('anyOf', (SELECT jsonb_agg(jsonb_build_object('pattern', '^x{1,' || i || '}$')) FROM generate_series(5000, 5100) i))}, q{'"x"'}, '22023' ],
	[ '100,000 patterns that are the same', q{jsonb_build_object('allOf', (SELECT jsonb_agg(jsonb_build_object('pattern', '^[a-z]{100}$')) FROM generate_series(1, 100000) i))}, q{to_jsonb(repeat('x', 100))}, 'valid' ],
	[ 'all categories of characters, often', q{jsonb_build_object('pattern', '^(' || repeat('\p{L}\P{Lu}[^\p{M}]', 8) || ')*$')}, q{to_jsonb(repeat('äß1', 800))}, undef ]);
foreach my $case (@costly)
{
	my ($what, $schema, $data, $expected) = @$case;
	my $verdict = $node->safe_psql('utf8', "SELECT verdict(($schema)::text::json, ($data)::text::json)");

	is($verdict, $expected, $what) if defined $expected;
	isnt($verdict, '57014', "$what: there is an answer") if !defined $expected;
}

# what an expression is written as has a bound, whatever it matches
my (undef, undef, $refusal) = $node->psql('utf8', q{SELECT es_check_schema(jsonb_build_object('pattern', repeat('(', 100000) || repeat(')', 100000) || '{10000}'), '1')});
like($refusal, qr/DETAIL:  It is too long, or repeats too much too often\./, 'an expression that would become too long is refused before the engine sees it');

# what takes long can be cancelled, here by the time that it may take
foreach my $case (
	[ 'a pattern that refers back', q{'{"pattern": "^(a*)(a*)(a*)b\\\\1\\\\2\\\\3c$"}'}, q{to_jsonb(repeat('a', 5000) || 'b' || repeat('a', 4999) || 'c')} ],
	[ 'a long list of violations', q{'{"items": {"type": "string", "minimum": 1}}'}, q{(SELECT jsonb_agg(-i) FROM generate_series(1, 3000000) i)} ],
	[ 'expressions that are being compiled', q{jsonb_build_object('anyOf', (SELECT jsonb_agg(jsonb_build_object('pattern', '^.{1,' || i || '}$')) FROM generate_series(4980, 4999) i))}, q{'1'} ])
{
	my ($what, $schema, $data) = @$case;
	my (undef, undef, $err) = $node->psql('utf8', "
		CREATE TEMP TABLE given AS SELECT ($schema)::jsonb AS s, ($data)::jsonb AS d;
		SET statement_timeout = '100ms'; SELECT count(*) FROM given, es_check_schema(s, d)", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	like($err, qr/ERROR:  57014/, "$what can be cancelled");
}

# ---- other encodings ----

my @encodings = ([ 'latin1', 'LATIN1', 'é', "U&'\\00a0'" ], [ 'euc', 'EUC_JP', '日', "U&'\\3000'" ]);
foreach my $case (@encodings)
{
	my ($database, $encoding, $letter, $space) = @$case;
	my ($code, $escaped) = $database eq 'latin1' ? qw(00e9 %C3%A9) : qw(65e5 %E6%97%A5);

	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($database, $setup);
	my $check = sub {
		my ($what, $schema, $data, $expected) = @_;
		my $sql = "SET client_encoding = 'UTF8'; SELECT verdict(${schema}::json, ($data)::json)";

		is((split /\n/, $node->safe_psql($database, $sql))[-1], $expected, "$encoding: $what");
	};
	$check->('characters are counted', q{'{"minLength": 3, "maxLength": 3}'}, "to_json('$letter$letter$letter'::text)", 'valid');
	$check->('more than that', q{'{"maxLength": 2}'}, "to_json('$letter$letter$letter'::text)", 'not valid');
	$check->('a character is one', q{'{"pattern": "^.$"}'}, "to_json('$letter'::text)", 'valid');
	$check->('a character by its code', qq{'{"pattern": "^\\\\u$code\$"}'}, "to_json('$letter'::text)", 'valid');
	$check->('a character in a class by its code', qq{'{"pattern": "^[\\\\u$code]\$"}'}, "to_json('$letter'::text)", 'valid');
	$check->('a character that the encoding does not have', q{'{"pattern": "^[^\\\\u{1f600}]$"}'}, "to_json('$letter'::text)", 'valid');
	$check->('white space', q{'{"pattern": "^\\\\s$"}'}, "to_json($space\::text)", 'valid');
	$check->('no white space', q{'{"pattern": "^[\\\\s\\\\S]\\\\S\\\\W[^\\\\w]$"}'}, "to_json('$letter$letter$letter$letter'::text)", 'valid');
	$check->('categories are refused', q{'{"pattern": "\\\\p{L}"}'}, "'1'", '22023');
	$check->('ranges beyond ASCII are refused', q{'{"pattern": "[a-\\\\u00ff]"}'}, "'1'", '22023');
	$check->('keys by their escapes', qq{'{"\$ref": "#/\$defs/$escaped", "\$defs": {"$letter": {"type": "string"}}}'}, "'1'", 'not valid');
}

# ---- memory ----

# memory(session, what): the kilobytes that a session's process has (VmRSS), or has had at most (VmHWM)
sub memory
{
	my ($session, $what) = @_;
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	return slurp_file("/proc/$pid/status") =~ /^$what:\s+(\d+)/m ? $1 : die;
}

# outcome(schema, data): how many violations there are, or an SQLSTATE
$node->safe_psql('utf8', q{
	CREATE TABLE given (what text, s jsonb, d jsonb);
	CREATE FUNCTION outcome(schema jsonb, data jsonb) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN (SELECT count(*) FROM es_check_schema(schema, data));
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$});

my $base = q{'https://example.com/' || repeat('a', 1900) || '/'};
my $five = 'generate_series(1, 5) i';
my $combined = qq{jsonb_build_object('\$ref', 'l1', '\$defs',
	(SELECT jsonb_object_agg('l' || i, jsonb_build_object('\$id', 'l' || i, 'anyOf', jsonb_build_array(jsonb_build_object('\$ref', 'r' || i), jsonb_build_object('\$ref', 'l' || (i + 1))))) FROM $five)
	|| (SELECT jsonb_object_agg('r' || i, jsonb_build_object('\$id', 'r' || i, '\$ref', 'l' || (i + 1), '\$defs', jsonb_build_object('x', jsonb_build_object('\$dynamicAnchor', 'a' || i)))) FROM $five)
	|| jsonb_build_object('last', jsonb_build_object('\$id', 'l6', '\$defs', (SELECT jsonb_object_agg('x' || i, jsonb_build_object('\$dynamicAnchor', 'a' || i)) FROM $five),
		'contains', jsonb_build_object('allOf', (SELECT jsonb_agg(jsonb_build_object('\$dynamicRef', '#a' || i)) FROM $five)),
		'items', jsonb_build_object('allOf', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, MANY))))))};

# what, schema, data, outcome, megabytes that the process may grow by at most
my @bounded = (
	[ 'references below a long base', qq{jsonb_build_object('\$id', $base, '\$defs', '{"q": {"\$id": "q"}}'::jsonb,
		'items', jsonb_build_object('allOf', (SELECT jsonb_agg('{"\$ref": "q"}'::jsonb) FROM generate_series(1, 100000))))}, q{'1'}, '0', 100 ],
	[ 'identifiers below a long base', qq{jsonb_build_object('\$id', $base, '\$defs', (SELECT jsonb_object_agg('d' || i, jsonb_build_object('\$id', 'a' || i)) FROM generate_series(1, 60000) i))}, q{'1'}, '22023', 100 ],
	[ 'what no keyword has, referred to from the inside out', q{jsonb_build_object('x', (repeat('{"items":', 400) || (SELECT jsonb_build_object('allOf', jsonb_agg('{"type": "string"}'::jsonb)) FROM generate_series(1, 5000)) || repeat('}', 400))::jsonb,
		'$defs', (SELECT jsonb_object_agg('a' || lpad(i::text, 3, '0'), jsonb_build_object('$ref', '#/x' || repeat('/items', 400 - i))) FROM generate_series(0, 399) i))}, q{'1'}, '0', 100 ],
	[ 'dynamic anchors combined', $combined =~ s/MANY/1000/r, q{'["x"]'}, '0', 100 ],
	[ '... of many subschemas', $combined =~ s/MANY/100000/r, q{'["x"]'}, '22023', 300 ],
	[ 'violations of anyOf', q{'{"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}'}, '(SELECT jsonb_agg(i) FROM generate_series(1, 200000) i)', '200000', 100 ],
	[ 'violations of oneOf', q{'{"items": {"oneOf": [{"type": "string"}, {"type": "null"}]}}'}, '(SELECT jsonb_agg(i) FROM generate_series(1, 200000) i)', '200000', 100 ],
	[ 'violations of propertyNames', q{'{"propertyNames": {"maxLength": 1}}'}, q{(SELECT jsonb_object_agg('key' || i, i) FROM generate_series(1, 200000) i)}, '200000', 100 ]);

SKIP:
{
	skip 'no /proc here', 1 + 2 * @bounded if !-e '/proc/self/status';
	my $session = $node->background_psql('utf8');
	my $call = q{SELECT count(*) FROM generate_series(1, 300) i, es_check_schema(jsonb_build_object('pattern', '^x{1,1000}' || i || '$'), to_jsonb(repeat('x', 1000)))};
	$session->query_safe($call);
	my $before = memory($session, 'VmRSS');
	$session->query_safe($call) foreach 1 .. 4;
	cmp_ok(memory($session, 'VmRSS') - $before, '<', 50000, 'expressions are given back');
	$session->quit;
	foreach my $case (@bounded)
	{
		my ($what, $schema, $data, $expected, $most) = @$case;

		$node->safe_psql('utf8', "INSERT INTO given VALUES (\$\$$what\$\$, $schema, $data)");
		$session = $node->background_psql('utf8');
		$session->query_safe("SELECT outcome('{}', '1')");
		$before = memory($session, 'VmHWM');
		is($session->query_safe("SELECT outcome(s, d) FROM given WHERE what = \$\$$what\$\$"), $expected, $what);
		cmp_ok(memory($session, 'VmHWM') - $before, '<', $most * 1024, '... in a bounded memory');
		$session->quit;
	}
}

$node->stop;
done_testing();
