#!/usr/bin/python3
"""ops_cases SEED COUNT: random reducers of declarative ops, and streams for them.

Prints a case a line:

  {"reducer", "initial", "handlers": {type: ops}, "streams": [{"stream", "events": [...]}]}

without "initial" if it is to be SQL NULL.  An event has "type", "data",
"metadata" and, if it is to be given, "recorded_at".  All share a small set of
keys, each with a kind of value that it mostly has, and a case has a specimen that
the data of its events are like and that its paths lead into: so most ops find
what they can work on.  The model tells beforehand which events fail: such an
event is the last of a stream of its own, and does not end the others.
"""
import decimal
import json
import random
import sys

import ops_model
from ops_model import ABSENT

KEYS = {
	'number': ['n', 'm', 'total', 'n.n'],
	'string': ['s', 't', 'grüße'],
	'array': ['items', 'items', 'xs', 'x y'],
	'object': ['o', 'p', 'q.r'],
	'any': ['v', '0', '1', '01', 'back\\slash', '$d', 'K', 'a key that is longer than the others'],
}
KINDS = list(KEYS)
TYPES = ['A', 'B', 'Created', 'item.added', 'with space']
STRINGS = ['', 'a', 'b', 'B', 'ab', 'é', 'z', '\uffee', '\U0001f600', '1', '10', '9', '$', '$x', '$.data.n', '"', 'a\\b', '\x01\n']
NUMBERS = ['0', '1', '-1', '2', '3', '1.0', '1.50', '0.1', '0.2', '-0.3', '1e3', '1E-7', '9007199254740993', '-9223372036854775808',
	'9223372036854775807', '18446744073709551616', '123456789012345678901234567890.123456789012345678901234567890',
	'0.000000000000000000000000000000000001', '99999999999999999999999999999999999999999', '2e40', '10000', '9999.9999', '-0.0']
IDS = [decimal.Decimal('1'), decimal.Decimal('1.0'), decimal.Decimal('2'), 'a', '1', None, True]
PATH_OPS = ['set', 'inc', 'append', 'remove', 'merge', 'max', 'min', 'unset']
KIND_OF_OP = {'inc': 'number', 'append': 'array', 'remove': 'array', 'merge': 'object'}
MAX_STATE = 6000


def kind_of(value):
	for kind, classes in (('number', decimal.Decimal), ('string', str), ('array', list), ('object', dict)):
		if isinstance(value, classes):
			return kind
	return 'any'


def places(value, keys=()):
	"""Pairs of keys and value for all that is in a value."""
	inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
	for key, child in inner:
		yield keys + (key,), child
		yield from places(child, keys + (key,))


def path_text(keys):
	return '.'.join(str(key).replace('\\', '\\\\').replace('.', '\\.') for key in keys)


class TooLong(Exception):
	"""A state, or a number on the way to it, that is longer than is useful."""


def stepped(case, state, event, version, limit):
	"""The state after the event, which has yet to get what the store adds to it."""
	stored = {'event_id': '', 'stream': '', 'recorded_at': '', 'position': decimal.Decimal(1), 'version': decimal.Decimal(version), **event}
	try:
		new = ops_model.step_of(case['reducer'], case['handlers'])(state, stored)
	except decimal.DecimalException:
		raise TooLong
	if new is not ABSENT and len(ops_model.dumps(new)) > limit:
		raise TooLong
	return new


