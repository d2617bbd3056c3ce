-- Which new version of a schema is compatible with which old one, and what is said if
-- it is not.  Each case is looked at both ways.
CREATE TABLE cases (number serial PRIMARY KEY, change text, old jsonb, new jsonb);

-- what es_compare_schemas says, a line a problem
CREATE FUNCTION verdict(old jsonb, new jsonb, compatibility text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(format('%s %s %s: %s', CASE WHEN decided THEN 'no,' ELSE '?' END, pointer, rule, message), E'\n'), 'yes')
	FROM es_compare_schemas(old, new, compatibility)
$$;

-- all cases that were not shown yet
CREATE FUNCTION show() RETURNS TABLE (change text, backward text, forward text) LANGUAGE sql AS $$
	WITH shown AS (DELETE FROM cases RETURNING *)
	SELECT change, verdict(old, new, 'backward'), verdict(old, new, 'forward') FROM shown ORDER BY number
$$;
\pset format unaligned
\pset fieldsep '\n    '
\pset tuples_only on

-- Annotations make no difference.
INSERT INTO cases (change, old, new) VALUES
	('nothing', '{"type": "string"}', '{"type": "string"}'),
	('annotations', '{"type": "string", "title": "a", "default": "x"}',
		'{"type": "string", "title": "b", "description": "c", "examples": [1], "$comment": "d", "format": "date", "deprecated": true, "unit": "m"}'),
	('the identifier', '{"$id": "https://example.com/one", "type": "string"}', '{"$id": "https://example.com/two", "type": "string"}'),
	('anything instead', '{"type": "string"}', 'true'),
	('nothing instead', '{"type": "string"}', 'false');
SELECT * FROM show();

-- Types.
INSERT INTO cases (change, old, new) VALUES
	('another type', '{"type": "string"}', '{"type": "number"}'),
	('integer to number', '{"type": "integer"}', '{"type": "number"}'),
	('a type more', '{"type": "string"}', '{"type": ["string", "null"]}'),
	('types in another order', '{"type": ["string", "null", "number"]}', '{"type": ["number", "string", "null"]}'),
	('integer beside number', '{"type": ["integer", "number"]}', '{"type": "number"}'),
	('numbers that are all integers', '{"type": "number", "multipleOf": 2}', '{"type": "integer"}'),
	('a type given up', '{"type": "object"}', '{}');
SELECT * FROM show();

-- Listed values.
INSERT INTO cases (change, old, new) VALUES
	('a value more', '{"enum": ["a", "b"]}', '{"enum": ["b", "c", "a"]}'),
	('const to enum', '{"const": "a"}', '{"enum": ["a", "b"]}'),
	('another const', '{"const": 1}', '{"const": 2}'),
	('1 and 1.0', '{"const": {"a": [1]}}', '{"const": {"a": [1.0]}}'),
	('enum to its type', '{"enum": ["a", "b"]}', '{"type": "string"}'),
	('enum beside a limit', '{"enum": ["a", "bb", "ccc"], "maxLength": 2}', '{"enum": ["a", "bb"]}'),
	('boolean listed', '{"type": "boolean"}', '{"enum": [true, false]}'),
	('null listed', '{"type": "null"}', '{"const": null}'),
	('a short range listed', '{"type": "integer", "minimum": 1, "maximum": 3}', '{"enum": [1, 2, 3]}'),
	('a range that is longer', '{"type": "integer", "minimum": 1, "maximum": 4}', '{"enum": [1, 2, 3]}'),
	('strings listed', '{"type": "string"}', '{"enum": ["a"]}'),
	('values with a pattern', '{"enum": ["ab", "ac"]}', '{"pattern": "^a"}'),
	('objects listed', '{"type": "object", "additionalProperties": false}', '{"enum": [{}]}');
SELECT * FROM show();

