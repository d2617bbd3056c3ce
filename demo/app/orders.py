#!/usr/bin/python3
"""orders.py COMMAND ORDER [VALUE...]

An order application: the commands place, pay, ship and cancel, and the query list.
Explained in doc/applications.md; the database is made by schema.sql.

    orders.py place 7 ann ann@example.com 120
    orders.py pay 7 120
    orders.py ship 7 parcel-1
    orders.py cancel 7 'too late'
    orders.py list ann
"""
import sys
import uuid

import psycopg
from psycopg.types.json import Jsonb

ATTEMPTS = 5


class Refused(Exception):
    """The order is not in a state for the command."""


# ---- decisions: from an order's state to the event that is to happen, or Refused ----

def place(customer, email, total):
    def decide(state):
        if state is not None:
            raise Refused('the order is there already')
        return 'OrderPlaced', {'customer': customer, 'email': email, 'total': total}
    return decide


def pay(amount):
    def decide(state):
        require(state, 'placed')
        if amount != state['total']:
            raise Refused(f'the order costs {state["total"]}')
        return 'OrderPaid', {'amount': amount}
    return decide


def ship(parcel):
    def decide(state):
        require(state, 'paid')
        return 'OrderShipped', {'parcel': parcel}
    return decide


def cancel(reason):
    def decide(state):
        require(state, 'placed', 'paid')
        return 'OrderCancelled', {'reason': reason}
    return decide


def require(state, *allowed):
    status = 'unknown' if state is None else state['status']
    if status not in allowed:
        raise Refused(f'the order is {status}')


# ---- the store ----

class Orders:
    """A connection, made anew when it is lost. Not for several threads at a time."""

    def __init__(self, conninfo=''):
        self.conninfo = conninfo
        self.db = None

    def query(self, statement, *values):
        if self.db is None or self.db.closed:
            self.db = psycopg.connect(self.conninfo, autocommit=True)
        return self.db.execute(statement, values).fetchall()

    def close(self):
        if self.db is not None:
            self.db.close()

    def execute(self, order, decide, command):
        """Carries out a command. Its id, a UUID, is made where the command is: the same
        command that comes again has the same id, and no effect. Gives the version of
        the command's event."""
        for attempt in range(ATTEMPTS):
            try:
                return self.attempt(f'order-{order}', decide, command)
            except psycopg.DatabaseError as error:
                # VE001: somebody else was faster. Lost: nobody knows whether it was done.
                # In both cases the same command again, decided anew, under the same id.
                lost = isinstance(error, psycopg.OperationalError) and (self.db is None or self.db.closed)
                if attempt == ATTEMPTS - 1 or not (lost or error.sqlstate == 'VE001'):
                    raise

    def attempt(self, stream, decide, command):
        rows = self.query('SELECT version, state FROM es_replay(%s)', stream)
        version, state = rows[0] if rows else (0, None)
        try:
            event, data = decide(state)
        except Refused:
            # Maybe because of this command itself, which came before.
            version = self.stored(stream, command)
            if version is None:
                raise
            return version
        try:
            [[version]] = self.query(
                'SELECT es_append(%s, %s, %s, expected_version => %s, event_id => %s)',
                stream, event, Jsonb(data), version, command)
            return version
        except psycopg.DatabaseError as error:
            if error.sqlstate == 'VE003':
                raise Refused('the order is deleted') from error
            if error.sqlstate != 'VE010':
                raise
            # It came before, and was decided otherwise.
            return self.stored(stream, command)

    def stored(self, stream, command):
        """The version of the event that a command has left, or None."""
        rows = self.query('SELECT version FROM es_find_event(%s, %s)', stream, command)
        return rows[0][0] if rows else None

    def of_customer(self, customer, order=None, version=None):
        """The customer's orders. With what a command has given they are at least as new as that."""
        if order is not None:
            [[there]] = self.query("SELECT es_wait_projection('orders', %s, %s, '5s')", f'order-{order}', version)
            if not there:
                raise TimeoutError('the read model is behind')
        return self.query("SELECT key, state FROM order_list WHERE state ->> 'customer' = %s ORDER BY key", customer)


# How many values each command takes, and the decision that it makes of them.
COMMANDS = {
    'place': (3, lambda customer, email, total: place(customer, email, int(total))),
    'pay': (1, lambda amount: pay(int(amount))),
    'ship': (1, ship),
    'cancel': (1, cancel),
}


def main(command=None, what=None, *values):
    orders = Orders()
    if command == 'list' and what is not None and not values:
        for stream, state in orders.of_customer(what):
            print(stream, state['status'], state['total'])
        return
    count, decision = COMMANDS.get(command, (None, None))
    if what is None or len(values) != count:
        sys.exit(__doc__.strip())
    print(orders.execute(what, decision(*values), uuid.uuid4()))


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except Refused as refusal:
        sys.exit(str(refusal))
