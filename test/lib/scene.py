"""The programs of a scene: a store in use, for drills and the soak run.

A scene is a folder.  DIR/dsn has the connection string, which may have several hosts and may be
replaced while programs run: each reads it before it connects, and connects again whenever it has
to.  DIR/log has what each program notes outside the server, in a file of its own, by write(2), so
that kill -9 of anything takes nothing back.  scene_check.py holds all of that against the log.

	scene.py DIR setup [--segment-size N] [--partitions N]
	scene.py DIR write --slot N [--seed N] [--pace OPERATIONS] [--batch EVENTS] [--mix LIST] [--routed]
	scene.py DIR follow --name NAME [--category NAME]
	scene.py DIR consume --subscription NAME --member NAME
	scene.py DIR look
	scene.py DIR feed -- ARGUMENTS		runs esfeed, which ends with it; again if it has ended by itself

With --routed the connection is to a router of shards; scene_shards.py has who follows them all.

SIGTERM ends a program after what it has in hand.  A program that was killed is started again with
the same arguments.
"""
import argparse
import ctypes
import hashlib
import io
import os
import random
import signal
import struct
import subprocess
import time

import psycopg2
import psycopg2.extensions

# What each event's digest is made of: all that a reader gets of it.
DIGEST = ('hashtextextended(ROW({0}.position, {0}.stream, {0}.version, {0}.type, {0}.type_version, {0}.data, '
          '{0}.metadata, {0}.event_id, {0}.recorded_at)::text, 0)')

# What follows from others' appends, from locks, or from a promotion, is part of the game.
USUAL = ('VE001', 'VE011', '40P01', '40001', '57014', '25006')

SETUP = r'''
CREATE EXTENSION IF NOT EXISTS eventstore;
CREATE SCHEMA drill;
CREATE TABLE drill.deliveries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subscription text NOT NULL, partition int NOT NULL,
	first bigint NOT NULL, last bigint NOT NULL, events bigint NOT NULL, total numeric NOT NULL, digest bigint NOT NULL, member text NOT NULL);
CREATE TABLE drill.ledger (position bigint PRIMARY KEY, stream text NOT NULL, amount bigint NOT NULL);
CREATE FUNCTION drill.book(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO drill.ledger VALUES (e.position, e.stream, (e.data ->> 'v')::bigint);
END
$$;
SELECT es_register_reducer_ops('tally', '*', '{"inc": {"n": 1, "sum": "$.data.v"}}');
SELECT es_create_projection('totals', 'tally');
SELECT es_create_projection('balances', 'tally', 'inline', 'account');
SELECT es_create_handler_projection('ledger', 'drill.book(es_event)', categories => '{account}');
SELECT es_subscribe('orders', 0, '{order}', max_attempts => NULL);
'''


# Where no worker runs projections, as a scheduler does it.
BY_HAND = ("SELECT es_run_projection(projection, 20000) FROM unnest('{totals,ledger}'::text[]) projection "
           "WHERE current_setting('shared_preload_libraries') !~ 'eventstore'")


class Lost(Exception):
    """the connection is gone; whether the statement was done is not known"""


class Refused(Exception):
    """the server refused the statement"""

    def __init__(self, error):
        super().__init__(str(error).split('\n')[0])
        self.code = error.pgcode


class Stopped(Exception):
    """asked to end while there is no connection"""