-- Numbers, exactly.
INSERT INTO cases (change, old, new) VALUES
	('minimum lower', '{"minimum": 10}', '{"minimum": 9.99}'),
	('minimum given up', '{"type": "number", "minimum": 10}', '{"type": "number"}'),
	('maximum higher', '{"maximum": 10}', '{"maximum": 11}'),
	('maximum that doubles cannot tell', '{"maximum": 9007199254740993}', '{"maximum": 9007199254740992}'),
	('one number', '{"minimum": 5, "maximum": 5}', '{"minimum": 5, "maximum": 6}'),
	('between the same limits, one of them exclusive', '{"exclusiveMaximum": 5}', '{"maximum": 5}'),
	('fractions are not rounded', '{"minimum": 0.5}', '{"minimum": 1}'),
	('exclusive to inclusive', '{"exclusiveMinimum": 1, "exclusiveMaximum": 5}', '{"minimum": 1, "maximum": 5}'),
	('exclusive, of integers', '{"type": "integer", "exclusiveMinimum": 1, "maximum": 4.5}', '{"type": "integer", "minimum": 2, "exclusiveMaximum": 5}'),
	('limits of what is no number', '{"type": "string", "minimum": 1}', '{"type": "string", "minimum": 2}'),
	('multiple of a divisor', '{"multipleOf": 6}', '{"multipleOf": 3}'),
	('multiple of another', '{"multipleOf": 6}', '{"multipleOf": 4}'),
	('multiples, written otherwise', '{"multipleOf": 0.5}', '{"multipleOf": 0.50}'),
	('multiples in decimals', '{"multipleOf": 0.3}', '{"multipleOf": 0.1}'),
	('integers are multiples', '{"type": "integer"}', '{"type": "number", "multipleOf": 0.5}'),
	('multiples and limits', '{"multipleOf": 10, "minimum": 1}', '{"multipleOf": 5, "minimum": 10}'),
	('multiples of two numbers', '{"allOf": [{"multipleOf": 2}, {"multipleOf": 3}]}', '{"multipleOf": 6}'),
	('a maximum of many digits', jsonb_build_object('maximum', ('1' || repeat('0', 1000))::numeric), jsonb_build_object('maximum', ('1' || repeat('0', 999) || '1')::numeric)),
	('multiples of many digits', jsonb_build_object('multipleOf', ('1' || repeat('0', 1000))::numeric), '{"multipleOf": 7}'),
	('integers above a limit of many decimals', '{"type": "integer", "minimum": 1e-37, "maximum": 2}', '{"type": "string"}'),
	('... listed', '{"type": "integer", "minimum": 1e-37, "exclusiveMaximum": 2.00000000000000000000000000000000000000001}', '{"enum": [1, 2]}'),
	('... of a member', '{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1e-37, "maximum": 2}}, "required": ["a"]}', '{"type": "object", "properties": {"a": {"type": "string"}}}'),
	('integers above a large limit', '{"type": "integer", "minimum": 10000000000000000000000000000000000000.5, "maximum": 10000000000000000000000000000000000002}', '{"type": "string"}'),
	('... listed, below 0', '{"type": "integer", "minimum": -10000000000000000000000000000000000002.5, "exclusiveMaximum": -10000000000000000000000000000000000000.5}',
		'{"enum": [-10000000000000000000000000000000000001, -10000000000000000000000000000000000002]}'),
	('no integers between such limits', '{"type": "integer", "minimum": 1e-37, "maximum": 2e-37}', '{"type": "string"}'),
	('multiples of 1 between such limits', '{"multipleOf": 1.0, "exclusiveMinimum": 1, "maximum": 2.00000000000000000000000000000000000000001}', '{"minimum": 2}'),
	('integers between the largest limits', '{"type": "integer", "minimum": -9e131071, "maximum": 9e131071}', '{"type": "string"}'),
	('integers at the largest limit', '{"type": "integer", "minimum": 9e131071, "maximum": 9e131071}', '{"type": "number"}'),
	('integers beyond what can be rounded', jsonb_build_object('type', 'integer', 'minimum', (repeat('9', 131072) || '.5')::numeric, 'maximum', (repeat('9', 131072) || '.7')::numeric), '{"type": "string"}');
SELECT * FROM show();

-- Strings.
INSERT INTO cases (change, old, new) VALUES
	('longer ones', '{"maxLength": 5}', '{"maxLength": 6}'),
	('shorter ones', '{"type": "string", "minLength": 5}', '{"type": "string", "minLength": 4}'),
	('lengths given up', '{"minLength": 1, "maxLength": 5}', '{}'),
	('pattern given up', '{"type": "string", "pattern": "^a"}', '{"type": "string"}'),
	('pattern changed', '{"type": "string", "pattern": "^a"}', '{"type": "string", "pattern": "^[ab]"}'),
	('pattern that says nothing', '{"type": "string"}', '{"type": "string", "pattern": ".*"}'),
	('pattern that a length decides', '{"type": "string", "maxLength": 0}', '{"type": "string", "pattern": "^$"}');
