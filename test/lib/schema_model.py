#!/usr/bin/python3
"""schema_model: random JSON Schemas, data for them, and whether the data are valid.

A second validator, written from the text of JSON Schema 2020-12 and not from the code,
so that both can be held against each other.  Arguments are a seed and a number of
schemas.  Standard output has a line for each schema:

  {"schema": ..., "data": [...], "valid": [true, ...]}

Numbers are Decimals or integers, never floats.  What a schema says of a value is a pair:
whether it is valid, and which of its keys or numbers of elements some keyword has
evaluated; of a value that is not valid nothing is evaluated.
"""
import decimal
import json
import random
import re
import sys

KEYS = ['a', 'b', 'c', 'ab', 'foo', 'bar', 'x-1', '', 'ä']
TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object']
# expressions of ECMA 262, and in Python's words, which also knows re.ASCII
PATTERNS = {
	'^a': '^a', 'b$': r'b\Z', '^[a-z]+$': r'^[a-z]+\Z', 'o': 'o', '^.{1,2}$': r'^.{1,2}\Z', r'\d': r'\d', r'^\w*$': r'^\w*\Z',
	'[^a-f]': '[^a-f]', 'a|b': 'a|b', '(?=f)': '(?=f)', '^$': r'^\Z', '^(a|ab)*$': r'^(a|ab)*\Z', r'^\S+$': r'^[^\s\u00a0]+\Z',
	r'^[\w-]*$': r'^[\w-]*\Z', r'\bfoo\b': r'\bfoo\b', r'(a)\1': r'(a)\1', '^(?!foo)': '^(?!foo)', '[]': '(?!)', r'\u00e4': 'ä',
	r'^\p{L}*$': r'^[a-zäöüA-Z]*\Z', '(?:ab?){2,3}c*?$': r'(?:ab?){2,3}c*?\Z'}


# ---- what schemas say ----

def type_names(value):
	if value is None:
		return {'null'}
	if isinstance(value, bool):
		return {'boolean'}
	if isinstance(value, str):
		return {'string'}
	if isinstance(value, (int, decimal.Decimal)):
		return {'number', 'integer'} if value == int(value) else {'number'}
	return {'array'} if isinstance(value, list) else {'object'}


def normal(value):
	"""A form that is equal for equal values only: true is not 1."""
	if isinstance(value, bool) or value is None:
		return (str(value),)
	if isinstance(value, list):
		return ('array', tuple(normal(v) for v in value))
	if isinstance(value, dict):
		return ('object', tuple(sorted((k, normal(v)) for k, v in value.items())))
	return ('string', value) if isinstance(value, str) else ('number', decimal.Decimal(value))


def matches(pattern, text):
	return re.search(PATTERNS[pattern], text, re.ASCII) is not None