class Generator(random.Random):
	"""Makes one case."""

	def __init__(self, seed):
		super().__init__(seed)
		self.specimen = {key: self.of_kind(kind, 2) for kind in KINDS * 2 for key in [self.key(kind)]}
		self.specimen['items'] = [self.item() for _ in range(3)]
		self.places = list(places(self.specimen))

	def likely(self, probability):
		return self.random() < probability

	def shuffled(self, values):
		return sorted(values, key=lambda _: self.random())

	def kind(self):
		return self.choice(KINDS)

	def key(self, kind=None):
		return self.choice(KEYS[kind if kind and self.likely(0.93) else self.kind()])

	# Values of events and states

	def number(self):
		if self.likely(0.4):
			return decimal.Decimal(self.randint(-3, 9))
		if self.likely(0.6):
			return decimal.Decimal(self.choice(NUMBERS))
		digits = ''.join(self.choice('0123456789') for _ in range(self.randint(1, 40)))
		at = self.randint(0, len(digits))
		return decimal.Decimal(f'{self.choice(["", "-"])}{digits[:at] or "0"}.{digits[at:] or "0"}')

	def string(self):
		return self.choice(STRINGS)

	def scalar(self):
		return self.choice([self.number, self.string, lambda: None, lambda: self.likely(0.5)])()

	def item(self):
		"""An element such as arrays mostly have."""
		item = {}
		if self.likely(0.9):
			item['id'] = self.choice(IDS)
		if self.likely(0.7):
			item['n'] = self.choice([decimal.Decimal(1), self.number()])
		if self.likely(0.3):
			item[self.key()] = self.any(1)
		return item

	def array(self, depth):
		length = self.choice([0, 1, 1, 2, 2, 3, 4])
		if self.likely(0.6):
			return [self.item() for _ in range(length)]
		return [self.any(depth - 1) for _ in range(length)]

	def object(self, depth):
		keys = [(kind, self.key(kind)) for kind in self.choices(KINDS, k=self.randint(0, 5))]
		return {key: self.of_kind(kind, depth - 1) for kind, key in keys}

	def any(self, depth):
		return self.of_kind(self.choice(['number', 'string', 'array', 'object', 'scalar']), depth)

	def of_kind(self, kind, depth):
		"""A value of that kind, but sometimes null, another, or wrapped in an array."""
		if self.likely(0.12):
			return self.choice([lambda: None, lambda: self.any(depth), lambda: [self.of_kind(kind, depth)]])()
		if kind in ('array', 'object') and depth <= 0:
			return [] if kind == 'array' else {}
		if kind in ('array', 'object', 'any'):
			return getattr(self, kind)(depth)
		return getattr(self, kind)()

	def like(self, value):
		"""A value of the same kind, often with the same members."""
		if self.likely(0.3):
			return value
		if isinstance(value, list) and self.likely(0.7):
			return [self.like(element) for element in value if self.likely(0.9)]
		if isinstance(value, dict):
			return {**{k: self.like(v) for k, v in value.items() if self.likely(0.8)},
				**(self.object(2) if self.likely(0.1) else {})}
		kind = kind_of(value)
		return self.scalar() if kind == 'any' else self.of_kind(kind, 1)

	# Paths

	def place(self, kind):
		"""The keys of a value of that kind in the specimen, mostly; () if there is none."""
		if self.likely(0.4):
			return ()
		found = [keys for keys, value in self.places if kind == 'any' or kind_of(value) == kind]
		return self.choice(found) if found else ()

	def path(self, kind):
		"""A path into the state that mostly ends at a value of that kind."""
		if keys := self.place(kind):
			return path_text(keys)
		keys = []
		while self.likely(0.3) and len(keys) < 4:
			if self.likely(0.3):
				keys += [self.key('array'), self.index()]
			else:
				keys.append(self.key('object'))
		keys.append(self.choice(['id', 'n', self.key(kind)]) if keys and keys[-1].isdigit() else self.key(kind))
		if self.likely(0.3 if kind == 'any' and keys[-1] in KEYS['array'] else 0.03):
			keys.append(self.index())
		return path_text(keys)

	def index(self):
		return self.choice(['0', '0', '0', '0', '1', '1', '2', '7', '01', '18446744073709551616'])

	def member(self, key):
		return '.' + (key if key.isidentifier() and key.isascii() and self.likely(0.9) else json.dumps(key, ensure_ascii=False))

	def query(self, kind):
		"""An SQL/JSON path that mostly finds values of that kind."""
		if self.likely(0.12):
			envelope = ['version', 'position'] if kind == 'number' else ['type', 'stream', 'recorded_at', 'event_id', 'metadata']
			return '$.' + self.choice(envelope)
		path = self.choice(['$.data', '$.data', '$.data', '$.state', '$.state', '$.metadata'])
		if keys := self.place(kind):
			return path + ''.join(self.member(key) if isinstance(key, str) else self.choice([f'[{key}]', f'[{key}]', '[*]', '']) for key in keys)
		if self.likely(0.3 if kind == 'object' else 0.06):
			return path
		while self.likely(0.25):
			path += self.member(self.key('object'))
		if self.likely(0.25):
			path += self.member(self.key('array')) + self.choice(['', '[*]', '[0]', '[1]', '[0][0]', '[*][*]'])
			path += self.member(self.choice(['id', 'n', self.key(kind)]))
		else:
			path += self.member(self.key(kind))
		return path + (self.choice(['[*]', '[0]', '[2]']) if self.likely(0.15) else '')

	def arithmetic(self):
		left = self.query('number')
		right = self.choice([self.query('number'), str(self.randint(0, 20)), '0.1', '1.25', '-$.data.n', f'({self.query("number")} - 1)'])
		middle = self.choice([' * ', ' + ', ' - ', '*', ' * -2 + '])
		return left + middle + right

	def template(self, kind, depth=2):
		"""A value as an op has it."""
		if self.likely(0.55):
			if kind == 'number' and self.likely(0.4):
				return self.arithmetic()
			return self.query(kind) if self.likely(0.97) else '$.data.nothing'
		if kind == 'array' and depth > 0:
			return [self.template(self.kind(), depth - 1) for _ in range(self.randint(0, 3))]
		if kind == 'object' and depth > 0:
			keys = [(inner, self.key(inner)) for inner in self.choices(KINDS, k=self.randint(0, 4))]
			return {key: self.template(inner, depth - 1) for inner, key in keys}
		if kind == 'any' and depth > 0 and self.likely(0.4):
			return self.template(self.choice(['array', 'object']), depth)
		return self.literal(self.of_kind(kind, 0))

	def literal(self, value):
		"""The template that gives that value, which may hold one that is text like a path."""
		if isinstance(value, str):
			return '$' + value if value.startswith('$') else value
		if isinstance(value, dict):
			return {k: self.literal(v) for k, v in value.items()}
		return [self.literal(v) for v in value] if isinstance(value, list) else value

	# Ops

	def pattern(self):
		"""What remove compares with."""
		pattern = {}
		if self.likely(0.85):
			pattern['id'] = self.choice(IDS + ['$.data.v', '$.data.items[0].id', '$.data.items[0].id', '$.state.items[1].id', '$.data.items.id'])
		if not pattern or self.likely(0.25):
			pattern['n'] = self.choice([decimal.Decimal('1.00'), self.template('number')])
		if self.likely(0.1):
			pattern[self.key()] = self.template('any', 1)
		return pattern

	def removal(self):
		"""A path and a pattern, mostly of an array in the specimen and an element of it."""
		keys, element = self.choice([place for place in self.places if isinstance(place[1], dict)])
		if not isinstance(keys[-1], int) or not element or self.likely(0.2):
			return self.path('array'), self.pattern()
		chosen = self.shuffled(element)[:self.choice([1, 1, 2])]
		source = '$.data' + ''.join(f'[{key}]' if isinstance(key, int) else self.member(key) for key in keys)
		return path_text(keys[:-1]), {key: source + self.member(key) if self.likely(0.3) else self.literal(element[key]) for key in chosen}

	def argument(self, op, kind):
		if op == 'append':
			return self.template('any') if self.likely(0.5) else {'id': self.template('number'), 'n': '$.data.n'}
		if op == 'inc':
			return self.number() if self.likely(0.4) else self.arithmetic() if self.likely(0.4) else self.query('number')
		if op in ('max', 'min'):
			return self.choice([self.query(kind), self.query(kind), self.literal(getattr(self, kind)())])
		return self.template(kind)

	def unset(self, kind):
		"""Paths to unset: one, or elements of one array."""
		if self.likely(0.7):
			return [self.path(kind)]
		array = self.path('array')
		return [f'{array}.{self.index()}' for _ in range(self.randint(1, 3))]

	def op(self):
		if self.likely(0.2):
			return self.choice(['merge', 'merge', 'merge_patch', 'merge_patch', 'replace', 'ignore'])
		op = self.choice(PATH_OPS)
		kinds = [KIND_OF_OP.get(op) or self.choice(['number', 'string'] if op in ('max', 'min') else KINDS) for _ in range(self.choice([1, 1, 1, 2, 2, 3]))]
		if op == 'unset':
			return {op: [path for kind in kinds for path in self.unset(kind)]}
		if op == 'remove':
			return {op: dict(self.removal() for _ in kinds)}
		return {op: {self.path(kind): self.argument(op, kind) for kind in kinds}}

	def ops(self):
		if self.likely(0.35):
			return self.op()
		return [self.op() for _ in range(self.choice([1, 2, 2, 3, 4]))]

	# Cases

	def initial(self):
		return self.choice([{}, {}, self.object(3), self.like(self.specimen), self.like(self.specimen), self.specimen,
			[self.any(2), {}], self.scalar(), ABSENT, ABSENT])

	def event(self, types):
		data = self.like(self.specimen) if self.likely(0.8) else self.object(3) if self.likely(0.8) else self.any(2)
		return {'type': self.choice(types), 'data': data, 'metadata': self.object(2) if self.likely(0.5) else {}}

	def long_case(self, name):
		"""Few kinds of events, many of them, and states with many members and elements."""
		types = TYPES[:3]
		case = {'reducer': name, 'initial': {}, 'streams': [], 'handlers': {
			'A': [self.choice(['merge', 'merge_patch']), {'append': {'items': {'id': '$.data.n', 'n': '$.data.n * $.version'}}}],
			'B': [{'remove': {'items': {'id': '$.data.n'}}}, {'unset': ['items.0', f'k{self.randint(0, 99)}']}],
			'Created': [{'inc': {f'k{self.randint(0, 99)}': decimal.Decimal(1) for _ in range(60)}},
				{'set': {'o.' * self.randint(1, 40) + 's': '$.data.s'}}, self.op()]}}
		state, events = {}, []
		for _ in range(300):
			data = {f'k{self.randint(0, 99)}': self.number() for _ in range(self.randint(0, 40))}
			data.update(n=decimal.Decimal(self.randint(0, 200)), s=self.string() * self.choice([1, 1, 1, 3000]))
			event = {'type': self.choices(types, [6, 1, 1])[0], 'data': data, 'metadata': {}}
			try:
				state = stepped(case, state, event, len(events) + 1, 4 * MAX_STATE)
				events.append(event)
			except (ops_model.Failed, TooLong):
				continue
		case['streams'] = [{'stream': f'{name}-1', 'events': events}] if events else []
		return case

	def case(self, name):
		types = self.shuffled(TYPES)[:self.randint(1, 5)]
		case = {'reducer': name, 'initial': self.initial(), 'handlers': {t: self.ops() for t in types}}
		if self.likely(0.15):
			case['handlers']['*'] = self.ops()
		good, bad = self.events(case, types + ['Unknown'])
		runs = [(f'{name}-1', good)] if good else []
		runs += [(f'failing_{name}-{nth}', events) for nth, events in enumerate(bad)]
		case['streams'] = [{'stream': stream, 'events': self.dated(events)} for stream, events in runs]
		if case['initial'] is ABSENT:
			del case['initial']
		return case

	def dated(self, events):
		"""The events as they are, or with times of their own."""
		if self.likely(0.5):
			return events
		fraction = self.choice(['', '.5', '.000001', '.123450'])
		return [{**event, 'recorded_at': f'2020-01-01 23:{minute:02}:00{fraction}+00'} for minute, event in enumerate(events)]

	def events(self, case, types):
		"""A run of events that the model folds, and runs that end with a failure."""
		good, bad, failures = [], [], {}
		state = case['initial']
		for _ in range(self.randint(1, 24)):
			event = self.event(types)
			try:
				state = stepped(case, state, event, len(good) + 1, MAX_STATE)
				good.append(event)
			except TooLong:
				continue
			except ops_model.Failed:
				failures[event['type']] = failures.get(event['type'], 0) + 1
				if len(bad) < 6 and failures[event['type']] <= 2:
					bad.append(good + [event])
		return good, bad


def main():
	seed, count = int(sys.argv[1]), int(sys.argv[2])
	for nth in range(1, count + 1):
		generator = Generator(f'{seed} {nth}')
		print(ops_model.dumps((generator.long_case if nth % 100 == 0 else generator.case)(f'ops{nth}')))


if __name__ == '__main__':
	sys.stdout.reconfigure(encoding='utf-8')
	main()