class Notes:
    """A file that only this program adds to."""

    def __init__(self, directory, name):
        self.file = os.open(os.path.join(directory, 'log', name), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    def add(self, *fields):
        os.write(self.file, ('\t'.join(str(f) for f in fields) + '\n').encode())


class Session:
    """A connection that comes back by itself."""

    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.connection = None
        self.stopping = False
        self.errors = None
        self.quiet = ()     # SQLSTATEs that are no surprise just now
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def stop(self, *_):
        self.stopping = True

    def connect(self):
        """Connects, however long that takes; says whether it was necessary."""
        if self.connection is not None and not self.connection.closed:
            return False
        pause = 0.02
        while True:
            with open(os.path.join(self.directory, 'dsn'), encoding='utf-8') as file:
                dsn = file.read().strip()
            try:
                self.connection = psycopg2.connect(dsn, connect_timeout=5, application_name='scene ' + self.name,
                                                   options='-c TimeZone=UTC -c statement_timeout=120s -c lock_timeout=60s')
                self.connection.autocommit = True
                return True
            except psycopg2.Error as error:
                if self.stopping:
                    raise Stopped from error
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)

    def drop(self):
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def run(self, action):
        """Runs action(cursor) on the connection that there is."""
        if self.connection is None or self.connection.closed:
            raise Lost('not connected')
        try:
            with self.connection.cursor() as cursor:
                result = action(cursor)
            notices = self.connection.notices
            if any('synchronous replication' in notice for notice in notices):
                del notices[:]
                raise Lost('committed, but not replicated')
            return result
        except SystemError as error:
            self.drop()         # psycopg2, at a connection that ends within a COPY
            raise Lost(str(error)) from error
        except psycopg2.Error as error:
            code = error.pgcode
            if code == 'SC002' and not self.connection.closed:
                time.sleep(0.05)        # a shard is away, and the router is not
                raise Lost(str(error).split('\n')[0]) from error
            if code is None or code[:2] == '08' or code[:3] == '57P' or self.connection is None or self.connection.closed:
                self.drop()
                raise Lost(str(error).split('\n')[0]) from error
            refused = Refused(error)
            self.report(refused)
            raise refused from error

    def query(self, sql, *arguments):
        """The rows of a statement, if it has any."""
        def action(cursor):
            cursor.execute(sql, arguments or None)
            return cursor.fetchall() if cursor.description else None
        rows = self.run(action)
        if rows is None and sql.startswith(('SELECT', 'WITH', 'CALL')):
            # A server without memory to report its error in has said nothing of it: what comes next is not known either.
            self.drop()
            raise Lost('no result')
        return rows

    def report(self, refused):
        """Notes an error that nobody expects; a server that is read-only is left."""
        if refused.code not in USUAL and refused.code not in self.quiet:
            if self.errors is None:
                self.errors = Notes(self.directory, self.name.replace(' ', '-') + '.err')
            self.errors.add(refused.code, refused)
        if refused.code == '25006':
            self.drop()
            time.sleep(0.1)

    def leave_block(self):
        """Whatever was begun is undone."""
        if self.connection is not None and not self.connection.closed:
            if self.connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
                try:
                    self.query('ROLLBACK')
                except (Lost, Refused):
                    pass


def event_id(writer, n, i):
    """The id that a writer gives its event: it follows from the operation."""
    digest = hashlib.md5(f'{writer}/{n}/{i}'.encode()).hexdigest()
    return f'{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}'