SELECT * FROM show();

-- Properties of objects: open, closed, partly open.
INSERT INTO cases (change, old, new) VALUES
	('optional, open', '{"properties": {"a": {"type": "string"}}}', '{"properties": {"a": {"type": "string"}, "b": {"type": "number"}}}'),
	('anything, open', '{"type": "object", "properties": {"a": {"type": "string"}}}', '{"type": "object", "properties": {"a": {"type": "string"}, "b": true}}'),
	('optional, closed', '{"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}',
		'{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}, "additionalProperties": false}'),
	('optional, closed by unevaluatedProperties', '{"type": "object", "properties": {"a": {"type": "string"}}, "unevaluatedProperties": false}',
		'{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}, "unevaluatedProperties": false}'),
	('optional, partly open, fits', '{"type": "object", "additionalProperties": {"type": "integer"}}',
		'{"type": "object", "properties": {"b": {"type": "number"}}, "additionalProperties": {"type": "integer"}}'),
	('optional, partly open, does not fit', '{"type": "object", "additionalProperties": {"type": "string"}}',
		'{"type": "object", "properties": {"b": {"type": "number"}}, "additionalProperties": {"type": "string"}}'),
	('false, closed', '{"type": "object", "additionalProperties": false}', '{"type": "object", "properties": {"a": false}, "additionalProperties": false}'),
	('closed to open', '{"type": "object", "properties": {"a": {}}, "additionalProperties": false}', '{"type": "object", "properties": {"a": {}}}'),
	('closed to partly open', '{"type": "object", "additionalProperties": false}', '{"type": "object", "additionalProperties": {"type": "string"}}'),
	('partly open, wider', '{"additionalProperties": {"type": "integer"}}', '{"additionalProperties": {"type": "number"}}'),
	('another type', '{"properties": {"a": {"type": "string"}}}', '{"properties": {"a": {"type": "number"}}}'),
	('a name with / and ~', '{"properties": {"a/b~": {"maximum": 2}}}', '{"properties": {"a/b~": {"maximum": 1}}}'),
	('pattern, wider', '{"patternProperties": {"^a": {"type": "integer"}}}', '{"patternProperties": {"^a": {"type": "number"}}}'),
	('pattern, fits', '{"patternProperties": {"^a": {"type": "integer"}}}', '{"patternProperties": {"^a": {"type": "integer"}}, "properties": {"ab": {"type": "number"}}}'),
	('pattern, closed', '{"patternProperties": {"^a": {}}, "additionalProperties": false}', '{"properties": {"ab": {}}, "additionalProperties": false}'),
	('pattern, new', '{"properties": {"ab": {"type": "string"}}, "additionalProperties": false}',
		'{"properties": {"ab": {"type": "string"}}, "patternProperties": {"^a": {"type": "string"}}, "additionalProperties": false}'),
	('keys that match two patterns', '{"allOf": [{"patternProperties": {"^a": {}}}, {"patternProperties": {"b$": {"type": "string"}}, "additionalProperties": {"type": "number"}}]}',
		'{"patternProperties": {"^a": {"type": "number"}}}'),
	('pattern instead of another', '{"patternProperties": {"^a": {"type": "string"}}}', '{"patternProperties": {"b$": {"type": "string"}}}');
SELECT * FROM show();

