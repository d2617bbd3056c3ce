"""Holds what a scene's programs have noted (scene.py) against the log.

	scene_check.py DIR [--lossy] [--promoted] [--early] [--allow SQLSTATES]

for a scene whose writers have ended, and whose other programs still run: they are given time to
catch up.  It prints a line "finding: …" for each thing that is not as promised, and one line
"summary: …".  A program that goes on, such as the soak run, keeps a Check and calls look() now and
then, which costs what came since, and finish() at the end, which reads the whole log once more.

What is promised:

	acknowledged	all its events are there, at the versions and positions that were told, with
			their ids; with --lossy (an asynchronous standby was promoted) they may be gone, and
			are counted
	refused		none is there
	unknown		all or none
	streams		versions are 1, 2, 3, … in order of position
	followers	have every event up to where they are, once, in order, as it is in the log; with --early
			(a primary whose commits waited for a standby crashed, or gave up waiting, and lost its
			place afterwards) they may have some that are lost besides
	subscriptions	work and acknowledgement are one transaction: every event once
	read models	equal to a fold of the log
	feed		a file of esfeed: every event once, streams in order; with --lossy, and with --promoted (a
			synchronous standby was, for which walsenders of feeds do not wait), it may have some
			that are lost besides
	seals		es_verify has no row
	claims		no two events with one tag that es_append_if guards
	rereading	whatever was read once is there, and the same
"""
import argparse
import array
import collections
import glob
import io
import os
import re
import struct
import time

import psycopg2

from scene import BY_HAND, DIGEST, USUAL, event_id

PAGE = 50000
ORDER, ACCOUNT = 1, 2      # what followers and read models ask for
CATEGORIES = {'order': ORDER, 'account': ACCOUNT}
# What notes moves of slots (scaleout/) has no number and no value.
COLUMNS = ("e.position, e.stream, e.version, " + DIGEST.format('e') + ", e.event_id, e.data ->> 'w', coalesce(e.data ->> 'n', '0'), e.data ->> 'i', "
           "e.data ->> 'k', coalesce(e.data ->> 'v', '0'), e.metadata -> 'tags' ->> 0")


class Operation:
    """what the log has of a writer's operation"""
    __slots__ = ('events', 'last', 'streams')

    def __init__(self):
        self.events, self.last, self.streams = 0, 0, {}


class Log:
    """The log as it was read: of each position the event's digest, 0 for a hole, half of its id, and
    its category."""

    def __init__(self):
        self.at = 0
        self.digests, self.ids, self.categories = array.array('q', [0]), array.array('Q', [0]), bytearray(1)
        self.events = 0

    def add(self, position, digest, uuid, stream):
        grow = position + 1 - len(self.digests)
        if grow > 0:
            self.digests.extend([0] * grow)
            self.ids.extend([0] * grow)
            self.categories.extend(bytes(grow))
        self.digests[position] = digest
        self.ids[position] = int(uuid[19:23] + uuid[24:], 16)
        self.categories[position] = CATEGORIES.get(stream.split('-', 1)[0], 0)
        self.events += 1

    def count(self, after, upto, category):
        """Events between two positions."""
        if category:
            return self.categories.count(category, after + 1, upto + 1)
        return sum(1 for digest in self.digests[after + 1:upto + 1] if digest)

    def last(self):
        """The position of the last event."""
        return next((p for p in range(len(self.digests) - 1, 0, -1) if self.digests[p]), 0)


class Tail:
    """What is new in a file of lines."""

    def __init__(self, path):
        self.path, self.offset = path, 0

    def lines(self):
        with open(self.path, 'rb') as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b'\n'):
                    break
                self.offset += len(line)
                yield line[:-1].decode()