class Writer:
    """Appends in all ways that there are.  Of each operation, numbered n, it notes the intent before
    (I n kind events), and what became of it after: A n, and of each stream its name, last version and
    last position ('-': not told); R n why: it is not stored, nor will it be; U n why: nobody knows.
    An operation without any of these was cut off, and is as U.  Through a router each call is a
    transaction, and positions are not told."""

    # kind: weight.  Small letters that are in IDS come with event ids, and are repeated as they were
    # when the connection is lost.
    MIX = 's:24,e:16,b:16,m:8,c:6,i:10,r:5,x:6,p:3,y:6'
    MIX_ROUTED = 's:24,e:20,b:16,m:8,i:10'
    IDS = 'ebmc'

    def __init__(self, options):
        self.slot, self.pace, self.routed = options.slot, options.pace, options.routed
        self.position = "'-'" if self.routed else 'es_last_position()'
        self.key = f'{self.slot}-{os.urandom(4).hex()}'
        self.session = Session(options.dir, f'writer {self.slot}')
        self.notes = Notes(options.dir, f'w-{self.key}.log')
        self.random = random.Random(options.seed if options.seed is not None else os.urandom(8))
        self.batch, self.streams = options.batch, options.streams
        mix = [item.split(':') for item in (options.mix or (self.MIX_ROUTED if self.routed else self.MIX)).split(',')]
        self.kinds, self.weights = [m[0] for m in mix], [float(m[1]) for m in mix]
        self.known = {}     # own stream: version
        self.unfinished = True      # something of this slot may be prepared
        self.n = 0

    def work(self):
        """Operations, until it is told to end."""
        began, done = time.monotonic(), 0
        try:
            while not self.session.stopping:
                if self.session.connect() or self.unfinished:
                    self.finish_prepared()
                self.operate()
                done += 1
                ahead = began + done / self.pace - time.monotonic()
                if ahead > 0:
                    time.sleep(min(ahead, 0.2))
                elif ahead < -1:
                    began, done = time.monotonic(), 0
        except Stopped:
            pass

    def finish_prepared(self):
        """Ends what this slot has prepared before it was killed, or before it lost its connection."""
        # A session that was cut off may be about to end one of them.
        self.session.quiet = ('42704', '55000')
        try:
            for gid, in self.session.query('SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE %s',
                                           f'drill {self.slot} %'):
                self.session.query(('COMMIT' if self.random.random() < 0.5 else 'ROLLBACK') + f" PREPARED '{gid}'")
            self.unfinished = False
        except (Lost, Refused):
            self.unfinished = True
        self.session.quiet = ()

    def operate(self):
        """One operation: intent, attempt, outcome."""
        kind = self.random.choices(self.kinds, self.weights)[0]
        self.n += 1
        attempt, events = getattr(self, 'make_' + kind)(self.n)
        self.notes.add('I', self.n, kind, events)
        again = False
        while True:
            try:
                told = attempt()
                if told is None:
                    self.notes.add('R', self.n, 'undone')
                else:
                    self.notes.add('A', self.n, *(field for entry in told for field in entry))
                return
            except Refused as refused:
                # The first call may still be at work on a connection that this end has given up; that one
                # is refused, too, if the stream has moved on.
                sure = not again or refused.code in ('VE001', 'VE011')
                self.notes.add('R' if sure else 'U', self.n, refused.code)
                self.session.leave_block()
                return
            except Lost as lost:
                if kind not in self.IDS:
                    self.notes.add('U', self.n, lost)
                    return
                again = True
                # Before the pause of a connect nothing is said of the outcome: killed here, it is unknown.
                self.session.connect()
                self.finish_prepared()

    # ---- what is appended ----

    def element(self, n, i, kind, more=''):
        """An element of a batch, as JSON."""
        pad = 'x' * self.random.randrange(90)
        given = f', "event_id": "{event_id(self.key, n, i)}"' if kind in self.IDS else ''
        return f'{{"type": "T{kind}", "data": {self.data(n, i, kind, pad)}{given}{more}}}'

    def data(self, n, i, kind, pad=''):
        return f'{{"w": "{self.key}", "n": {n}, "i": {i}, "k": "{kind}", "v": {(n * 7 + i) % 100}, "pad": "{pad}"}}'

    def elements(self, n, count, kind):
        return '[' + ', '.join(self.element(n, i, kind) for i in range(count)) + ']'

    def order(self):
        """A stream that all writers share; a few of them get much."""
        return f'order-{int(self.streams * self.random.random() ** 3)}'

    def own(self):
        """A stream that nobody else writes to."""
        return f'mine-{self.key}-{self.random.randrange(20)}'

    def size(self):
        return 1 + self.random.randrange(2 * self.batch)

    # ---- kinds of operations: each gives what to call, and how many events it appends ----

    def make_s(self, n, stream=None):
        """one event, to any version"""
        stream = stream or self.order()
        data = self.data(n, 0, 's')
        return lambda: [(stream, *self.session.query(f'SELECT es_append(%s, %s, %s), {self.position}', stream, 'Ts', data)[0])], 1

    def make_i(self, n):
        """one event that an inline projection takes in"""
        return self.make_s(n, f'account-{self.random.randrange(50)}')

    def make_e(self, n):
        """some events, to an exact version"""
        stream, count = (self.own() if self.random.random() < 0.7 else self.order()), 1 + self.random.randrange(3)
        events, expected = self.elements(n, count, 'e'), []

        def attempt():
            # A repeated call is the same call: it expects what the first one did.
            if not expected:
                expected.append(self.known.get(stream) if stream in self.known
                                else self.session.query('SELECT es_stream_version(%s)', stream)[0][0])
            try:
                version, position = self.session.query(f'SELECT es_append_batch(%s, %s, %s), {self.position}',
                                                       stream, events, expected[0])[0]
            except Refused:
                self.known.pop(stream, None)
                raise
            if stream.startswith('mine'):
                self.known[stream] = version
            return [(stream, version, position)]
        return attempt, count

    def make_b(self, n):
        """a batch, to any version"""
        stream, count = (self.own() if self.random.random() < 0.5 else self.order()), self.size()
        events = self.elements(n, count, 'b')
        self.known.pop(stream, None)
        return lambda: [(stream, *self.session.query(f'SELECT es_append_batch(%s, %s), {self.position}', stream, events)[0])], count

    def make_m(self, n):
        """many streams in one call"""
        count = max(2, min(self.size(), 100))
        # Those of a router's call share a slot.
        group = self.random.randrange(40)
        streams = [f'order-{{{group}}}-{self.random.randrange(5)}' if self.routed else self.order() for _ in range(count)]
        events = '[' + ', '.join(self.element(n, i, 'm', f', "stream": "{stream}"') for i, stream in enumerate(streams)) + ']'

        def attempt():
            last = {}
            for stream, version, position in self.session.query('SELECT stream, version, position FROM es_append_many(%s)', events):
                last[stream] = (version, '-' if self.routed else position)
            return [(stream, *last[stream]) for stream in last]
        return attempt, count

    def make_c(self, n):
        """a claim: a name that nobody else may have"""
        name = f'name:{self.random.randrange(100000)}'
        events = '[' + self.element(n, 0, 'c', f', "stream": "claim-{self.key}", "tags": ["{name}"]') + ']'
        return lambda: [('-', '-', self.session.query('SELECT es_append_if(%s, 0, tags => %s)', events, [name])[0][0])], 1

    def make_r(self, n):
        """a transaction that is rolled back"""
        stream, events = self.order(), self.elements(n, 2, 'r')

        def attempt():
            self.session.query('BEGIN')
            self.session.query('SELECT es_append_batch(%s, %s)', stream, events)
            try:
                self.session.query('ROLLBACK')
            except Lost:
                pass
        return attempt, 0

    def make_x(self, n):
        """a transaction of several appends, one of which is undone"""
        first, second, count = self.order(), self.own(), self.size()
        self.known.pop(second, None)
        events = '[' + ', '.join(self.element(n, i, 'x') for i in range(1, count + 1)) + ']'
        undone = self.element(n, 0, 'r')
        isolation = self.random.choice(('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ'))

        def attempt():
            self.session.query('BEGIN ISOLATION LEVEL ' + isolation)
            told = [(first, *self.session.query('SELECT es_append(%s, %s, %s), es_last_position()', first, 'Tx', self.data(n, 0, 'x'))[0])]
            self.session.query('SAVEPOINT s')
            self.session.query('SELECT es_append_batch(%s, %s)', second, f'[{undone}]')
            self.session.query('ROLLBACK TO s')
            told.append((second, *self.session.query('SELECT es_append_batch(%s, %s), es_last_position()', second, events)[0]))
            self.session.query('COMMIT')
            return told
        return attempt, count + 1

    def make_p(self, n):
        """a transaction that is prepared, and then committed or not"""
        stream, gid = self.own(), f'drill {self.slot} {self.key} {n}'
        events, commits = self.elements(n, 2, 'p'), self.random.random() < 0.7
        self.known.pop(stream, None)

        def attempt():
            self.session.query('BEGIN')
            told = [(stream, *self.session.query('SELECT es_append_batch(%s, %s), es_last_position()', stream, events)[0])]
            self.session.query(f"PREPARE TRANSACTION '{gid}'")
            if self.random.random() < 0.1:
                time.sleep(0.05)
            # It is on disk now, so it must be there until it is ended, whatever happens.
            again = False
            while not self.end_prepared(gid, commits, again):
                again = True
                self.session.connect()
            return told if commits else None
        return attempt, 2 if commits else 0

    def end_prepared(self, gid, commits, again):
        """Whether it is known to have ended."""
        self.session.quiet = ('42704', '55000') if again else ()
        try:
            self.session.query(('COMMIT' if commits else 'ROLLBACK') + f" PREPARED '{gid}'")
            return True
        except Refused as refused:
            if again and refused.code == '42704':
                return True
            if refused.code == '42704' or self.session.stopping:
                self.unfinished = True
                raise Lost('prepared') from refused
            time.sleep(0.01)    # no memory, no disk: it stays prepared
            return False
        except Lost:
            return False
        finally:
            self.session.quiet = ()

    def make_y(self, n):
        """COPY of rows of several streams"""
        count = 3 * self.size()
        streams = sorted(self.own() for _ in range(count))
        for stream in streams:
            self.known.pop(stream, None)
        rows = ''.join(f'{stream}\tTy\t{self.data(n, i, "y")}\n' for i, stream in enumerate(streams))

        def attempt():
            try:
                self.session.run(lambda cursor: cursor.copy_expert('COPY es_events (stream, type, data) FROM STDIN', io.StringIO(rows)))
            except Refused:
                # A server that has no memory to read the rows that are still on their way answers each with an error
                # of its own, and this end would take that for the answer to its next statement.
                self.session.drop()
                raise
            return []
        return attempt, count


