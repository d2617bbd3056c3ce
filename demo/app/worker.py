"""A worker: handles the events of a subscription one by one, for ever, each exactly
once in what it writes into this database. Any number of them may run. Explained in
doc/applications.md; demo/drivers/worker.mjs is the same in Node.js.
"""
import contextlib
import os
import random
import signal
import socket
import sys
import time
import uuid

import psycopg

# More than 64 savepoints in a transaction cost all sessions of the server.
BATCH = 50
LONGEST_PAUSE = 30
# What is gone when all is done again: a lost connection, a server that restarts, a
# deadlock, another member that has the partition by now.
PASSING = ('08', '57P', '40001', '40P01', '53300', '55P03', 'VE007')


def passes(error):
    """whether an error is gone when all is done again"""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:      # not the server's: the connection is lost, or there is none
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(PASSING)


class Worker:
    """Calls handle(db, event) for each event of a subscription; event is a row with the
    columns of es_delivery by name. What handle raises refuses the event."""

    def __init__(self, subscription, handle, conninfo=''):
        self.subscription = subscription
        self.handle = handle
        self.conninfo = conninfo
        # Names this worker among the others. A new name for each: who was killed is another.
        self.member = f'{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}'
        self.stopping = False
        self.idle = False

    def work(self, db):
        """One transaction: events are delivered, handled, acknowledged. Gives how many there were."""
        handled = {}        # partition: position
        refused = set()     # partitions
        with db.transaction():
            events = db.execute('SELECT * FROM es_poll(%s, %s, member => %s)',
                                [self.subscription, BATCH, self.member]).fetchall()
            for event in events:
                # What follows a refused event waits with it, so streams stay in order.
                if event.partition in refused:
                    continue
                try:
                    with db.transaction():      # within another one: a savepoint
                        self.handle(db, event)
                    handled[event.partition] = event.position
                except Exception as error:
                    if passes(error):
                        raise
                    db.execute('SELECT es_nack(%s, %s, %s, %s, %s)',
                               [self.subscription, event.partition, event.position, str(error), self.member])
                    refused.add(event.partition)
            for partition, position in handled.items():
                db.execute('SELECT es_ack(%s, %s, %s, %s)',
                           [self.subscription, partition, position, self.member])
        return len(events)

    def wait(self, db):
        """Waits for news, outside a transaction."""
        with self.interruptible():
            db.execute("CALL es_poll_wait(%s, '10min', member => %s)", [self.subscription, self.member])

    @contextlib.contextmanager
    def interruptible(self):
        """In its block a signal raises KeyboardInterrupt, at which psycopg cancels the statement."""
        self.idle = True
        try:
            if self.stopping:
                raise KeyboardInterrupt
            yield
        finally:
            self.idle = False

    def stop(self, *_):
        """Ends run(), after the batch in hand; a handler of signals."""
        self.stopping = True
        if self.idle:
            raise KeyboardInterrupt

    def session(self, settled):
        """As long as a connection lasts."""
        with psycopg.connect(self.conninfo, autocommit=True, application_name='worker',
                             row_factory=psycopg.rows.namedtuple_row) as db:
            while not self.stopping:
                if self.work(db) == 0:
                    self.wait(db)
                settled()

    def run(self):
        """Works until told to stop. What it cannot mend it raises: a supervisor has to know."""
        pause = 0

        def settled():
            nonlocal pause
            pause = 0

        for number in signal.SIGTERM, signal.SIGINT:
            signal.signal(number, self.stop)
        while not self.stopping:
            try:
                try:
                    self.session(settled)
                except psycopg.Error as error:
                    if not passes(error):
                        raise
                    print(f'{error}; trying again', file=sys.stderr, flush=True)
                    pause = min(max(2 * pause, 0.1), LONGEST_PAUSE)
                    with self.interruptible():
                        time.sleep(pause * random.uniform(0.5, 1))
            except KeyboardInterrupt:       # from stop()
                pass
