--
-- es_check_schema: what is wrong with data by a JSON Schema.
--

CREATE TEMP TABLE orders (schema jsonb);
INSERT INTO orders VALUES ('{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"required": ["orderId", "lines"],
	"additionalProperties": false,
	"properties": {
		"orderId": {"type": "string", "pattern": "^O-[0-9]{3}$"},
		"currency": {"enum": ["EUR", "USD"]},
		"total": {"type": "number", "minimum": 0, "exclusiveMaximum": 1000, "multipleOf": 0.01},
		"discount": {"type": ["integer", "null"], "exclusiveMinimum": 0, "maximum": 90},
		"note": {"type": "string", "minLength": 2, "maxLength": 5},
		"lines": {"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": true, "items": {"$ref": "#/$defs/line"}},
		"paid/by~": {"const": "card"}
	},
	"$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}}
}');

-- valid: no rows
SELECT c.* FROM orders, es_check_schema(schema, '{"orderId": "O-123", "currency": "EUR", "total": 12.50, "discount": null, "note": "äöüß", "lines": [{"sku": "A"}]}') c;

-- every violation, with the place in the data
SELECT c.* FROM orders, es_check_schema(schema, '{"orderId": "o-123", "currency": "CHF", "total": 1000, "discount": 2.5, "note": "ä", "lines": [], "paid/by~": "cash", "extra": 1}') c
ORDER BY c.pointer COLLATE "C", c.rule COLLATE "C";
SELECT c.* FROM orders, es_check_schema(schema, '{"total": 0.005, "discount": 91, "note": "äöüßäö", "lines": [{"sku": 1}, {}, {}]}') c ORDER BY c.pointer COLLATE "C", c.rule COLLATE "C";
SELECT c.* FROM orders, es_check_schema(schema, '{"total": -1, "discount": 0}') c ORDER BY c.pointer COLLATE "C", c.rule COLLATE "C";
SELECT c.* FROM orders, es_check_schema(schema, '[1]') c;

-- what a combination says
SELECT * FROM es_check_schema('{"anyOf": [{"type": "string"}, {"properties": {"a": {"minimum": 5}}, "required": ["a"]}]}', '{"a": 1}');
SELECT * FROM es_check_schema('{"oneOf": [{"type": "string"}, {"type": "null"}]}', '1');
SELECT * FROM es_check_schema('{"oneOf": [{"type": "string"}, {"type": "integer"}, {"minimum": 0}]}', '1');
SELECT * FROM es_check_schema('{"not": {"type": "integer"}}', '1');
SELECT * FROM es_check_schema('{"allOf": [{"minimum": 5}, {"multipleOf": 2}]}', '3');
SELECT * FROM es_check_schema('{"if": {"type": "integer"}, "then": {"minimum": 5}, "else": {"type": "string"}}', '3');
SELECT * FROM es_check_schema('{"if": {"type": "integer"}, "then": {"minimum": 5}, "else": {"type": "string"}}', 'null');
SELECT * FROM es_check_schema('{"contains": {"type": "integer"}}', '["a"]');
SELECT * FROM es_check_schema('{"contains": {"type": "integer"}, "minContains": 2, "maxContains": 3}', '[1]');
SELECT * FROM es_check_schema('{"contains": {"type": "integer"}, "maxContains": 1}', '[1, 2]');
SELECT * FROM es_check_schema('{"prefixItems": [true, {"type": "null"}], "items": false}', '[1, 2, 3]');
SELECT * FROM es_check_schema('{"allOf": [{"prefixItems": [true]}], "unevaluatedItems": false}', '[1, 2]');
SELECT * FROM es_check_schema('{"anyOf": [{"properties": {"a": true}}, {"properties": {"b": {"type": "null"}}}], "unevaluatedProperties": false}', '{"a": 1, "b": 2}');
SELECT * FROM es_check_schema('{"patternProperties": {"^n": {"type": "number"}}, "propertyNames": {"maxLength": 3}}', '{"n": "x", "long": 1}');
SELECT * FROM es_check_schema('{"dependentRequired": {"card": ["name", "until"]}, "dependentSchemas": {"card": {"minProperties": 4}}}', '{"card": 1, "name": 2}');
SELECT * FROM es_check_schema('{"minProperties": 2, "maxProperties": 0}', '{"a": 1}');
SELECT * FROM es_check_schema('{"const": {"a": [1.0]}}', '{"a": [1.00]}');
SELECT * FROM es_check_schema('false', '1');
SELECT * FROM es_check_schema('{"properties": {"a": false}}', '{"a": 1}');
SELECT * FROM es_check_schema('{"prefixItems": [false], "items": false}', '[1, 2]');
SELECT * FROM es_check_schema('true', '1');