class Follower:
    """Follows the log, as the manual has it, and notes position and digest of each event as two
    integers of eight bytes; a digest of 0 says that all up to this position was passed."""

    PAGE = 2000

    def __init__(self, options):
        self.category = options.category
        self.session = Session(options.dir, 'follower ' + options.name)
        self.notes = Notes(options.dir, f'f-{options.name}.bin')
        size = os.fstat(self.notes.file).st_size // 16 * 16
        os.ftruncate(self.notes.file, size)     # killed within a write
        self.at = struct.unpack('>q', os.pread(self.notes.file, 8, size - 16))[0] if size else 0

    def work(self):
        settled = 0
        try:
            while not self.session.stopping:
                self.session.connect()
                try:
                    count, settled = self.take_page(settled)
                    if count == 0:
                        self.session.query("SELECT es_wait(%s, '1s')", max(self.at, settled))
                except (Lost, Refused):
                    settled = 0
        except Stopped:
            pass

    def take_page(self, settled):
        """Reads and notes a page; how many events, and what is settled."""
        where = 'categories => ARRAY[%s], ' if self.category else ''
        arguments = [self.at, self.at, self.PAGE] + ([self.category] if self.category else [])
        passed, count, notes, last = self.session.query(
            "SELECT max(s), count(e.position), string_agg(int8send(e.position) || int8send(" + DIGEST.format('e') + "), ''), max(e.position) "
            f"FROM greatest(%s, es_settled_position()) s LEFT JOIN es_read_all(%s, %s, {where}to_position => s) e ON true", *arguments)[0]
        if count:
            os.write(self.notes.file, bytes(notes))
            self.at = last
        if self.category and count < self.PAGE and passed > self.at:
            os.write(self.notes.file, struct.pack('>qq', passed, 0))
            self.at = passed
        return count, max(settled, passed)