-- Which members there must be.  A default fills nothing in.
INSERT INTO cases (change, old, new) VALUES
	('required', '{"type": "object"}', '{"type": "object", "required": ["a"]}'),
	('required with a default', '{"type": "object", "properties": {"a": {"default": 1}}}', '{"type": "object", "properties": {"a": {"default": 1}}, "required": ["a"]}'),
	('required, added to a closed one', '{"type": "object", "additionalProperties": false}',
		'{"type": "object", "properties": {"a": {"type": "string", "default": ""}}, "required": ["a"], "additionalProperties": false}'),
	('required of what is no object', '{"type": "string", "required": ["a"]}', '{"type": "string", "required": ["b"]}'),
	('required by another schema', '{"allOf": [{"type": "object"}, {"required": ["a"]}]}', '{"required": ["a"], "minProperties": 1}'),
	('fewer members', '{"minProperties": 2}', '{"minProperties": 1}'),
	('more members', '{"maxProperties": 2}', '{"maxProperties": 3}'),
	('as many as are allowed', '{"properties": {"a": {}, "b": {}}, "additionalProperties": false}', '{"maxProperties": 2}'),
	('one that may be required', '{"properties": {"a": {}}, "additionalProperties": false, "minProperties": 1}', '{"required": ["a"]}'),
	('dependentRequired, more', '{"dependentRequired": {"a": ["b"]}}', '{"dependentRequired": {"a": ["b", "c"]}}'),
	('dependentRequired of what is required', '{"required": ["a", "b"]}', '{"required": ["a"], "dependentRequired": {"a": ["b"]}}'),
	('dependentRequired in two steps', '{"dependentRequired": {"a": ["b"], "b": ["c"]}}', '{"dependentRequired": {"a": ["c"]}}'),
	('dependentSchemas', '{"type": "object"}', '{"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}}'),
	('dependentSchemas, wider', '{"dependentSchemas": {"a": {"properties": {"b": {"type": "integer"}}}}}', '{"dependentSchemas": {"a": {"properties": {"b": {"type": "number"}}}}}'),
	('dependentSchemas of what is not allowed', '{"properties": {"a": false}}', '{"properties": {"a": false}, "dependentSchemas": {"a": {"required": ["b"]}}}'),
	('propertyNames', '{"propertyNames": {"maxLength": 2}}', '{"propertyNames": {"maxLength": 3}}'),
	('propertyNames of a closed one', '{"properties": {"a": {}, "bc": {}}, "additionalProperties": false}', '{"propertyNames": {"maxLength": 2}}'),
	('propertyNames listed', '{"propertyNames": {"enum": ["a", "b"]}}', '{"properties": {"a": true, "b": true}, "additionalProperties": false}');
SELECT * FROM show();

-- Arrays.
INSERT INTO cases (change, old, new) VALUES
	('elements, wider', '{"items": {"type": "integer"}}', '{"items": {"type": "number"}}'),
	('elements, any', '{"type": "array", "items": {"type": "integer"}}', '{"type": "array"}'),
	('fewer elements', '{"minItems": 2}', '{"minItems": 1}'),
	('more elements', '{"maxItems": 2}', '{"maxItems": 3}'),
	('a tuple, longer, open', '{"prefixItems": [{"type": "string"}]}', '{"prefixItems": [{"type": "string"}, {"type": "number"}]}'),
	('a tuple, longer, closed', '{"prefixItems": [{"type": "string"}], "items": false}', '{"prefixItems": [{"type": "string"}, {"type": "number"}], "items": false}'),
	('a tuple, longer, partly open', '{"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}',
		'{"prefixItems": [{"type": "string"}, {"type": "number"}], "items": {"type": "integer"}}'),
	('a tuple, opened', '{"prefixItems": [{"type": "string"}], "items": false}', '{"prefixItems": [{"type": "string"}]}'),
	('a tuple, turned round', '{"prefixItems": [{"type": "string"}, {"type": "number"}]}', '{"prefixItems": [{"type": "number"}, {"type": "string"}]}'),
	('a tuple to a list', '{"prefixItems": [{"type": "integer"}, {"type": "number"}], "items": false}', '{"items": {"type": "number"}}'),
	('as many as are allowed', '{"prefixItems": [true, true], "items": false}', '{"maxItems": 2}'),
	('elements of an empty array', '{"maxItems": 0, "items": {"type": "string"}}', '{"maxItems": 0, "items": {"type": "number"}}'),
	('equal ones allowed', '{"uniqueItems": true}', '{}'),
	('equal ones of one', '{"type": "array", "maxItems": 1}', '{"type": "array", "maxItems": 1, "uniqueItems": true}'),
	('equal ones of two', '{"type": "array", "maxItems": 2}', '{"type": "array", "maxItems": 2, "uniqueItems": true}'),
	('contains, wider', '{"contains": {"type": "integer"}}', '{"contains": {"type": "number"}}'),
	('contains, new', '{"type": "array"}', '{"type": "array", "contains": {"type": "number"}}'),
	('contains what all are', '{"type": "array", "items": {"type": "integer"}, "minItems": 1}', '{"type": "array", "contains": {"type": "number"}}'),
	('minContains, fewer', '{"contains": {"type": "number"}, "minContains": 2}', '{"contains": {"type": "number"}, "minContains": 1}'),
	('maxContains, more', '{"contains": {"type": "number"}, "maxContains": 2}', '{"contains": {"type": "number"}, "maxContains": 3}'),
	('maxContains of what there is none of', '{"items": {"type": "string"}}', '{"items": {"type": "string"}, "contains": {"type": "number"}, "minContains": 0, "maxContains": 1}');