class Model:
	def __init__(self, root):
		self.root = root

	def resolve(self, ref):
		target = self.root
		for token in ref.split('/')[1:]:
			target = target[token]
		return target

	def valid(self, schema, value):
		return self.judge(schema, value)[0]

	def judge(self, schema, value):
		if isinstance(schema, bool):
			return schema, set()
		seen = set()
		judges = [self.simple, self.string, self.number, self.array, self.object, self.applied]
		if not all(judge(schema, value, seen) for judge in judges) or not self.unevaluated(schema, value, seen):
			return False, set()
		return True, seen

	def simple(self, schema, value, seen):
		types = schema.get('type', TYPES)
		types = [types] if isinstance(types, str) else types
		return (bool(type_names(value) & set(types)) and
			('const' not in schema or normal(schema['const']) == normal(value)) and
			('enum' not in schema or normal(value) in [normal(v) for v in schema['enum']]))

	def string(self, schema, value, seen):
		return not isinstance(value, str) or (
			schema.get('minLength', 0) <= len(value) <= schema.get('maxLength', 10**9) and
			('pattern' not in schema or matches(schema['pattern'], value)))

	def number(self, schema, value, seen):
		if 'number' not in type_names(value):
			return True
		return not ('minimum' in schema and value < schema['minimum'] or
			'maximum' in schema and value > schema['maximum'] or
			'exclusiveMinimum' in schema and value <= schema['exclusiveMinimum'] or
			'exclusiveMaximum' in schema and value >= schema['exclusiveMaximum'] or
			'multipleOf' in schema and value % schema['multipleOf'] != 0)

	def array(self, schema, value, seen):
		if not isinstance(value, list):
			return True
		if not schema.get('minItems', 0) <= len(value) <= schema.get('maxItems', 10**9):
			return False
		if schema.get('uniqueItems') and len(set(normal(v) for v in value)) < len(value):
			return False
		prefix = schema.get('prefixItems', [])
		for i, element in enumerate(value):
			rule = prefix[i] if i < len(prefix) else schema.get('items')
			if rule is not None:
				if not self.valid(rule, element):
					return False
				seen.add(i)
		if 'contains' in schema:
			found = [i for i, element in enumerate(value) if self.valid(schema['contains'], element)]
			seen.update(found)
			return schema.get('minContains', 1) <= len(found) <= schema.get('maxContains', 10**9)
		return True

	def object(self, schema, value, seen):
		if not isinstance(value, dict):
			return True
		if not schema.get('minProperties', 0) <= len(value) <= schema.get('maxProperties', 10**9):
			return False
		if any(key not in value for key in schema.get('required', [])):
			return False
		for key, needed in schema.get('dependentRequired', {}).items():
			if key in value and any(n not in value for n in needed):
				return False
		for key, member in value.items():
			rules = [schema['properties'][key]] if key in schema.get('properties', {}) else []
			rules += [rule for pattern, rule in schema.get('patternProperties', {}).items() if matches(pattern, key)]
			if not rules and 'additionalProperties' in schema:
				rules = [schema['additionalProperties']]
			if rules:
				seen.add(key)
			if not all(self.valid(rule, member) for rule in rules) or not self.valid(schema.get('propertyNames', True), key):
				return False
		return True

	def applied(self, schema, value, seen):
		required = [schema[k] for k in ('$ref', '$dynamicRef') if k in schema]
		required = [self.resolve(ref) for ref in required] + schema.get('allOf', [])
		if isinstance(value, dict):
			required += [rule for key, rule in schema.get('dependentSchemas', {}).items() if key in value]
		for rule in required:
			if not self.take(rule, value, seen):
				return False
		if 'anyOf' in schema and not any([self.take(rule, value, seen) for rule in schema['anyOf']]):
			return False
		if 'oneOf' in schema and sum([self.take(rule, value, seen) for rule in schema['oneOf']]) != 1:
			return False
		if 'not' in schema and self.valid(schema['not'], value):
			return False
		if 'if' in schema:
			then = 'then' if self.take(schema['if'], value, seen) else 'else'
			return then not in schema or self.take(schema[then], value, seen)
		return True

	def take(self, rule, value, seen):
		valid, more = self.judge(rule, value)
		seen.update(more)
		return valid

	def unevaluated(self, schema, value, seen):
		keyword = {dict: 'unevaluatedProperties', list: 'unevaluatedItems'}.get(type(value))
		if keyword not in schema:
			return True
		for key, child in value.items() if isinstance(value, dict) else enumerate(value):
			if key not in seen and not self.valid(schema[keyword], child):
				return False
			seen.add(key)
		return True


# ---- random schemas and data ----