class Consumer:
    """A member of a subscription.  Its work is a row for each partition of each delivery, in the
    transaction of the acknowledgement, which sums up what it was delivered."""

    SUMS = ('SELECT partition, min(position) AS first, max(position) AS last, count(*) AS events, sum(position) AS total, bit_xor('
            + DIGEST.format('d') + ') AS digest FROM es_poll(%s, %s, member => %s, lease => %s) d GROUP BY partition')

    def __init__(self, options):
        self.subscription, self.member = options.subscription, options.member
        self.session = Session(options.dir, f'member {options.subscription} {options.member}')
        self.random = random.Random()

    def work(self):
        try:
            while not self.session.stopping:
                self.session.connect()
                try:
                    turn = self.take_at_once if self.random.random() < 0.7 else self.take_in_two
                    if not turn():
                        self.session.query("CALL es_poll_wait(%s, '1s', member => %s)", self.subscription, self.member)
                except Refused:
                    self.session.leave_block()
                except Lost:
                    pass
        except Stopped:
            pass

    def poll_arguments(self):
        return [self.subscription, self.random.choice((10, 500, 2000)), self.member, '3s']

    def take_at_once(self):
        """Delivery, work and acknowledgement in one transaction."""
        self.session.query('BEGIN')
        rows = self.session.query(
            'WITH sums AS MATERIALIZED (' + self.SUMS + '), work AS (INSERT INTO drill.deliveries (subscription, partition, first, last, events, '
            'total, digest, member) SELECT %s, s.*, %s FROM sums s) SELECT es_ack(%s, partition, last, %s) FROM sums',
            *self.poll_arguments(), self.subscription, self.member, self.subscription, self.member)
        self.session.query('COMMIT')
        return len(rows)

    def take_in_two(self):
        """Delivery first; work and acknowledgement in a transaction of their own, which is fenced off if
        somebody else has the partition by then."""
        rows = self.session.query(self.SUMS, *self.poll_arguments())
        for row in rows:
            try:
                self.session.query('BEGIN')
                self.session.query('INSERT INTO drill.deliveries (subscription, partition, first, last, events, total, digest, member) '
                                   'VALUES (%s, %s, %s, %s, %s, %s, %s, %s)', self.subscription, *row, self.member)
                self.session.query('SELECT es_ack(%s, %s, %s, %s)', self.subscription, row[0], row[2], self.member)
                self.session.query('COMMIT')
            except Refused:
                self.session.leave_block()
        return len(rows)