class Check:
    """All that is known of a scene; see above."""

    def __init__(self, directory, lossy=False, promoted=False, allow=(), patience=120):
        self.directory, self.lossy, self.patience = directory, lossy, patience
        # After any promotion a feed may have brought what was not acknowledged yet, and is not there now.
        self.promoted = lossy or promoted
        self.early = False
        self.allowed = set(USUAL) | set(allow) | {'VE007'}
        self.findings = []
        self.log = Log()
        self.streams = {}                   # stream: [version, sum of v]
        self.operations = {}                # (writer, n): Operation, of which no outcome is known yet
        self.outcomes = {}                  # (writer, n): [what, kind, events, told], not yet held against the log
        self.never = {}                     # (writer, n): why it must not be there
        self.claims = {}
        self.tails, self.followers = {}, {}
        self.feed_seen, self.feed_versions, self.feed_waiting = bytearray(), {}, {}
        self.counts = collections.Counter()
        self.errors = collections.Counter()

    def find(self, text):
        """Notes a finding; a thousand of one kind are enough."""
        if len(self.findings) < 1000:
            self.findings.append(text)

    def connect(self):
        """A connection of its own for each look."""
        deadline = time.monotonic() + self.patience
        while True:
            with open(os.path.join(self.directory, 'dsn'), encoding='utf-8') as file:
                dsn = file.read().strip()
            try:
                connection = psycopg2.connect(dsn, application_name='scene check', options='-c TimeZone=UTC')
                connection.autocommit = True
                return connection
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    # ---- the log ----

    def read_log(self, connection, after, take, passed=lambda position: None, where=''):
        """Calls take for the fields of each event after a position, up to what is settled, that a condition lets
        pass, and passed for where it is, after each page; returns that in the end."""
        with connection.cursor() as cursor:
            cursor.execute('SELECT es_settled_position()')
            settled, = cursor.fetchone()
            while after < settled:
                upto = min(after + PAGE, settled)
                text = io.BytesIO()
                cursor.copy_expert(f'COPY (SELECT {COLUMNS} FROM es_events e WHERE position > {after} AND position <= {upto}{where} '
                                   'ORDER BY position) TO STDOUT', text)
                for line in text.getvalue().decode().splitlines():
                    take(line.split('\t'))
                after = upto
                passed(after)
        return after

    def pass_position(self, position):
        """The log is read up to there, whatever becomes of the connection."""
        self.log.at = position

    def take_event(self, fields):
        """An event that is new."""
        position, stream, version, digest, uuid, writer, n, i, kind, value, tag = fields
        position, version, n = int(position), int(version), int(n)
        self.log.add(position, int(digest), uuid, stream)
        known = self.streams.setdefault(stream, [0, 0])
        if version != known[0] + 1:
            self.find(f'stream {stream}: version {version} at position {position} follows {known[0]}')
        known[0] = version
        known[1] += int(value)
        operation = self.operations.setdefault((writer, n), Operation())
        operation.events += 1
        operation.last = position
        operation.streams[stream] = (version, position)
        if kind in 'ebmc' and uuid != event_id(writer, n, i):
            self.find(f'position {position}: its id is not the one that was given')
        if (writer, n) in self.never:
            self.find(f'position {position}: {self.never[(writer, n)]}, and is there')
        if kind == 'r':
            self.find(f'position {position}: it was rolled back, and is there')
        if kind == 'c':
            if tag in self.claims:
                self.find(f'position {position}: {tag} was claimed at position {self.claims[tag]}')
            self.claims[tag] = position

    # ---- writers ----

    def read_outcomes(self):
        """What writers have noted since the last time."""
        for path in glob.glob(os.path.join(self.directory, 'log', 'w-*.log')):
            writer = os.path.basename(path)[2:-4]
            for line in self.tails.setdefault(path, Tail(path)).lines():
                what, n, *more = line.split('\t')
                key = (writer, int(n))
                if what == 'I':
                    self.outcomes[key] = ['?', more[0], int(more[1]), []]
                elif key in self.outcomes:
                    self.outcomes[key][0] = what
                    self.outcomes[key][3] = more
                    self.counts[what] += 1

    def judge_outcomes(self, settled, final):
        """Holds against the log what can be by now."""
        for key, (what, kind, events, told) in list(self.outcomes.items()):
            operation = self.operations.get(key)
            there = operation.events if operation else 0
            if what == 'A':
                places = [told[k:k + 3] for k in range(0, len(told), 3)]
                if not final and (any(int(place[2]) > settled for place in places) or not places and there < events):
                    continue
                self.judge_acknowledged(key, kind, events, places, operation)
            elif what == 'R':
                self.never[key] = f'operation {key[0]}/{key[1]} ({kind}) was refused ({told[0]})'
                if there:
                    self.find(f'{self.never[key]}, and {there} of its events are there')
            elif not final:
                continue
            elif there not in ((0, 2) if kind == 'p' else (0, events)):
                self.find(f'operation {key[0]}/{key[1]} ({kind}), of unknown outcome: {there} of {events} events are there')
            else:
                self.counts['unknown, there' if there else 'unknown, not there'] += 1
            del self.outcomes[key]
            self.operations.pop(key, None)

    def judge_acknowledged(self, key, kind, events, places, operation):
        """Whether what was acknowledged is there, where it was said to be."""
        name = f'operation {key[0]}/{key[1]} ({kind})'
        there = operation.events if operation else 0
        if there == 0 and self.lossy:
            self.counts['lost'] += events
            return
        if there != events:
            self.find(f'{name} was acknowledged with {events} events, {there} are there')
            return
        for stream, version, position in places:
            if position == '-':
                # By a router: versions alone.
                if operation.streams.get(stream, (0,))[0] != int(version):
                    self.find(f'{name} was told version {version} of {stream}, which has {operation.streams.get(stream)}')
            elif stream == '-':
                if operation.last != int(position):
                    self.find(f'{name} was told position {position}, and is at {operation.last}')
            elif operation.streams.get(stream) != (int(version), int(position)):
                self.find(f'{name} was told version {version} at {position} of {stream}, which has {operation.streams.get(stream)}')
        self.counts['acknowledged events'] += events

    # ---- followers ----

    def read_followers(self):
        """What followers have noted since the last time, as far as the log was read."""
        for path in sorted(glob.glob(os.path.join(self.directory, 'log', 'f-*.bin'))):
            name = os.path.basename(path)[2:-4]
            category = CATEGORIES.get(name.split('@')[-1], 0) if '@' in name else 0
            known = self.followers.setdefault(name, {'offset': 0, 'at': 0, 'passed': 0, 'category': category})
            with open(path, 'rb') as file:
                file.seek(known['offset'])
                notes = file.read()
            self.judge_follower(name, known, memoryview(notes)[:len(notes) // 16 * 16])

    def judge_follower(self, name, known, notes):
        """Events in order, once, as they are in the log, and none left out."""
        log, at, start, count, used = self.log, known['at'], known['at'], 0, 0
        upto = at
        for position, digest in struct.iter_unpack('>qq', notes):
            if position > log.at:
                break
            used += 16
            if digest == 0:
                upto = max(upto, position)
                continue
            if position <= at:
                self.find(f'follower {name}: position {position} comes after {at}')
                continue
            at, upto = position, max(upto, position)
            stored = log.digests[position] if position < len(log.digests) else 0
            if stored == digest:
                count += 1
            elif stored or not (self.lossy or self.early):
                self.find(f'follower {name}: the event at position {position} is another one in the log' if stored else
                          f'follower {name}: the event at position {position} is not in the log')
            else:
                self.counts['seen, and lost'] += 1
        upto = min(upto, len(log.digests) - 1)
        expected = log.count(start, at, known['category']) if at > start else 0
        skipped = log.count(at, upto, known['category']) if upto > at else 0
        if count != expected or skipped:
            self.find(f'follower {name}: {count} events up to position {at}, of {expected} and {skipped} that it passed')
        known.update(offset=known['offset'] + used, at=max(at, upto), passed=known['passed'] + count)
        self.counts[f'follower {name}'] = known['passed']

    # ---- a feed ----

    FEED_LINE = re.compile(r'\{"position":\s*(\d+),\s*"stream":\s*"([^"]+)",\s*"version":\s*(\d+),.*"event_id":\s*"([0-9a-f-]{36})"')

    def read_feed(self):
        """What a file of esfeed has got since the last time."""
        path = os.path.join(self.directory, 'feed')
        if not os.path.exists(path):
            return
        for line in self.tails.setdefault(path, Tail(path)).lines():
            match = self.FEED_LINE.match(line)
            if not match:
                self.find(f'feed: no message: {line[:100]}')
                continue
            position, stream, version = int(match[1]), match[2], int(match[3])
            self.counts['feed'] += 1
            if position >= len(self.feed_seen):
                self.feed_seen.extend(bytes(position + 100000 - len(self.feed_seen)))
            if self.feed_seen[position]:
                self.find(f'feed: position {position} comes twice')
            self.feed_seen[position] = 1
            self.feed_waiting[position] = (stream, version, int(match[4][19:23] + match[4][24:], 16))
        for position in [p for p in self.feed_waiting if p <= self.log.at]:
            self.judge_sent(position, *self.feed_waiting.pop(position))

    def judge_sent(self, position, stream, version, uuid):
        """Holds what a feed has sent against the log; what is lost has no place in its stream."""
        stored = self.log.ids[position] if position < len(self.log.ids) else 0
        if stored == uuid:
            if version != self.feed_versions.get(stream, 0) + 1:
                self.find(f'feed: {stream} version {version} comes after {self.feed_versions.get(stream, 0)}')
            self.feed_versions[stream] = version
        elif stored or not self.promoted:
            self.find(f'feed: the event at position {position} is not that of the log')
        else:
            self.counts['sent, and lost'] += 1

    def feed_lacks(self):
        """The first position that a feed has not brought."""
        if os.path.exists(os.path.join(self.directory, 'feed')):
            digests, seen = self.log.digests, self.feed_seen
            for position in range(1, len(digests)):
                if digests[position] and not (position < len(seen) and seen[position]):
                    return position
        return None

    # ---- read models and subscriptions ----

    def judge_models(self, cursor):
        """Read models, streams and subscriptions of a scene at rest."""
        cursor.execute('SELECT stream, version FROM es_streams')
        if dict(cursor.fetchall()) != {stream: known[0] for stream, known in self.streams.items()}:
            self.find('es_streams has other versions than the log')
        for projection, prefix in (('totals', ''), ('balances', 'account-')):
            cursor.execute("SELECT key, version, (state ->> 'n')::bigint, coalesce((state ->> 'sum')::bigint, 0) FROM es_projection(%s)", [projection])
            wanted = {(stream, known[0], known[0], known[1]) for stream, known in self.streams.items() if stream.startswith(prefix)}
            for row in sorted(wanted ^ set(cursor.fetchall()))[:5]:
                self.find(f'projection {projection}: {row} is ' + ('missing' if row in wanted else 'wrong'))
        cursor.execute('SELECT (SELECT count(*) FROM drill.ledger), count(*), (SELECT count(*) FROM drill.ledger l JOIN es_events e USING (position, stream) '
                       "WHERE amount = (data ->> 'v')::bigint) FROM es_events WHERE stream LIKE 'account-%'")
        if len(set(row := cursor.fetchone())) != 1:
            self.find(f'handler projection ledger: {row[0]} rows for {row[1]} events, {row[2]} of them right')

    def judge_subscriptions(self, cursor):
        """Every event once, by number, sum of positions, and digests."""
        for subscription, category in (('everything', 0), ('orders', ORDER)):
            cursor.execute('SELECT coalesce(sum(events), 0), coalesce(sum(total), 0), coalesce(bit_xor(digest), 0) FROM drill.deliveries WHERE subscription = %s',
                           [subscription])
            done = tuple(int(number) for number in cursor.fetchone())
            events = total = digest = 0
            for position, stored in enumerate(self.log.digests):
                if stored and (not category or self.log.categories[position] == category):
                    events, total, digest = events + 1, total + position, digest ^ stored
            if done != (events, total, digest):
                self.find(f'subscription {subscription}: {done} done, {(events, total, digest)} to do')
            cursor.execute('SELECT partition, first, before FROM (SELECT *, lag(last) OVER (PARTITION BY partition ORDER BY first, last) AS before '
                           'FROM drill.deliveries WHERE subscription = %s) d WHERE before >= first LIMIT 5', [subscription])
            for partition, first, before in cursor.fetchall():
                self.find(f'subscription {subscription}: partition {partition} was done from {first} on, and before up to {before}')
            self.counts[f'subscription {subscription}'] = done[0]
            cursor.execute('SELECT count(*) FROM es_parked(%s)', [subscription])
            if cursor.fetchone()[0]:
                self.find(f'subscription {subscription} has parked events')

    def read_reports(self):
        """What programs have met that they did not expect."""
        for path in glob.glob(os.path.join(self.directory, 'log', '*.err')):
            for line in self.tails.setdefault(path, Tail(path)).lines():
                code, message = line.split('\t', 1)
                if code == 'XX000' and 'failed to initialize hash table' in message:
                    code = '53200'  # what the server says where a hash table finds no memory
                self.errors[code] += 1
                if code not in self.allowed:
                    self.find(f'{os.path.basename(path)[:-4]}: {code} {message[:200]}')
        for path in glob.glob(os.path.join(self.directory, 'log', 'l-*.log')):
            for line in self.tails.setdefault(path, Tail(path)).lines():
                self.find('onlooker: ' + line.replace('\t', ' '))

    # ---- a look, and the end ----

    def look(self, final=False):
        """Reads on, and judges what can be judged while the scene goes on; how many findings there are."""
        self.read_outcomes()
        connection = self.connect()
        try:
            self.read_log(connection, self.log.at, self.take_event, self.pass_position)
        finally:
            connection.close()
        self.judge_outcomes(self.log.at, final)
        self.read_followers()
        self.read_feed()
        self.read_reports()
        return len(self.findings)

    def finish(self):
        """The full check of a scene whose writers have ended."""
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE 'drill %'")
            for gid, in cursor.fetchall():
                cursor.execute(f"ROLLBACK PREPARED '{gid}'")
            self.look(final=True)
            self.wait_all(cursor)
            self.judge_models(cursor)
            self.judge_subscriptions(cursor)
            self.read_again(connection)
            cursor.execute('SELECT es_seal()')
            cursor.execute('SELECT position, problem FROM es_verify()')
            for row in cursor.fetchall():
                self.find(f'es_verify: {row[0]} {row[1]}')
        connection.close()
        self.read_reports()
        return len(self.findings)

    def wait_all(self, cursor):
        """Waits until all have caught up; who does not is a finding."""
        def followers():
            self.read_followers()
            last = self.log.last()
            return [f'follower {name} stays at {known["at"]} of {last}' for name, known in self.followers.items()
                    if known['at'] < last and (not known['category'] or self.log.count(known['at'], last, known['category']))]

        def subscriptions():
            cursor.execute('SELECT subscription, sum(lag) FROM es_subscriptions GROUP BY 1 HAVING sum(lag) > 0')
            return [f'subscription {name} stays {lag} behind' for name, lag in cursor.fetchall()]

        def projections():
            cursor.execute(BY_HAND)
            cursor.execute("SELECT projection, lag, status, error FROM es_projections WHERE lag > 0 OR status = 'failed'")
            return [f'projection {row[0]} stays {row[1]} behind, {row[2]}: {row[3]}' for row in cursor.fetchall()]

        def feed():
            self.read_feed()
            lacks = self.feed_lacks()
            return [] if lacks is None else [f'the feed does not bring position {lacks}']

        self.wait_for(followers, subscriptions, projections, feed)

    def wait_for(self, *whats):
        """Waits until each has nothing more to tell."""
        deadline = time.monotonic() + self.patience
        for what in whats:
            while (behind := what()) and time.monotonic() < deadline:
                time.sleep(0.1)
            self.findings.extend(behind)

    def read_again(self, connection):
        """The whole log once more: nothing may have changed."""
        log, count = self.log, 0

        def compare(fields):
            nonlocal count
            count += 1
            position = int(fields[0])
            if position <= log.at and log.digests[position] != int(fields[3]):
                self.find(f'position {position}: the event is not the one that it was')

        self.read_log(connection, 0, compare)
        if count != log.events:
            self.find(f'the log has {count} events, and had {log.events}')

    def summary(self):
        """In one line."""
        parts = [f'{self.log.events} events in {len(self.streams)} streams']
        parts += [f'{name}: {count}' for name, count in sorted(self.counts.items())]
        parts += [f'errors {code}: {count}' for code, count in sorted(self.errors.items())]
        return ', '.join(parts)


def print_check(check):
    """Runs a check to its end, and prints what came of it."""
    check.finish()
    for finding in check.findings[:100]:
        print('finding:', finding)
    print('summary:', check.summary())


def main():
    parser = argparse.ArgumentParser(description='check of a scene')
    parser.add_argument('dir')
    parser.add_argument('--lossy', action='store_true')
    parser.add_argument('--promoted', action='store_true')
    parser.add_argument('--early', action='store_true')
    parser.add_argument('--allow', default='')
    parser.add_argument('--patience', type=float, default=120)
    options = parser.parse_args()
    check = Check(options.dir, options.lossy, options.promoted, [code for code in options.allow.split(',') if code], options.patience)
    check.early = options.early
    print_check(check)


if __name__ == '__main__':
    main()