-- annotations and unknown keywords assert nothing; nor do keywords about other types
SELECT * FROM es_check_schema('{"format": "email", "contentEncoding": "base64", "default": 1, "x": 1, "dependencies": {"a": ["b"]}, "minLength": 5}', '{"a": 1}');

-- references
SELECT * FROM es_check_schema('{"$id": "https://example.com/order", "$ref": "line#sku", "$defs": {"x": {"$id": "line", "$defs": {"y": {"$anchor": "sku", "type": "string"}}}}}', '1');
SELECT * FROM es_check_schema('{"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "string"}}}', '1');
SELECT * FROM es_check_schema('{"$ref": "#/x/items", "$defs": {"a": {"$ref": "#/x"}}, "x": {"items": {"$anchor": "inner", "type": "string"}}}', '1');
SELECT * FROM es_check_schema('{"type": "object", "properties": {"next": {"$ref": "#"}}}', '{"next": {"next": {"next": 1}}}');
SELECT pointer, rule FROM es_check_schema('{"$ref": "https://json-schema.org/draft/2020-12/schema"}', '{"properties": {"a": {"minLength": -1}}}');

-- what is no schema
SELECT * FROM es_check_schema('1', '1');
SELECT * FROM es_check_schema('{"properties": {"a/b": {"minLength": -1}}}', '1');
SELECT * FROM es_check_schema('{"items": [{}]}', '1');
SELECT * FROM es_check_schema('{"type": "strnig"}', '1');
SELECT * FROM es_check_schema('{"type": ["string", "string"]}', '1');
SELECT * FROM es_check_schema('{"required": ["a", "b", "a"]}', '1');
SELECT * FROM es_check_schema('{"anyOf": []}', '1');
SELECT * FROM es_check_schema('{"multipleOf": 0}', '1');
SELECT * FROM es_check_schema('{"maxItems": 1.5}', '1');
SELECT * FROM es_check_schema('{"exclusiveMinimum": true}', '1');
SELECT * FROM es_check_schema('{"$schema": "http://json-schema.org/draft-07/schema#"}', '1');
SELECT * FROM es_check_schema('{"$ref": "#/$defs/missing"}', '1');
SELECT * FROM es_check_schema('{"$ref": "https://example.com/order"}', '1');
SELECT * FROM es_check_schema('{"$ref": "#/%ff"}', '1');
SELECT * FROM es_check_schema(jsonb_build_object('$defs', jsonb_build_object('a', jsonb_build_object('$id', 'https://example.com/' || repeat('x', 1981)))), '1');
SELECT * FROM es_check_schema(jsonb_build_object('$id', 'https://example.com/' || repeat('x', 1000) || '/', 'items', jsonb_build_object('$ref', repeat('y', 1000))), '1');
SELECT * FROM es_check_schema('{"$ref": "#"}', '1');
SELECT * FROM es_check_schema('{"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}', '1');
SELECT * FROM es_check_schema('{"$defs": {"a": {"$id": "x"}, "b": {"$id": "x"}}}', '1');
SELECT * FROM es_check_schema('{"$anchor": "1x"}', '1');
SELECT * FROM es_check_schema('{"$id": "x#y"}', '1');
SELECT * FROM es_check_schema('{"pattern": "(a"}', '1');
SELECT * FROM es_check_schema('{"patternProperties": {"(?i)a": true}}', '1');
SELECT * FROM es_check_schema('{"pattern": "\\p{Script=Greek}"}', '1');
SELECT * FROM es_check_schema('{"pattern": "(a)?\\1"}', '1');
SELECT * FROM es_check_schema('{"pattern": "(a{100}){101}"}', '1');
SELECT * FROM es_check_schema(NULL, '1');
SELECT * FROM es_check_schema('{}', NULL);