class Feed:
    """Runs esfeed.  Whatever ends this program ends esfeed, too: a kill -9 is one of both."""

    DIE_WITH_PARENT = 1     # PR_SET_PDEATHSIG

    def __init__(self, options):
        self.arguments, self.child, self.stopping = options.arguments, None, False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def stop(self, *_):
        self.stopping = True
        if self.child:
            self.child.terminate()

    def die_with_parent(self):
        ctypes.CDLL(None).prctl(self.DIE_WITH_PARENT, signal.SIGKILL)

    def work(self):
        while not self.stopping:
            self.child = subprocess.Popen(['esfeed', *self.arguments], preexec_fn=self.die_with_parent)
            if self.stopping:
                self.child.terminate()
            self.child.wait()
            if not self.stopping:
                time.sleep(0.2)


class Onlooker:
    """Seals, verifies, and compares states of streams with their events, at random."""

    def __init__(self, options):
        self.session = Session(options.dir, 'onlooker')
        self.notes = Notes(options.dir, f'l-{os.urandom(4).hex()}.log')
        self.random = random.Random()
        self.sealed = 1
        self.pause = options.pause

    def work(self):
        try:
            while not self.session.stopping:
                self.session.connect()
                try:
                    self.session.query('SELECT es_seal()')
                    self.verify()
                    for _ in range(3):
                        self.compare_state(f'order-{int(1000 * self.random.random() ** 3)}')
                    self.session.query('SELECT es_settle()')
                    self.session.query(BY_HAND)
                except (Lost, Refused):
                    pass
                time.sleep(self.pause)
        except Stopped:
            pass

    def verify(self):
        """What was sealed since the last time."""
        last, = self.session.query('SELECT coalesce(max(position), 0) FROM es_seals')[0]
        for row in self.session.query('SELECT position, problem FROM es_verify(%s, %s)', min(self.sealed, last or 1), last):
            self.notes.add('verify', *row)
        self.sealed = max(1, last - 1000)

    def compare_state(self, stream):
        """A stream's state is the fold of its events."""
        for row in self.session.query(
                "SELECT e.n, e.sum, e.last, r.version, r.state FROM (SELECT count(*) AS n, coalesce(sum((data ->> 'v')::bigint), 0) AS sum, "
                "coalesce(max(version), 0) AS last FROM es_events WHERE stream = %s) e, es_replay(%s, 'tally') r "
                "WHERE e.n > 0 AND r.version = e.last AND r.state IS DISTINCT FROM jsonb_build_object('n', e.n, 'sum', e.sum) OR e.n <> e.last",
                stream, stream):
            self.notes.add('state', stream, *row)
        if self.random.random() < 0.2:
            self.session.query("SELECT es_snapshot(%s, 'tally')", stream)


def set_up(options):
    """Makes the store and what follows it."""
    session = Session(options.dir, 'setup')
    session.connect()
    session.query('CREATE EXTENSION IF NOT EXISTS eventstore')
    if options.segment_size:
        session.query('SELECT es_set_segment_size(%s)', options.segment_size)
    session.query(SETUP)
    session.query("SELECT es_subscribe('everything', 0, partitions => %s, max_attempts => NULL)", options.partitions)


def main():
    parser = argparse.ArgumentParser(description='a program of a scene')
    parser.add_argument('dir')
    commands = parser.add_subparsers(dest='command', required=True)
    setup = commands.add_parser('setup')
    setup.add_argument('--segment-size', type=int)
    setup.add_argument('--partitions', type=int, default=4)
    write = commands.add_parser('write')
    write.add_argument('--slot', type=int, required=True)
    write.add_argument('--seed', type=int)
    write.add_argument('--pace', type=float, default=100)
    write.add_argument('--batch', type=int, default=10)
    write.add_argument('--streams', type=int, default=300)
    write.add_argument('--mix')
    write.add_argument('--routed', action='store_true')
    follow = commands.add_parser('follow')
    follow.add_argument('--name', required=True)
    follow.add_argument('--category')
    consume = commands.add_parser('consume')
    consume.add_argument('--subscription', required=True)
    consume.add_argument('--member', required=True)
    feed = commands.add_parser('feed')
    feed.add_argument('arguments', nargs='*')
    look = commands.add_parser('look')
    look.add_argument('--pause', type=float, default=0.5)
    options = parser.parse_args()

    os.makedirs(os.path.join(options.dir, 'log'), exist_ok=True)
    programs = {'write': Writer, 'follow': Follower, 'consume': Consumer, 'look': Onlooker, 'feed': Feed}
    if options.command == 'setup':
        set_up(options)
    else:
        programs[options.command](options).work()


if __name__ == '__main__':
    main()