class Maker:
	def __init__(self, seed):
		self.random = random.Random(seed)

	def value(self, depth):
		pick = self.random.choice
		kind = self.random.randrange(10 if depth > 0 else 7)
		if kind == 0:
			return None
		if kind == 1:
			return pick([True, False])
		if kind < 4:
			return pick([0, 1, 2, 3, -1, 10, 7])
		if kind == 4:
			return decimal.Decimal(pick(['0.5', '1.0', '2.5', '-1.5', '1E+2', '1E-30', '10000000000000000000000001']))
		if kind < 7:
			return pick(['', 'a', 'b', 'ab', 'foo', 'bar', 'aaa', 'äöü', '1', 'x-1', '\U0001F600a', 'a\n', '\u00a0'])
		if kind == 7:
			return [self.value(depth - 1) for _ in range(self.random.randrange(5))]
		return {pick(KEYS): self.value(depth - 1) for _ in range(self.random.randrange(5))}

	def keys(self):
		return self.random.sample(KEYS, self.random.randrange(3))

	def add_assertion(self, schema):
		number = lambda: decimal.Decimal(self.random.choice(['0', '1', '2.5', '-1', '7']))
		count = lambda: self.random.randrange(4)
		makers = {
			'type': lambda: self.random.sample(TYPES, self.random.randrange(1, 4)), 'minimum': number, 'maximum': number,
			'exclusiveMinimum': number, 'exclusiveMaximum': number, 'minLength': count, 'maxLength': count, 'minItems': count,
			'maxItems': count, 'minProperties': count, 'maxProperties': count, 'required': self.keys, 'const': lambda: self.value(2),
			'enum': lambda: [self.value(1) for _ in range(self.random.randrange(1, 12))],
			'multipleOf': lambda: decimal.Decimal(self.random.choice(['1', '2', '0.5', '5', '1E-30'])),
			'pattern': lambda: self.random.choice(list(PATTERNS)), 'uniqueItems': lambda: self.random.random() < 0.8,
			'dependentRequired': lambda: {self.random.choice(KEYS): self.keys() for _ in range(2)}}
		keyword = self.random.choice(list(makers))
		schema[keyword] = makers[keyword]()

	def add_applicator(self, schema, depth, refs, all_refs):
		below = lambda: self.schema(depth - 1, all_refs, all_refs)
		beside = lambda: self.schema(depth - 1, refs, all_refs)
		some = lambda make: [make() for _ in range(self.random.randrange(1, 4))]
		makers = {
			'properties': lambda: {self.random.choice(KEYS): below() for _ in range(self.random.randrange(4))},
			'patternProperties': lambda: {self.random.choice(list(PATTERNS)): below() for _ in range(self.random.randrange(3))},
			'additionalProperties': below, 'propertyNames': below, 'items': below, 'prefixItems': lambda: some(below),
			'contains': below, 'unevaluatedProperties': below, 'unevaluatedItems': below,
			'dependentSchemas': lambda: {self.random.choice(KEYS): beside() for _ in range(self.random.randrange(3))},
			'allOf': lambda: some(beside), 'anyOf': lambda: some(beside), 'oneOf': lambda: some(beside), 'not': beside, 'if': beside}
		keyword = self.random.choice(list(makers) + ['$ref'] * 3)
		if keyword == '$ref':
			if refs:
				schema['$ref'] = self.random.choice(refs)
			return
		schema[keyword] = makers[keyword]()
		if keyword == 'if':
			schema.update({k: beside() for k in ('then', 'else') if self.random.random() < 0.8})
		if keyword == 'contains':
			schema.update({k: self.random.randrange(3) for k in ('minContains', 'maxContains') if self.random.random() < 0.5})

	def schema(self, depth, refs, all_refs):
		"""refs: what it may refer to about the same value, without a circle"""
		if self.random.random() < 0.1:
			return self.random.random() < 0.7
		schema = {}
		for _ in range(self.random.choice([0, 1, 1, 1, 2, 2, 3, 4])):
			if depth <= 0 or self.random.random() < 0.4:
				self.add_assertion(schema)
			else:
				self.add_applicator(schema, depth, refs, all_refs)
		return schema

	def root(self):
		refs = ['#/$defs/d0', '#/$defs/d1']
		schema = self.schema(3, refs, refs + ['#'])
		if isinstance(schema, dict):
			schema['$defs'] = {'d0': self.schema(2, refs[1:], refs + ['#']), 'd1': self.schema(2, [], refs + ['#'])}
			return schema
		return {'allOf': [schema]}


def write(value):
	"""JSON, in which Decimals are as they are."""
	if isinstance(value, dict):
		return '{' + ', '.join(json.dumps(k) + ': ' + write(v) for k, v in value.items()) + '}'
	if isinstance(value, list):
		return '[' + ', '.join(map(write, value)) + ']'
	return str(value) if isinstance(value, decimal.Decimal) else json.dumps(value)


def main():
	maker = Maker(int(sys.argv[1]))
	decimal.setcontext(decimal.Context(prec=1000, traps=[decimal.Inexact, decimal.InvalidOperation]))
	for _ in range(int(sys.argv[2])):
		schema = maker.root()
		data = [maker.value(3) for _ in range(8)]
		model = Model(schema)
		print(write({'schema': schema, 'data': data, 'valid': [model.valid(schema, value) for value in data]}))


main()