SELECT * FROM show();

-- allOf, anyOf, oneOf, not.
INSERT INTO cases (change, old, new) VALUES
	('allOf, in another order', '{"allOf": [{"type": "string"}, {"maxLength": 5}, {"minLength": 1}]}', '{"allOf": [{"minLength": 1}, {"type": "string"}, {"maxLength": 5}]}'),
	('allOf, fewer', '{"allOf": [{"type": "string"}, {"maxLength": 5}]}', '{"allOf": [{"type": "string"}]}'),
	('allOf, written out', '{"allOf": [{"type": "string"}, {"maxLength": 5}]}', '{"type": "string", "maxLength": 5}'),
	('allOf that contradicts itself', '{"allOf": [{"type": "string"}, {"type": "number"}]}', '{"type": "null"}'),
	('anyOf, more', '{"anyOf": [{"type": "string"}]}', '{"anyOf": [{"type": "number"}, {"type": "string"}]}'),
	('anyOf, in another order', '{"anyOf": [{"type": "string"}, {"type": "number"}, {"required": ["a"]}]}', '{"anyOf": [{"required": ["a"]}, {"type": "number"}, {"type": "string"}]}'),
	('anyOf, each wider', '{"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]}', '{"anyOf": [{"type": "number"}, {"type": "string"}]}'),
	('one to anyOf', '{"type": "string"}', '{"anyOf": [{"type": "number"}, {"type": "string"}]}'),
	('types to anyOf', '{"type": ["string", "integer"]}', '{"anyOf": [{"type": "number"}, {"type": "string"}]}'),
	('anyOf to types', '{"anyOf": [{"type": "number"}, {"type": "string"}]}', '{"type": ["string", "number"]}'),
	('anyOf that overlaps', '{"type": "number"}', '{"anyOf": [{"maximum": 5}, {"minimum": 3}]}'),
	('oneOf, more', '{"oneOf": [{"type": "string"}]}', '{"oneOf": [{"type": "boolean"}, {"type": "string"}]}'),
	('oneOf, more, that overlap', '{"oneOf": [{"type": "number"}]}', '{"oneOf": [{"type": "number"}, {"type": "integer"}]}'),
	('oneOf, wider, that overlap', '{"oneOf": [{"maximum": 5}, {"minimum": 10}]}', '{"oneOf": [{"maximum": 12}, {"minimum": 10}]}'),
	('oneOf, in another order', '{"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}, {"type": "string"}]}', '{"oneOf": [{"multipleOf": 3}, {"type": "string"}, {"multipleOf": 2}]}'),
	('oneOf to anyOf', '{"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}', '{"anyOf": [{"multipleOf": 2}, {"multipleOf": 3}]}'),
	('allOf of one to anyOf', '{"allOf": [{"type": "string"}]}', '{"anyOf": [{"type": "string"}]}'),
	('a kind more',
		'{"oneOf": [{"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"properties": {"kind": {"const": "b"}}, "required": ["kind"]}], "type": "object"}',
		'{"oneOf": [{"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
			{"properties": {"kind": {"const": "c"}}, "required": ["kind"]}], "type": "object"}'),
	('a kind that needs more',
		'{"oneOf": [{"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"properties": {"kind": {"const": "b"}}, "required": ["kind"]}], "type": "object"}',
		'{"oneOf": [{"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"properties": {"kind": {"const": "b"}}, "required": ["kind", "x"]}], "type": "object"}'),
	('not, less', '{"not": {"type": "number"}}', '{"not": {"type": "integer"}}'),
	('not to what is left', '{"not": {"type": "string"}}', '{"type": ["null", "boolean", "number", "object", "array"]}'),
	('not of what cannot be', '{"type": "string"}', '{"type": "string", "not": {"type": "number"}}'),
	('not, of numbers', '{"type": "number", "minimum": 10}', '{"type": "number", "not": {"maximum": 5}}'),
	('not, of some', '{"type": "number", "minimum": 3}', '{"type": "number", "not": {"maximum": 5}}'),
	('not an object that has it', '{"not": {"type": "object", "required": ["a"]}}', '{"type": "object"}'),
	('not required', '{"type": "object", "not": {"required": ["a"]}}', '{"type": "object", "properties": {"a": false}}'),
	('not not', '{"type": "string"}', '{"not": {"not": {"type": "string"}}}');
