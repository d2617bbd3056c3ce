#!/usr/bin/python3
"""ops_model: what declarative reducers and the built-in ones make of streams.

A second evaluator, written from the contract and not from the code, so that
both can be held against each other.  Standard input has a stream a line:

  {"stream", "reducer", "initial", "handlers": {type: ops}, "events": [...]}

without "initial" if it is SQL NULL, without "handlers" if the reducer is a
built-in one; an event has what es_event has.  Standard output has a line for
each event up to the first that fails:

  {"stream", "reducer", "version", "state"}   without "state" if it is SQL NULL
  {"stream", "reducer", "version", "sqlstate"}

With the argument "paths" each line is a path, and the answer is whether it is
one; with "examples" a line is {"initial", "ops", "data", ...}, and the answer
{"state"} or {"sqlstate"}.

A JSON value is what json makes of it, but a number, which is a Decimal: they
are exact.  A list or dict is never changed once it is made.
"""
import decimal
import functools
import json
import re
import sys

# A result that does not fit is an exception, never a rounded number; the server
# would round where there are more than 16383 digits behind the point.
decimal.setcontext(decimal.Context(prec=16000, traps=[
	decimal.Inexact, decimal.InvalidOperation, decimal.Overflow, decimal.Underflow]))


class Failed(Exception):
	"""VE009: the op does not go with the state or the event."""


class Malformed(Exception):
	"""22023: what is refused at registration."""


class Absent:
	"""No value: a missing member, a path without item, the state SQL NULL."""

	def __repr__(self):
		return 'ABSENT'


ABSENT = Absent()


def is_number(value):
	return isinstance(value, decimal.Decimal)


def loads(text):
	return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


def dumps(value):
	"""JSON text of a value; json itself cannot write a Decimal."""
	if is_number(value):
		return str(value)
	if isinstance(value, dict):
		return '{' + ', '.join(dumps(k) + ': ' + dumps(v) for k, v in value.items()) + '}'
	if isinstance(value, list):
		return '[' + ', '.join(map(dumps, value)) + ']'
	return json.dumps(value, ensure_ascii=False)


def equal(a, b):
	"""Equality of jsonb: 1 is 1.0, and true is not 1."""
	if type(a) is not type(b):
		return False
	if isinstance(a, dict):
		return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
	if isinstance(a, list):
		return len(a) == len(b) and all(map(equal, a, b))
	return a == b


# Paths into the state

KEY = r'(?:[^.\\]|\\[.\\])+'


def keys_of(path):
	"""The keys of a path: separated by dots, a backslash before dot or backslash."""
	if not re.fullmatch(rf'{KEY}(\.{KEY})*', path, re.S):
		refuse(path)
	return [re.sub(r'\\(.)', r'\1', key, flags=re.S) for key in re.findall(KEY, path, re.S)]


def refuse(text):
	raise Malformed(text)


def is_index(key):
	return re.fullmatch('0|[1-9][0-9]*', key) is not None


def changed(node, keys, change, makes):
	"""The node with change(what is there) in its place at the keys.

	A change to ABSENT takes the place away.  With makes, missing parents are
	made, else nothing happens without them.
	"""
	key, rest = keys[0], keys[1:]

	def inside(old):
		return changed(old, rest, change, makes) if rest else change(old)

	if node is ABSENT:
		if not makes:
			return ABSENT
		node = {}
	if isinstance(node, dict):
		new = inside(node.get(key, ABSENT))
		others = {k: v for k, v in node.items() if k != key}
		return others if new is ABSENT else {**others, key: new}
	if not isinstance(node, list) or not is_index(key):
		raise Failed(key)
	at = int(key)
	if at >= len(node):
		if makes:
			raise Failed(key)
		return node
	new = inside(node[at])
	return node[:at] + ([] if new is ABSENT else [new]) + node[at + 1:]


# SQL/JSON paths, as far as they are needed: members, [*], [n], and + - *

TOKEN = re.compile(r'''\s*(?:
	(?P<number>\d+(?:\.\d+)?)
	| (?P<member>\.\s*(?:\w+|"(?:[^"\\]|\\.)*"))
	| (?P<index>\[\s*(?:\*|\d+)\s*\])
	| (?P<sign>[-+*()$])
	)''', re.X)


