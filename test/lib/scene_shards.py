"""A scene of shards behind a router: who follows them all, and the check.

	scene_shards.py DIR follow --name NAME [--page EVENTS]
	scene_shards.py DIR check [--allow SQLSTATES]

DIR is the scene whose programs go through the router; DIR/shard0, DIR/shard1 and so on are scenes of
the shards, without writers.  Each shard's is checked as that of any store, by all of its log, in which
what came with slots is, too (scene_check.py).  What the writers were told, and who follows all shards, are
held against the events that each shard has of its own, one shard after the other:

	acknowledged, refused, unknown, streams		as in a store: slots only move to shards of higher numbers, so
			a stream's events come in order of version
	followers	have every event of each shard up to where they are, once, in the shard's order, and each
			stream's in order of version, over all shards
	reading		through the router each stream has all of its events, wherever it is
"""
import argparse
import glob
import os
import struct
import time

from scene import DIGEST, Lost, Notes, Refused, Session, Stopped
from scene_check import Check, print_check


class ShardsFollower:
    """Follows all shards through a router, and notes shard, position, and digest of each event as three
    integers of eight bytes; a digest of 0 says that all of the shard up to there was passed.  What it
    was given at once it notes at once, so the last notes of each shard are the vector."""

    def __init__(self, options):
        self.page = options.page
        self.session = Session(options.dir, 'follower ' + options.name)
        self.notes = Notes(options.dir, f's-{options.name}.bin')
        size = os.fstat(self.notes.file).st_size // 24 * 24
        os.ftruncate(self.notes.file, size)     # killed within a write
        self.vector = {shard: position for shard, position, _ in struct.iter_unpack('>qqq', os.pread(self.notes.file, size, 0))}

    def work(self):
        try:
            while not self.session.stopping:
                self.session.connect()
                try:
                    if not self.take_page():
                        time.sleep(0.05)
                except (Lost, Refused):
                    pass
        except Stopped:
            pass

    def take_page(self):
        """Reads and notes what follows; whether there was anything."""
        vector = [self.vector.get(shard, 0) for shard in range(max(self.vector, default=-1) + 1)]
        *events, (_, _, _, reached) = self.session.query(
            'SELECT e.shard, e.position, ' + DIGEST.format('e') + ', CASE WHEN e.stream IS NULL THEN e.vector END '
            'FROM es_read_shards(%s::bigint[], %s) e', vector, self.page)
        passed = [(shard, position, 0) for shard, position in enumerate(reached) if position > self.vector.get(shard, 0)]
        os.write(self.notes.file, b''.join(struct.pack('>qqq', *note[:3]) for note in events + passed))
        self.vector.update(enumerate(reached))
        return passed


class ShardsCheck(Check):
    """What went through a router.  The shards' logs are read as one: an event's position is its shard's
    base and its position there."""

    OWN = " AND e.stream <> 'scaleout-moves' AND NOT scaleout.is_copy(e.stream, e.position)"

    def __init__(self, directory, allow, patience):
        super().__init__(directory, allow=allow, patience=patience)
        folders = sorted(glob.glob(os.path.join(directory, 'shard*')))
        self.shards = [Check(folder, allow=allow, patience=patience) for folder in folders]
        self.bases, self.base = [], 0
        self.places = {}                    # position: (stream, version)
        self.orders = {}                    # follower: {stream: version}

    def take_event(self, fields):
        position = self.base + int(fields[0])
        self.places[position] = (fields[1], int(fields[2]))
        super().take_event([position, *fields[1:]])

    def read_shards(self):
        """The shards' own events."""
        for shard in self.shards:
            self.bases.append(self.base)
            connection = shard.connect()
            self.base += self.read_log(connection, 0, self.take_event, where=self.OWN)
            connection.close()
        self.log.at = self.base

    def judge_order(self, name, notes):
        """Each stream's events in order, whatever shard they come from; they are read, and so in the log."""
        order = self.orders.setdefault(name, {})
        for position, digest in notes:
            if digest and position in self.places:
                stream, version = self.places[position]
                if version != order.get(stream, 0) + 1:
                    self.find(f'follower {name}: {stream} version {version} comes after {order.get(stream, 0)}')
                order[stream] = version

    def read_followers(self):
        """What they have noted since the last time, held against each shard."""
        for path in sorted(glob.glob(os.path.join(self.directory, 'log', 's-*.bin'))):
            name = os.path.basename(path)[2:-4]
            seen = self.tails.setdefault(path, [0])
            with open(path, 'rb') as file:
                file.seek(seen[0])
                notes = file.read()
            notes = notes[:len(notes) // 24 * 24]
            seen[0] += len(notes)
            placed = [(shard, self.place(shard, position, digest), digest) for shard, position, digest in struct.iter_unpack('>qqq', notes)]
            self.judge_order(name, [note[1:] for note in placed])
            for number in range(len(self.shards)):
                known = self.followers.setdefault(f'{name} of shard {number}', {'offset': 0, 'at': self.bases[number], 'passed': 0, 'category': 0})
                part = b''.join(struct.pack('>qq', *note[1:]) for note in placed if note[0] == number)
                self.judge_follower(f'{name} of shard {number}', known, memoryview(part))

    def place(self, shard, position, digest):
        """Where in the logs as one; a shard may have passed more positions since, but no event has come."""
        place = self.bases[shard] + position
        return place if digest else min(place, self.end_of(shard))

    def behind(self):
        """Followers that have not come to their shard's last event."""
        self.read_followers()
        return [f'follower {name} stays at {known["at"]}, before the end of its shard' for name, known in self.followers.items()
                if self.log.count(known['at'], self.end_of(int(name.split()[-1])), 0)]

    def end_of(self, shard):
        """Where a shard's positions end."""
        return self.bases[shard + 1] if shard + 1 < len(self.bases) else self.base

    def judge_reading(self, cursor):
        """Each stream as it is read through the router."""
        cursor.execute("SELECT s, es_stream_version(s), (SELECT count(*) FROM es_read(s)), (SELECT sum((data ->> 'v')::bigint) FROM es_read(s)) "
                       'FROM unnest(%s) s', [list(self.streams)])
        for stream, version, events, total in cursor.fetchall():
            known = self.streams[stream]
            if (version, events, total) != (known[0], known[0], known[1]):
                self.find(f'stream {stream}: the router has version {version}, {events} events, sum {total}; the shards {known}')

    def finish(self):
        """The full check of a scene whose writers have ended."""
        self.read_outcomes()
        self.read_shards()
        self.judge_outcomes(self.log.at, True)
        self.wait_for(self.behind)
        connection = self.connect()
        with connection.cursor() as cursor:
            self.judge_reading(cursor)
        connection.close()
        for number, shard in enumerate(self.shards):
            shard.finish()
            self.findings.extend(f'shard {number}: {finding}' for finding in shard.findings)
        self.read_reports()
        return len(self.findings)


def main():
    parser = argparse.ArgumentParser(description='a scene of shards')
    parser.add_argument('dir')
    commands = parser.add_subparsers(dest='command', required=True)
    follow = commands.add_parser('follow')
    follow.add_argument('--name', required=True)
    follow.add_argument('--page', type=int, default=200)
    check = commands.add_parser('check')
    check.add_argument('--allow', default='')
    check.add_argument('--patience', type=float, default=120)
    options = parser.parse_args()
    if options.command == 'follow':
        ShardsFollower(options).work()
    else:
        print_check(ShardsCheck(options.dir, [code for code in options.allow.split(',') if code], options.patience))


if __name__ == '__main__':
    main()
