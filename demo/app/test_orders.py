#!/usr/bin/python3
"""test_orders.py

The application's tests: each that needs a database has one of its own, a copy of a
template. They connect as psql does, to a server on which they may create databases. With
a worker there (the library is preloaded) and without one.
"""
import os
import pathlib
import unittest
import uuid

import psycopg

import orders
from mailer import send_mail
from worker import Worker

TEMPLATE = f'orders_template_{os.getpid()}'
DATABASE = f'orders_test_{os.getpid()}'
SCHEMA = pathlib.Path(__file__).with_name('schema.sql').read_text()


def administer(*statements):
    with psycopg.connect('dbname=postgres', autocommit=True) as db:
        for statement in statements:
            db.execute(statement)


def setUpModule():
    administer(f'CREATE DATABASE {TEMPLATE}')
    with psycopg.connect(f'dbname={TEMPLATE}', autocommit=True) as db:
        db.execute(SCHEMA)
    # From here on nobody can be connected to it, so it can be copied at any time.
    administer(f'ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS false')


def tearDownModule():
    administer(f'DROP DATABASE {TEMPLATE} WITH (FORCE)')


class Decisions(unittest.TestCase):
    """need no database"""

    def test_pay(self):
        placed = {'status': 'placed', 'total': 120}
        self.assertEqual(orders.pay(120)(placed), ('OrderPaid', {'amount': 120}))
        for state, amount in (placed, 119), (None, 120), ({'status': 'paid', 'total': 120}, 120):
            with self.assertRaises(orders.Refused):
                orders.pay(amount)(state)


class Store(unittest.TestCase):
    def setUp(self):
        administer(f'CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE}')
        self.addCleanup(administer, f'DROP DATABASE {DATABASE} WITH (FORCE)')
        self.orders = orders.Orders(f'dbname={DATABASE}')
        self.addCleanup(self.orders.close)

    def types(self, order):
        return [row[0] for row in self.orders.query('SELECT type FROM es_read(%s)', f'order-{order}')]

    def place(self, order, email='ann@example.com'):
        return self.orders.execute(order, orders.place('ann', email, 120), uuid.uuid4())

    def test_story(self):
        self.assertEqual(self.place(7), 1)
        self.assertEqual(self.orders.execute(7, orders.pay(120), uuid.uuid4()), 2)
        self.assertEqual(self.orders.execute(7, orders.ship('parcel-1'), uuid.uuid4()), 3)
        with self.assertRaisesRegex(orders.Refused, 'the order is shipped'):
            self.orders.execute(7, orders.cancel('too late'), uuid.uuid4())
        self.assertEqual(self.types(7), ['OrderPlaced', 'OrderPaid', 'OrderShipped'])

    def test_somebody_else_is_faster(self):
        other = orders.Orders(f'dbname={DATABASE}')
        self.addCleanup(other.close)
        self.place(7)
        decided = []

        def cancel_late(state):
            if not decided:     # between the decision and the append
                other.execute(7, orders.pay(120), uuid.uuid4())
            decided.append(state['status'])
            return orders.cancel('late')(state)

        self.assertEqual(self.orders.execute(7, cancel_late, uuid.uuid4()), 3)
        self.assertEqual(decided, ['placed', 'paid'])

    def test_command_comes_twice(self):
        self.place(7)
        command = uuid.uuid4()
        self.assertEqual(self.orders.execute(7, orders.pay(120), command), 2)
        # refused by what it has itself done
        self.assertEqual(self.orders.execute(7, orders.pay(120), command), 2)
        # decided otherwise
        self.assertEqual(self.orders.execute(7, orders.cancel('paid'), command), 2)
        self.assertEqual(self.types(7), ['OrderPlaced', 'OrderPaid'])

    def test_connection_is_lost(self):
        self.place(7)
        command = uuid.uuid4()
        lost = []

        def lose(state):
            if not lost:
                lost.append(self.orders.db.info.backend_pid)
                administer(f'SELECT pg_terminate_backend({lost[0]}, 10000)')
            return orders.pay(120)(state)

        self.assertEqual(self.orders.execute(7, lose, command), 2)
        self.assertEqual(self.types(7), ['OrderPlaced', 'OrderPaid'])

    def test_read_model(self):
        version = self.place(7)
        # With a worker this changes nothing; without one nobody else does it.
        self.orders.query("SELECT es_run_projection('orders')")
        [(stream, state)] = self.orders.of_customer('ann', 7, version)
        self.assertEqual((stream, state['status']), ('order-7', 'placed'))

    def test_mail(self):
        self.place(7)
        self.place(8, email='nobody')
        self.orders.execute(7, orders.pay(120), uuid.uuid4())
        worker = Worker('mailer', send_mail)
        with psycopg.connect(f'dbname={DATABASE}', autocommit=True,
                             row_factory=psycopg.rows.namedtuple_row) as db:
            db.execute('SET eventstore.retry_delay = 1')
            # What is refused comes again after a moment, three times.
            while not db.execute("SELECT FROM es_parked('mailer')").fetchall():
                worker.work(db)
                db.execute("CALL es_poll_wait('mailer', '1s', member => %s)", [worker.member])
            while worker.work(db):
                pass
            mails = db.execute('SELECT recipient, subject FROM mail ORDER BY subject').fetchall()
            self.assertEqual(mails, [('ann@example.com', 'order-7: OrderPaid'),
                                     ('ann@example.com', 'order-7: OrderPlaced')])
            [parked] = db.execute("SELECT stream, attempts, reason FROM es_parked('mailer')").fetchall()
            self.assertEqual(parked[:2], ('order-8', 3))
            self.assertIn('mail_recipient_check', parked.reason)

    def test_order_is_deleted(self):
        for order in 7, 8:
            self.place(order)
            self.orders.execute(order, orders.pay(120), uuid.uuid4())
        self.orders.query("SELECT es_delete_stream('order-7'), es_truncate_stream('order-8', 3)")
        with self.assertRaisesRegex(orders.Refused, 'the order is unknown'):
            self.orders.execute(7, orders.pay(120), uuid.uuid4())
        with self.assertRaisesRegex(orders.Refused, 'the order is deleted'):
            self.place(7)
        self.orders.execute(8, orders.ship('parcel-1'), uuid.uuid4())
        worker = Worker('mailer', send_mail)
        with psycopg.connect(f'dbname={DATABASE}', autocommit=True,
                             row_factory=psycopg.rows.namedtuple_row) as db:
            self.assertEqual(worker.work(db), 6)
            self.assertEqual(worker.work(db), 0)
            # the one event that is there still
            self.assertEqual(db.execute('SELECT subject FROM mail').fetchall(), [('order-8: OrderShipped',)])
            self.assertEqual(db.execute('SELECT sum(lag) FROM es_subscriptions').fetchone(), (0,))


if __name__ == '__main__':
    unittest.main()