-- regular expressions of ECMA 262: text, expression, whether it must match
CREATE TEMP TABLE expressions (pattern text, data text, matches boolean);
INSERT INTO expressions VALUES
	('b', 'abc', true), ('^b', 'abc', false), ('^a.c$', E'a\nc', false), ('^a[^]c$', E'a\nc', true), ('[]', 'a', false), ('^[]*$', '', true), ('c$', E'abc\n', false),
	('^\d+$', '123', true), ('^\d+$', '٣', false), ('^\w+$', 'a_9', true), ('^\w+$', 'ä', false), ('^\W$', 'ä', true), ('^[\W]$', 'ä', true), ('^[^\W]$', 'ä', false),
	('^\s$', U&'\00a0', true), ('^\s$', U&'\2028', true), ('^\S$', U&'\feff', false), ('^[\S]$', U&'\3000', false), ('^[^\s]$', U&'\3000', false), ('^[\s\S]$', U&'\3000', true),
	('\bfoo\b', 'a foo b', true), ('\bfoo\b', 'afoo', false), ('\Bfoo', 'afoo', true), ('^\u00e4$', 'ä', true), ('^\xe4$', 'ä', true), ('^\u{1f600}$', '😀', true), ('^\ud83d\ude00$', '😀', true), ('^.$', '😀', true),
	('^[\u0041-\u0043]$', 'B', true), ('^[a\-z]$', '-', true), ('^[a\-z]$', 'b', false), ('^[a-]$', '-', true), ('^[[:alpha:]]$', 'a:', false), ('^[[:alpha:]]$', ':]', true), ('^[\]]$', ']', true), ('^[\b]$', E'\b', true),
	('^a{2}$', 'aa', true), ('^a{2,}$', 'aaaa', true), ('^a{2,3}$', 'aaaa', false), ('^a{,3}$', 'a{,3}', true), ('^a{$', 'a{', true), ('^a{300}$', repeat('a', 300), true), ('^a{300}$', repeat('a', 299), false),
	('^a{300,}$', repeat('a', 1000), true), ('^a{300,}$', repeat('a', 299), false), ('^(?:ab){1,300}$', repeat('ab', 300), true), ('^(?:ab){1,300}$', repeat('ab', 301), false), ('^.{0,600}$', repeat('x', 600), true), ('^.{0,600}$', repeat('x', 601), false),
	('^a{0}$', '', true), ('^a+?$', 'aaa', true), ('^(a|b)*?c$', 'abac', true), ('foo(?=bar)', 'foobar', true), ('foo(?!bar)', 'foobar', false), ('(?<=foo)bar', 'foobar', true), ('(?<!foo)bar', 'foobar', false),
	('^(a+)b\1$', 'aabaa', true), ('^(a+)b\1$', 'aaba', false), ('^(?<x>a|b)\k<x>$', 'bb', true), ('^(?<x>a|b)\k<x>$', 'ba', false), ('^(?:(a)|(b))c$', 'bc', true), ('^((a)b)\2$', 'aba', true),
	('^\$\^\.\*\+\?\(\)\[\]\{\}\|\\\/$', '$^.*+?()[]{}|\/', true), ('^\cJ$', E'\n', true), ('^\t\n\v\f\r$', E'\t\n\x0b\f\r', true), ('^***a', 'a', NULL), ('^(?:)$', '', true), ('^a|$', 'b', true), ('^(|a)+$', 'aa', true),
	('^\p{L}+$', 'Straße', true), ('^\p{Letter}+$', 'a1', false), ('^\P{L}$', '1', true), ('^[\p{Lu}\d]+$', 'ÄB9', true), ('^[^\p{Lu}]$', 'ä', true), ('^\p{gc=Nd}$', '٣', true), ('^\p{ASCII}$', 'ä', false), ('^\p{Any}$', 'ä', true),
	('\a', 'a', NULL), ('\1', 'a', NULL), ('a**', 'a', NULL), ('*a', 'a', NULL), ('a)', 'a', NULL), ('[a', 'a', NULL), ('[b-a]', 'a', NULL), ('[a-\d]', 'a', NULL), ('a{3,2}', 'a', NULL), ('\u12', 'a', NULL), ('\u{110000}', 'a', NULL), ('\', 'a', NULL),
	('(?=a)*', 'a', NULL), ('(?<x>a)(?<x>b)', 'a', NULL), ('\p{Klingon}', 'a', NULL), ('(?=(a))\1', 'a', NULL), ('(?:(a)|b)\1', 'a', NULL), ('(?>a)', 'a', NULL), ('\pL', 'a', NULL), ('\x1', 'a', NULL), ('\01', 'a', NULL),
	('\0', 'a', false), ('^a\0?$', 'a', true), ('^a|\0$', 'a', true), ('^[^\0]$', 'a', true);
CREATE FUNCTION pg_temp.matches(pattern text, data text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN NOT EXISTS (SELECT FROM es_check_schema(jsonb_build_object('pattern', pattern), to_jsonb(data)));
EXCEPTION WHEN SQLSTATE '22023' THEN
	RETURN NULL;
END $$;
SELECT *, pg_temp.matches(pattern, data) AS found FROM expressions WHERE pg_temp.matches(pattern, data) IS DISTINCT FROM matches;
SELECT count(*) > 90 AS all_tried FROM expressions;