class PathReader:
	"""Reads a path into (kind, operands...)."""

	def __init__(self, text):
		self.tokens = []
		at = 0
		text = text.rstrip()
		while at < len(text):
			match = TOKEN.match(text, at) or refuse(text)
			self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
			at = match.end()
		self.tokens.append(('end', ''))

	def take(self, *wanted):
		"""The next token, if it is one of those."""
		if self.tokens[0][1] in wanted or self.tokens[0][0] in wanted:
			return self.tokens.pop(0)[1]
		return None

	def sum(self):
		left = self.product()
		while sign := self.take('+', '-'):
			left = (sign, left, self.product())
		return left

	def product(self):
		left = self.factor()
		while self.take('*'):
			left = ('*', left, self.factor())
		return left

	def factor(self):
		if self.take('-'):
			return ('negative', self.factor())
		if self.take('('):
			inner = self.sum()
			return inner if self.take(')') else refuse('no )')
		if number := self.take('number'):
			return ('number', decimal.Decimal(number))
		if not self.take('$'):
			refuse('no operand')
		accessors = []
		while text := self.take('member', 'index'):
			accessors.append(text[1:].strip(' ]') if text[0] == '[' else ('member', unquoted(text[1:].strip())))
		return ('root', accessors)


def unquoted(name):
	return json.loads(name) if name[0] == '"' else name


@functools.lru_cache(None)
def read_path(text):
	reader = PathReader(text)
	expression = reader.sum()
	if reader.tokens[0][0] != 'end':
		refuse(text)
	return expression


def unwrapped(items):
	"""Arrays among the items replaced by their elements, one level."""
	return [inner for item in items for inner in (item if isinstance(item, list) else [item])]


def accessed(items, accessor):
	if isinstance(accessor, tuple):
		return [item[accessor[1]] for item in unwrapped(items)
			if isinstance(item, dict) and accessor[1] in item]
	if accessor == '*':
		return unwrapped(items)
	wrapped = [item if isinstance(item, list) else [item] for item in items]
	return [item[int(accessor)] for item in wrapped if int(accessor) < len(item)]


def items_of(expression, root):
	"""The items that the path finds, in lax mode."""
	kind = expression[0]
	if kind == 'number':
		return [expression[1]]
	if kind == 'root':
		return functools.reduce(accessed, expression[1], [root])
	operands = [unwrapped(items_of(operand, root)) for operand in expression[1:]]
	if not all(is_number(item) for items in operands for item in items):
		raise Failed('not a number')
	if kind == 'negative':
		return [-item for item in operands[0]]
	if any(len(items) != 1 for items in operands):
		raise Failed('not a single number')
	left, right = operands[0][0], operands[1][0]
	return [left + right if kind == '+' else left - right if kind == '-' else left * right]


def value_of(template, root):
	"""What a value of an op is for this event; ABSENT if its path finds nothing."""
	if isinstance(template, dict):
		inner = {k: value_of(v, root) for k, v in template.items()}
		return {k: v for k, v in inner.items() if v is not ABSENT}
	if isinstance(template, list):
		return [v for v in (value_of(t, root) for t in template) if v is not ABSENT]
	if not isinstance(template, str) or not template.startswith('$'):
		return template
	if template.startswith('$$'):
		return template[1:]
	items = items_of(read_path(template), root)
	return ABSENT if not items else items[0] if len(items) == 1 else items


# Ops