SELECT * FROM show();

-- Conditions.
INSERT INTO cases (change, old, new) VALUES
	('the same, then wider',
		'{"type": "object", "if": {"properties": {"k": {"const": 1}}, "required": ["k"]}, "then": {"properties": {"v": {"type": "integer"}}}, "else": {"required": ["w"]}}',
		'{"type": "object", "if": {"properties": {"k": {"const": 1}}, "required": ["k"]}, "then": {"properties": {"v": {"type": "number"}}}, "else": {"required": ["w"]}}'),
	('a condition more', '{"type": "object"}', '{"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}'),
	('a condition that always holds', '{"type": "string"}', '{"if": {"type": "string"}, "then": {"type": "string"}, "else": false}'),
	('a condition that never holds', '{"type": "string"}', '{"if": {"type": "number"}, "then": false}'),
	('a condition written as a choice', '{"if": {"type": "string"}, "then": {"maxLength": 3}, "else": {"type": "null"}}', '{"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}');
SELECT * FROM show();

-- References, recursion.
INSERT INTO cases (change, old, new) VALUES
	('moved to $defs', '{"properties": {"a": {"type": "string"}}}', '{"properties": {"a": {"$ref": "#/$defs/name"}}, "$defs": {"name": {"type": "string"}}}'),
	('the same reference, changed there', '{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}', '{"$ref": "#/$defs/a", "$defs": {"a": {"type": "number"}}}'),
	('a tree', '{"type": "object", "properties": {"value": {"type": "integer"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}}, "additionalProperties": false}',
		'{"type": "object", "properties": {"value": {"type": "number"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}}, "additionalProperties": false}'),
	('a tree, deep down', '{"properties": {"next": {"$ref": "#"}}, "type": "object"}', '{"properties": {"next": {"$ref": "#/$defs/more"}}, "type": "object",
		"$defs": {"more": {"properties": {"next": {"$ref": "#/$defs/more"}}, "type": "object", "required": ["x"]}}}'),
	('two that refer to each other',
		'{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/b"}}, "type": "object"}, "b": {"items": {"$ref": "#/$defs/a"}, "type": "array"}}}',
		'{"$ref": "#/$defs/y", "$defs": {"x": {"items": {"$ref": "#/$defs/y"}}, "y": {"properties": {"b": {"$ref": "#/$defs/x"}}}}}'),
	('a tree that does not fit, looked at before what it is part of',
		'{"properties": {"a": {"$ref": "#/$defs/one"}, "b": {"$ref": "#/$defs/two"}}, "$defs": {"one": {"type": "object", "properties": {"c": {"$ref": "#/$defs/two"}, "v": {"type": "string"}}},
			"two": {"type": "object", "properties": {"up": {"$ref": "#/$defs/one"}}}}}',
		'{"properties": {"a": {"anyOf": [{"$ref": "#/$defs/one"}, {"type": "object"}]}, "b": {"$ref": "#/$defs/two"}}, "$defs": {"one": {"type": "object", "properties": {"c": {"$ref": "#/$defs/two"}, "v": {"type": "number"}}},
			"two": {"type": "object", "properties": {"up": {"$ref": "#/$defs/one"}}}}}'),
	('no value can be', '{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}', 'false'),
	('a list that ends', '{"type": ["object", "null"], "required": ["a"], "properties": {"a": {"$ref": "#"}}}', '{"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}}'),
	('$dynamicRef', '{"$dynamicAnchor": "node", "type": "object", "properties": {"next": {"$dynamicRef": "#node"}, "n": {"type": "integer"}}}',
		'{"$dynamicAnchor": "node", "type": "object", "properties": {"next": {"$dynamicRef": "#node"}, "n": {"type": "number"}}}');
