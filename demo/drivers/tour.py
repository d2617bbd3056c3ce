#!/usr/bin/python3
"""tour.py STREAM

What a program in Python has to know of psycopg 3 to work with eventstore. It
appends to STREAM, which must be new, and prints a line for each step; the
programs in the other languages print the same. It connects as psql does (PGHOST,
PGDATABASE, ...). Explained in doc/applications.md.
"""
import os
import re
import sys
import uuid

import psycopg
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.json import Jsonb

stream = sys.argv[1]
# autocommit: each statement is a transaction, and db.transaction() makes longer ones.
# Without it the first statement begins one that stays open until commit().
db = psycopg.connect(autocommit=True)


def value(statement, *values):
    """one value of one row"""
    return db.execute(statement, values).fetchone()[0]


# Arguments by name, where there are many: those left out have their defaults.
opened = value("SELECT es_append(%s, 'Opened', %s, metadata => %s, expected_version => %s)",
               stream, Jsonb({'owner': 'ann'}), Jsonb({'by': 'tour'}), 0)
print('version', opened)

# Jsonb() is right for each JSON value. Without it a dict is an error, a list an array of
# SQL, and a string is taken for JSON text.
append = 'SELECT es_append(%s, %s, %s)'
value(append, stream, 'Listed', Jsonb([1, 'two', None]))
value(append, stream, 'Noted', Jsonb('it\'s "text"'))
rows = db.execute('SELECT position, version, data, recorded_at FROM es_read(%s)', [stream]).fetchall()
print(f'data {",".join(rows[0][2])}, {len(rows[1][2])} elements, {rows[2][2]}')
large = 2**53 + 1
print(f'position {rows[0][0]}, and so would be {value("SELECT %s::bigint", large)}')

# Several events, as rows of es_new_event: the connection has to know the type.
new_event = CompositeInfo.fetch(db, 'es_new_event')
register_composite(new_event, db)
NewEvent = new_event.python_type
several = [NewEvent('Added', Jsonb({'sku': 'A1'}), None, uuid.uuid4()),
           NewEvent('Added', Jsonb({'sku': 'B2'}), None, uuid.uuid4())]
print('several', value('SELECT es_append_events(%s, %s, expected_version => %s)', stream, several, 3))

# The same as one JSON array, which is less to write.
batch = [{'type': 'Added', 'data': {'sku': 'C3'}},
         {'type': 'Removed', 'data': ['A1'], 'event_id': str(uuid.uuid4())}]
print('batch', value('SELECT es_append_batch(%s, %s, %s)', stream, Jsonb(batch), 5))

# Errors have the SQLSTATE, and in DETAIL what a program may parse. psycopg has no classes
# for our states: catch DatabaseError.
try:
    value("SELECT es_append(%s, 'Closed', expected_version => %s)", stream, 1)
except psycopg.DatabaseError as error:
    if error.sqlstate != 'VE001':
        raise
    found = re.fullmatch(r'Expected version is (-?[0-9]+), actual version is ([0-9]+)\.',
                         error.diag.message_detail)
    print(f'conflict {error.sqlstate}, expected {int(found[1])}, actual {int(found[2])}')

# The same event again, under the id that the program gave it, and another one under that id.
event_id = uuid.uuid4()
give = "SELECT es_append(%s, 'Paid', %s, event_id => %s)"
first = value(give, stream, Jsonb({'amount': 5}), event_id)
again = value(give, stream, Jsonb({'amount': 5}), event_id)
try:
    value(give, stream, Jsonb({'amount': 7}), event_id)
except psycopg.DatabaseError as error:
    stored = value('SELECT version FROM es_find_event(%s, %s)', stream, event_id)
    print(f'retry {first} {again}, {error.sqlstate}, stored at {stored}')

# A condition that does not hold.
try:
    value('SELECT es_append_if(%s, %s, types => %s)',
          Jsonb([{'stream': stream, 'type': 'Opened'}]), rows[0][0] - 1, ['Opened'])
except psycopg.DatabaseError as error:
    found = re.fullmatch(r'It is at position ([0-9]+), in stream "(.*)"\.', error.diag.message_detail, re.S)
    print(f'condition {error.sqlstate}, {str(int(found[1]) == rows[0][0] and found[2] == stream).lower()}')

# A time goes back as it came, with its microseconds.
print('time', value('SELECT count(*) FROM es_read(%s) WHERE recorded_at = %s', stream, rows[0][3]))

# A procedure, outside a transaction, so with autocommit. INOUT arguments come as a row.
settled = value("CALL es_wait_for(%s, '10s')", rows[0][0])
print('waited', str(settled > rows[0][0]).lower())

# What is executed again and again psycopg prepares by itself; behind a pool that does not
# keep prepared statements it must not.
if os.environ.get('PREPARE') == 'no':
    db.prepare_threshold = None
for n in range(11):
    last = value(append, stream, 'Counted', Jsonb(n))
print('prepared', last)