def merge(old, value):
	return {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value


def merge_patch(target, patch):
	"""RFC 7396, section 2."""
	if not isinstance(patch, dict):
		return patch
	result = dict(target) if isinstance(target, dict) else {}
	for key, value in patch.items():
		if value is None:
			result.pop(key, None)
		else:
			result[key] = merge_patch(result.get(key, ABSENT), value)
	return result


def increased(old, value):
	old = decimal.Decimal(0) if old is ABSENT else old
	if not is_number(old) or not is_number(value):
		raise Failed('inc')
	return old + value


def appended(old, value):
	old = [] if old is ABSENT else old
	if not isinstance(old, list):
		raise Failed('append')
	return old + [value]


def extreme(value_wins):
	def choose(old, value):
		if old is ABSENT and (is_number(value) or isinstance(value, str)):
			return value
		if is_number(old) and is_number(value):
			return value if value_wins(value, old) else old
		if isinstance(old, str) and isinstance(value, str):
			return value if value_wins(value.encode(), old.encode()) else old
		raise Failed('max or min')
	return choose


def without(old, pattern):
	"""An array without the objects that have all members of the pattern."""
	if old is ABSENT:
		return ABSENT
	if not isinstance(old, list):
		raise Failed('remove')
	return [item for item in old if not (isinstance(item, dict)
		and all(k in item and equal(item[k], v) for k, v in pattern.items()))]


WHOLE = {
	'merge': merge,
	'merge_patch': merge_patch,
	'replace': lambda state, data: data,
	'ignore': lambda state, data: state,
}
AT_PATH = {
	'set': lambda old, value: value,
	'inc': increased,
	'append': appended,
	'merge': merge,
	'max': extreme(lambda a, b: a > b),
	'min': extreme(lambda a, b: a < b),
	'unset': lambda old, value: ABSENT,
	'remove': without,
}
MAKE_NOTHING = {'unset', 'remove'}
ROOT_MEMBERS = ('data', 'metadata', 'type', 'stream', 'version', 'position', 'recorded_at', 'event_id')


def root_of(state, event):
	"""What paths begin at."""
	root = {member: event[member] for member in ROOT_MEMBERS}
	return root if state is ABSENT else {**root, 'state': state}


def changes_of(kind, arguments, root):
	"""The op's pairs of path and value, in the order in which they are done."""
	if kind == 'unset':
		return [(path, None) for path in arguments]
	ordered = sorted(arguments, key=lambda path: (len(path.encode()), path.encode()))
	pairs = [(path, value_of(arguments[path], root)) for path in ordered]
	if kind == 'remove':
		return [(path, value) for path, value in pairs if len(value) == len(arguments[path])]
	return [(path, value) for path, value in pairs if value is not ABSENT]


def run_op(op, state, event):
	if isinstance(op, str):
		return WHOLE[op](state, event['data'])
	(kind, arguments), = op.items()
	changes = changes_of(kind, arguments, root_of(state, event))
	for path, value in changes:
		state = changed(state, keys_of(path), lambda old: AT_PATH[kind](old, value), kind not in MAKE_NOTHING)
	return state


def run_ops(ops, state, event):
	for op in ops if isinstance(ops, list) else [ops]:
		state = run_op(op, state, event)
	return state


BUILT_IN = {
	'merge': ({}, lambda state, event: merge(state, event['data'])),
	'merge_patch': ({}, lambda state, event: merge_patch(state, event['data'])),
	'count': ({'count': decimal.Decimal(0)}, lambda state, event: {'count': state['count'] + 1}),
	'last': ({}, lambda state, event: event),
}


def step_of(reducer, handlers):
	"""The function from state and event to state."""
	if handlers is None:
		return BUILT_IN[reducer][1]
	return lambda state, event: run_ops(
		handlers.get(event['type'], handlers.get('*', 'ignore')), state, event)


def folded(stream):
	"""The answers for a stream."""
	reducer, handlers = stream['reducer'], stream.get('handlers')
	state = BUILT_IN[reducer][0] if handlers is None else stream.get('initial', ABSENT)
	step = step_of(reducer, handlers)
	for event in stream['events']:
		answer = {'stream': stream['stream'], 'reducer': reducer, 'version': event['version']}
		try:
			state = step(state, event)
		except Failed:
			yield {**answer, 'sqlstate': 'VE009'}
			return
		yield answer if state is ABSENT else {**answer, 'state': state}


def is_path(path):
	try:
		return bool(keys_of(path))
	except Malformed:
		return False


def example(given):
	"""The answer after one event."""
	event = {**dict.fromkeys(ROOT_MEMBERS, ''), 'metadata': {}, 'type': 'e', 'version': decimal.Decimal(1), 'data': given['data']}
	try:
		return {'state': run_ops(given['ops'], given.get('initial', ABSENT), event)}
	except Failed:
		return {'sqlstate': 'VE009'}


def main():
	mode = sys.argv[1] if len(sys.argv) > 1 else 'streams'
	for line in sys.stdin:
		given = loads(line)
		if mode == 'paths':
			answers = [is_path(given)]
		elif mode == 'examples':
			answers = [example(given)]
		else:
			answers = folded(given)
		for answer in answers:
			print(dumps(answer))


if __name__ == '__main__':
	sys.stdin.reconfigure(encoding='utf-8')
	sys.stdout.reconfigure(encoding='utf-8')
	main()