SELECT * FROM show();

-- What is left unevaluated.
INSERT INTO cases (change, old, new) VALUES
	('over allOf', '{"allOf": [{"$ref": "#/$defs/base"}], "properties": {"b": {}}, "unevaluatedProperties": false, "$defs": {"base": {"properties": {"a": {"type": "string"}}}}}',
		'{"allOf": [{"$ref": "#/$defs/base"}], "properties": {"b": {}, "c": {}}, "unevaluatedProperties": false, "$defs": {"base": {"properties": {"a": {"type": "string"}}}}}'),
	('over anyOf, the same', '{"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}], "unevaluatedProperties": false}',
		'{"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}], "unevaluatedProperties": false, "title": "x"}'),
	('over anyOf, changed', '{"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}], "unevaluatedProperties": false}',
		'{"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"c": {}}}], "unevaluatedProperties": false}'),
	('to additionalProperties', '{"properties": {"a": {}}, "unevaluatedProperties": false}', '{"properties": {"a": {}}, "additionalProperties": false}'),
	('over anyOf, to what one of them names', '{"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}], "unevaluatedProperties": false}',
		'{"properties": {"b": {}}, "additionalProperties": false}'),
	('over else', '{"if": {"required": ["x"]}, "else": {"properties": {"a": {}}}, "unevaluatedProperties": false}', '{"properties": {"a": false}}'),
	('given up', '{"anyOf": [{"properties": {"a": {}}}], "unevaluatedProperties": false}', '{"anyOf": [{"properties": {"a": {}}}]}'),
	('elements', '{"prefixItems": [{}], "unevaluatedItems": false}', '{"prefixItems": [{}, {}], "unevaluatedItems": false}'),
	('elements that contains evaluates', '{"contains": {"type": "string"}, "unevaluatedItems": false}', '{"contains": {"type": "string"}, "unevaluatedItems": {"type": "number"}}');
SELECT * FROM show();

-- More than one problem, and both ways at once.
SELECT * FROM es_compare_schemas('{"type": "object", "properties": {"a": {"maximum": 5}, "b": {"type": "string"}}}',
	'{"type": "object", "properties": {"a": {"maximum": 4}, "b": {"type": ["string", "null"]}}, "required": ["a"]}', 'full');
SELECT count(*) FROM es_compare_schemas('{"type": "string"}', '{"type": "number"}', 'none');
SELECT count(*) FROM es_compare_schemas('{"type": "string"}', '{"type": "string"}', 'full');

-- What is too much to compare is not called compatible; the answer comes all the same.
CREATE FUNCTION doubled(n int) RETURNS jsonb LANGUAGE sql AS $$
	-- n schemas that each have two ways to the next
	SELECT jsonb_build_object('$ref', '#/$defs/d1', '$defs', jsonb_object_agg('d' || i, CASE WHEN i = n THEN '{"multipleOf": 2}' ELSE
		jsonb_build_object('oneOf', jsonb_build_array(jsonb_build_object('not', jsonb_build_object('$ref', '#/$defs/d' || i + 1), 'minimum', i), jsonb_build_object('$ref', '#/$defs/d' || i + 1))) END))
	FROM generate_series(1, n) i
$$;
SELECT verdict(doubled(40), jsonb_set(doubled(40), '{$defs,d40}', '{"multipleOf": 3}'), 'backward');

-- What cannot be asked.
\set VERBOSITY terse
SELECT * FROM es_compare_schemas(NULL, '{}');
SELECT * FROM es_compare_schemas('{}', NULL);
SELECT * FROM es_compare_schemas('{}', '{}', NULL);
SELECT * FROM es_compare_schemas('{}', '{}', 'sideways');
SELECT * FROM es_compare_schemas('{"type": "text"}', '{}');
SELECT * FROM es_compare_schemas('{}', '7');
