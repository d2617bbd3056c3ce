"""The soak run; test/soak calls it, and has the usage.

It goes by eras.  Each is a cluster of its own, made with settings drawn at random, and on it a scene
(scene.py), to which faults happen, one after the other, until the era is over.  After each fault
appends must go on.  Meanwhile the log is read on and held against what programs have noted, and at
the end of the era in full (scene_check.py).  The seed decides on settings and faults, not on how
processes interleave.

Servers run with fsync = off: what is killed here are processes, and what they have written stays
with the kernel.  A machine that loses power is not what this is about.
"""
import argparse
import collections
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

import psycopg2

from scene_check import Check

LEAST_ROUNDS = 8    # of an era, however slow the machine is
HERE = os.path.dirname(os.path.abspath(__file__))


class Finding(Exception):
    """what ends an era at once"""


class Server:
    """A cluster in a folder, on a socket there."""

    def __init__(self, soak, name, port):
        self.soak, self.name, self.port = soak, name, port
        self.data = os.path.join(soak.work, name)
        self.log = os.path.join(soak.work, f'{name}.log')
        self.wanted = False

    def environment(self):
        return dict(os.environ, LD_PRELOAD=self.soak.library, FAULTS=self.soak.faults_file, FAULTS_DISK=self.data)

    def control(self, *arguments, check=True):
        """pg_ctl"""
        with open(os.path.join(self.soak.work, 'pg_ctl.log'), 'ab') as output:
            return subprocess.run(['pg_ctl', '-s', '-w', '-t', '300', '-D', self.data, *arguments], env=self.environment(),
                                  stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=check).returncode == 0

    def start(self):
        self.wanted = True
        self.control('start', '-l', self.log)

    def stop(self, how, check=True):
        self.wanted = False
        return self.control('stop', '-m', how, check=check)

    def dsn(self):
        return f'host={self.soak.work} port={self.port} dbname=postgres user=postgres'

    def connect(self, patience):
        """A connection, however long the server takes to let anybody in."""
        deadline = time.monotonic() + 120
        while True:
            try:
                connection = psycopg2.connect(self.dsn(), application_name='soak', connect_timeout=10, options=f'-c statement_timeout={patience}s')
                connection.autocommit = True
                return connection
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                self.revive()
                time.sleep(0.05)

    def revive(self):
        """Starts it if it has given up, as a server does that cannot even recover; says whether it had."""
        pid = self.postmaster()
        if not self.wanted or pid and os.path.exists(f'/proc/{pid}'):
            return False
        self.soak.totals['servers that gave up'] += 1
        self.control('start', '-l', self.log, check=False)
        return True

    def query(self, sql, patience=60):
        """The rows of a statement, on a connection of its own; asked again if that is cut."""
        for _ in range(50):
            try:
                connection = self.connect(patience)
                try:
                    with connection.cursor() as cursor:
                        cursor.execute(sql)
                        return cursor.fetchall() if cursor.description else []
                finally:
                    connection.close()
            except psycopg2.Error as error:
                # one that the server has not told is of the connection, whatever its class
                if error.pgcode and error.pgcode[:3] != '57P':
                    raise
                last = error
        raise last

    def postmaster(self):
        """Its process id, None if it does not run."""
        try:
            with open(os.path.join(self.data, 'postmaster.pid'), encoding='utf-8') as file:
                return int(file.readline())
        except (OSError, ValueError):
            return None

    def processes(self):
        """(pid, title) of its children."""
        result = []
        for pid in self.soak.children(self.postmaster()):
            try:
                with open(f'/proc/{pid}/cmdline', 'rb') as file:
                    result.append((pid, file.read().replace(b'\0', b' ').decode(errors='replace').strip()))
            except OSError:
                pass
        return result


class Era:
    """A cluster, a scene, and what happens to them."""

    FAULTS = {'kill programs': 30, 'kill backend': 18, 'kill server process': 16, 'immediate stop': 6, 'kill postmaster': 3, 'restart': 2,
              'cut connections': 6, 'stop a process': 4, 'maintenance': 4, 'disk full': 4, 'memory': 4, 'clock': 4,
              'promote': 3, 'crash standby': 3}

    def __init__(self, soak, number):
        self.soak, self.number, self.random = soak, number, random.Random(f'{soak.seed}/{number}')
        self.counts, self.seconds = collections.Counter(), collections.Counter()
        self.dir = os.path.join(soak.work, 'scene')
        self.programs, self.commands = {}, {}
        self.primary, self.standby, self.made = None, None, 0
        self.preload = self.random.random() < 0.8
        self.synchronous = self.random.random() < 0.5
        self.has_standby = soak.standbys
        self.looking, self.look_lock = True, threading.Lock()
        self.looker = threading.Thread(target=self.look_on)
        self.lossy = False

    def say(self, text):
        print(f'{time.strftime("%H:%M:%S")} era {self.number}: {text}', flush=True)

    # ---- servers ----

    def make_primary(self):
        server = Server(self.soak, f'data{self.number}.0', 54321)
        subprocess.run(['initdb', '-D', server.data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '-N'],
                       check=True, stdout=subprocess.DEVNULL)
        settings = {
            'listen_addresses': '', 'unix_socket_directories': self.soak.work, 'port': '54321', 'fsync': 'off', 'wal_level': 'logical',
            'max_connections': '60', 'max_worker_processes': '16', 'max_wal_senders': '10', 'max_replication_slots': '10',
            'max_prepared_transactions': '20', 'shared_buffers': self.random.choice(('8MB', '64MB', '128MB')), 'max_wal_size': '400MB', 'min_wal_size': '64MB',
            'checkpoint_timeout': '30s', 'deadlock_timeout': '200ms', 'wal_sender_timeout': '20s', 'hot_standby': 'on', 'restart_after_crash': 'on',
            'autovacuum_naptime': '5s', 'shared_preload_libraries': 'eventstore' if self.preload else '', 'log_line_prefix': '%m [%p] ',
            'eventstore.seal_interval': self.random.choice(('0', '3s')), 'log_min_messages': 'warning', 'wal_keep_size': '64MB',
            'synchronous_commit': self.random.choice(('on', 'on', 'remote_write' if not self.has_standby else 'on')),
            'work_mem': self.random.choice(('64kB', '4MB')), 'max_slot_wal_keep_size': '2GB'}
        if self.soak.allow_list:
            settings['output_plugin_libraries'] = 'pgoutput, test_decoding, eventstore'
        with open(os.path.join(server.data, 'postgresql.conf'), 'a', encoding='utf-8') as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        server.start()
        self.primary = server

    def make_standby(self):
        """A standby of the primary on the other port; if that is synchronous the primary waits for it from now on."""
        self.made += 1
        server = Server(self.soak, f'data{self.number}.{self.made}', 54321 + 54322 - self.primary.port)
        for _ in range(3):
            shutil.rmtree(server.data, ignore_errors=True)
            done = subprocess.run(['pg_basebackup', '-D', server.data, '-d', self.primary.dsn(), '-c', 'fast', '-X', 'stream', '--no-sync', '-R',
                                   '-C', '-S', f'standby_{self.made}'], env=os.environ, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode == 0:
                break
            self.primary.query(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'standby_{self.made}'")
        else:
            raise Finding(f'no base backup: {done.stderr}')
        with open(os.path.join(server.data, 'postgresql.auto.conf'), 'a', encoding='utf-8') as file:
            file.write(f"port = '{server.port}'\ncluster_name = 'standby'\nsynchronous_standby_names = ''\n")
        server.start()
        self.standby = server
        self.wait_streaming()
        if self.synchronous:
            self.primary.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            self.primary.query('SELECT pg_reload_conf()')
            self.wait('the synchronous standby', lambda: self.primary.query("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")[0][0])

    def wait_streaming(self):
        self.wait('a streaming standby', lambda: self.primary.query(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby' AND state = 'streaming'")[0][0])

    # ---- programs ----

    def start_scene(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(os.path.join(self.dir, 'log'))
        hosts = f'host={self.soak.work},{self.soak.work} port=54321,54322 dbname=postgres user=postgres target_session_attrs=read-write'
        with open(os.path.join(self.dir, 'dsn'), 'w', encoding='utf-8') as file:
            file.write(hosts)
        scene = [sys.executable, os.path.join(HERE, 'scene.py'), self.dir]
        segment = self.random.choice((5000, 20000, 100000, 1000000))
        subprocess.run([*scene, 'setup', '--segment-size', str(segment), '--partitions', str(self.random.choice((1, 4, 8)))], check=True)
        batch = self.random.choice(self.soak.batches)
        self.say(f'{"preloaded" if self.preload else "not preloaded"}, segments of {segment}, batches around {batch}, '
                 + ('no standby' if not self.has_standby else 'synchronous standby' if self.synchronous else 'asynchronous standby'))
        # half a batch is what an operation of the usual mix appends
        pace = self.soak.events / self.soak.writers / (batch / 2 + 1)
        for slot in range(1, self.soak.writers + 1):
            self.add(f'writer {slot}', *scene, 'write', '--slot', str(slot), '--pace', f'{pace:.1f}', '--batch', str(batch),
                     '--seed', str(self.random.randrange(1 << 31)))
        self.add('follower', *scene, 'follow', '--name', 'all')
        self.add('follower of orders', *scene, 'follow', '--name', 'some@order', '--category', 'order')
        for member in ('m1', 'm2'):
            self.add('member ' + member, *scene, 'consume', '--subscription', 'everything', '--member', member)
        self.add('member of orders', *scene, 'consume', '--subscription', 'orders', '--member', 'm')
        self.add('onlooker', *scene, 'look', '--pause', '3')
        self.add('feed', 'esfeed', '-q', '-d', hosts, '--feed', 'scene', '--create', '--to', f'file:{self.dir}/feed')

    def add(self, name, *command):
        self.commands[name] = command
        self.run(name)

    def run(self, name):
        with open(os.path.join(self.soak.work, name.replace(' ', '-') + '.error'), 'ab') as errors:
            self.programs[name] = subprocess.Popen(self.commands[name], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def revive(self):
        """Programs that have ended by themselves: esfeed does where it has no answer; no other may."""
        for name, program in list(self.programs.items()):
            if program.poll() is not None:
                if name != 'feed':
                    self.soak.finding(f'{name} has ended with {program.returncode}')
                self.run(name)

    def stop_programs(self, prefix=''):
        names = [name for name in self.programs if name.startswith(prefix)]
        for name in names:
            self.programs[name].send_signal(signal.SIGTERM)
        for name in names:
            program = self.programs.pop(name)
            try:
                program.wait(60)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    # ---- progress ----

    def wait(self, what, condition, patience=180):
        """Waits until it holds; else the era ends with a finding."""
        deadline = time.monotonic() + patience
        while True:
            try:
                if condition():
                    return
            except psycopg2.Error:
                pass
            if time.monotonic() > deadline:
                raise Finding(f'waited in vain for {what}')
            time.sleep(0.05)
            self.revive()
            for server in (self.primary, self.standby):
                if server:
                    server.revive()

    def wait_for_appends(self):
        """Appends go on."""
        position = self.primary.query('SELECT last_value FROM eventstore.position_seq')[0][0]
        self.wait('appends', lambda: self.primary.query('SELECT es_settled_position()')[0][0] > position + 20)

    # ---- faults: each leaves all in order, or says what it waits for ----

    def kill(self, pid, what):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.counts[what] += 1
        return True

    def pick_processes(self, *words):
        """Server processes whose titles have one of the words."""
        return [(pid, title) for pid, title in self.primary.processes() if any(word in title for word in words)]

    def kill_programs(self):
        self.kill_some(self.random.randrange(3, 9))

    def kill_some(self, count):
        names = self.random.sample(sorted(self.programs), count)
        for name in names:
            if self.programs[name].poll() is None:
                self.programs[name].kill()
                self.counts['programs killed'] += 1
        for name in names:
            self.programs[name].wait()
            self.run(name)

    def kill_backend(self):
        if found := self.pick_processes('postgres postgres [local]'):
            pid, title = self.random.choice(found)
            if self.kill(pid, 'server processes killed'):
                self.counts['crashes'] += 1
                if self.soak.verbose:
                    self.say('killed ' + title)

    def kill_server_process(self):
        word = self.random.choice(('eventstore', 'walsender', 'checkpointer', 'walwriter', 'background writer', 'autovacuum', 'parallel worker'))
        if found := self.pick_processes(word):
            pid, title = self.random.choice(found)
            if self.kill(pid, 'server processes killed'):
                self.counts['crashes'] += 1
                if self.soak.verbose:
                    self.say('killed ' + title)

    def immediate_stop(self):
        self.primary.stop('immediate', check=False)
        self.counts['crashes'] += 1
        self.primary.start()

    def kill_postmaster(self):
        """With its children left to find out by themselves."""
        pid, self.primary.wanted = self.primary.postmaster(), False
        children = [child for child, _ in self.primary.processes()]
        if pid and self.kill(pid, 'server processes killed'):
            self.counts['crashes'] += 1
            self.wait('the end of its children', lambda: not any(os.path.exists(f'/proc/{child}') for child in children))
            self.primary.start()

    def restart(self):
        self.primary.control('restart', '-m', 'fast', '-l', self.primary.log)
        self.counts['restarts'] += 1

    def cut_connections(self):
        cut = self.primary.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'scene%' OR application_name = 'esfeed'")
        self.counts['connections cut'] += cut[0][0]

    def stop_a_process(self):
        """SIGSTOP for a while, of a member for longer than its lease, or of a process of the server."""
        if self.random.random() < 0.5:
            pid, title = self.programs['member ' + self.random.choice(('m1', 'm2'))].pid, 'a member'
        elif found := self.pick_processes('eventstore', 'walsender', 'walwriter', 'checkpointer'):
            pid, title = self.random.choice(found)
        else:
            return
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.random.uniform(0.5, 4))
            os.kill(pid, signal.SIGCONT)
            self.counts['stopped for a while'] += 1
        except ProcessLookupError:
            pass

    def maintenance(self):
        statement = self.random.choice((
            'VACUUM FULL eventstore.streams', 'REINDEX SCHEMA CONCURRENTLY eventstore', 'VACUUM (FREEZE) eventstore.streams', 'VACUUM ANALYZE',
            'VACUUM FULL eventstore.subscription_partitions', 'REINDEX TABLE CONCURRENTLY eventstore.streams', 'CHECKPOINT', 'SELECT pg_switch_wal()',
            "SELECT es_rebuild_projection('totals')", "SELECT es_rebuild_projection('balances')", "SELECT es_snapshot_every('tally', 50)"))
        try:
            self.primary.query(statement, patience=10)
            self.counts['maintenance'] += 1
        except psycopg2.Error as error:
            if error.pgcode not in ('55P03', '40P01', '57014', '42P01', '55000'):
                self.soak.finding(f'{statement}: {error.pgcode} {error}')

    def disk_full(self):
        self.soak.set_faults(full=1)
        if self.random.random() < 0.5:
            self.fill_wal()
        time.sleep(self.random.uniform(0.3, 3))
        self.soak.set_faults()
        self.counts['disk full'] += 1

    def fill_wal(self):
        """More WAL than there are files for: without room for another one the server gives up."""
        try:
            connection = psycopg2.connect(self.primary.dsn(), options='-c statement_timeout=20s')
            connection.autocommit = True
            with connection.cursor() as cursor:
                for _ in range(12):
                    cursor.execute("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 16000000))")
            connection.close()
        except psycopg2.Error:
            self.counts['WAL full'] += 1

    def memory(self):
        self.soak.set_faults(memory=self.random.choice((2, 5, 30, 200)))
        time.sleep(self.random.uniform(0.3, 2))
        self.soak.set_faults()
        self.counts['out of memory'] += 1

    def clock(self):
        self.soak.set_faults(clock=self.random.choice((-86400, -3600, -60, 60, 3600)))
        time.sleep(self.random.uniform(0.5, 2))
        self.soak.set_faults()
        self.counts['clock set'] += 1

    def promote(self):
        """The primary is gone for good, the standby takes its place, and gets a standby of its own."""
        if not self.standby:
            return
        self.wait_streaming()
        with self.look_lock:    # from here on something may get lost
            self.lossy = self.lossy or not self.synchronous
            self.soak.check.promoted = True
            self.soak.check.lossy = self.lossy
        gone, self.primary, self.standby = self.primary, self.standby, None
        gone.stop('immediate', check=False)
        self.primary.control('promote')
        self.counts['promotions'] += 1
        self.counts['crashes'] += 1
        shutil.rmtree(gone.data)
        self.say(f'promoted {self.primary.name}')
        self.make_standby()

    def crash_standby(self):
        if self.standby:
            self.standby.stop('immediate', check=False)
            self.counts['crashes of a standby'] += 1
            self.standby.start()

    # ---- an era ----

    def live(self, until):
        """From its making to its full check."""
        self.soak.set_faults()
        self.make_primary()
        self.start_scene()
        self.soak.check = Check(self.dir, patience=300, allow=('53100', '53200', '57P05', '08006', '58030', '55P03', '53300', '53000'))
        if self.has_standby:
            self.make_standby()
        self.looker.start()
        while time.monotonic() < until or self.counts['rounds'] < LEAST_ROUNDS:
            began = time.monotonic()
            name = self.break_something()
            healing = time.monotonic()
            self.revive()
            self.wait_for_appends()
            self.seconds[name] += time.monotonic() - began
            if self.soak.verbose:
                self.say(f'{name} {healing - began:.1f} s, appends after {time.monotonic() - healing:.1f} s')
            self.counts['rounds'] += 1
        self.stop_looking()
        self.end()

    def look_on(self):
        """Looks again and again, while things go on to break, as long as nothing is meant to get lost."""
        while self.looking:
            try:
                with self.look_lock:
                    if not self.lossy:
                        self.soak.check.look()
            except psycopg2.Error:
                pass    # it goes on from there the next time
            self.soak.note_findings()
            time.sleep(2)

    def stop_looking(self):
        self.looking = False
        if self.looker.is_alive():
            self.looker.join()

    def break_something(self):
        only = os.environ.get('SOAK_FAULTS', '').split(',')
        names = [name for name in self.FAULTS if only == [''] or name in only]
        name = self.random.choices(names, [self.FAULTS[name] for name in names])[0]
        getattr(self, name.replace(' ', '_'))()
        # whatever it is, clients may be killed while it heals
        if self.random.random() < 0.7:
            self.kill_some(self.random.randrange(1, 4))
        return name

    def end(self):
        """The writers end, the others catch up, all is held against the log."""
        if self.standby:
            self.primary.query('ALTER SYSTEM RESET synchronous_standby_names')
            self.primary.query('SELECT pg_reload_conf()')
        self.stop_programs('writer')
        began = time.monotonic()
        if self.lossy:
            self.soak.check = Check(self.dir, lossy=True, patience=300, allow=self.soak.check.allowed)
            self.soak.check.promoted = True
        self.soak.check.finish()
        self.soak.note_findings()
        self.check_indexes()
        self.soak.count_events(self.soak.check)
        self.say(f'{self.soak.check.summary()}; checked in {time.monotonic() - began:.0f} s')
        self.say(', '.join(f'{name}: {count}' for name, count in sorted(self.counts.items())))
        self.say('seconds: ' + ', '.join(f'{name}: {count:.0f}' for name, count in sorted(self.seconds.items())))

    def check_indexes(self):
        """amcheck, with every row of the tables looked for in their indexes."""
        try:
            self.primary.query('CREATE EXTENSION IF NOT EXISTS amcheck')
            self.primary.query("SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid "
                               "WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r' AND x.relam = (SELECT oid FROM pg_am WHERE amname = 'btree') AND i.indisvalid", patience=600)
        except psycopg2.Error as error:
            self.soak.finding(f'amcheck: {error}')

    def close(self):
        """Nothing of it is left."""
        self.stop_looking()
        self.stop_programs()
        for server in (self.standby, self.primary):
            if server and os.path.exists(server.data):
                server.stop('immediate', check=False)
                if not self.soak.keep:
                    shutil.rmtree(server.data, ignore_errors=True)


class Soak:
    """The run: eras, counts, findings, the table."""

    def __init__(self, options):
        self.work, self.seed, self.hours = options.work, options.seed, options.hours
        self.library, self.allow_list = options.library, options.allow_list
        self.short = options.hours < 0.05
        self.writers, self.events = (2, 1000) if self.short else (3, 12000)     # a second, if nothing were broken
        self.batches = (5, 20) if self.short else (100, 400, 1000)
        self.standbys = not self.short
        self.keep = False
        self.verbose = os.environ.get('SOAK_VERBOSE') == '1'
        self.check = None
        self.totals, self.findings = collections.Counter(), []
        self.faults_file = os.path.join(self.work, 'faults')
        with open(self.faults_file, 'wb') as file:
            file.write(bytes(24))
        with open(self.faults_file, 'r+b') as file:
            self.faults = mmap.mmap(file.fileno(), 24)

    def set_faults(self, full=0, memory=0, clock=0):
        self.faults[:] = struct.pack('=qqq', full, memory, clock)

    @staticmethod
    def children(pid):
        if pid is None:
            return []
        try:
            with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
                return [int(child) for child in file.read().split()]
        except OSError:
            return []

    def finding(self, text):
        self.findings.append(text)
        print('finding:', text, flush=True)

    def note_findings(self):
        """Those of the check, once."""
        for text in self.check.findings:
            self.finding(text)
        self.check.findings.clear()

    def count_events(self, check):
        self.totals['events'] += check.log.events
        for name in ('acknowledged events', 'unknown, there', 'unknown, not there', 'lost'):
            self.totals[name] += check.counts[name]

    def run(self):
        """Eras until the time is over; whether there was no finding."""
        began, number = time.monotonic(), 0
        end = began + self.hours * 3600
        while number == 0 or end - time.monotonic() > 60:
            number += 1
            self.live_era(Era(self, number), min(end, time.monotonic() + (360 if not self.short else 3600)))
            self.totals['eras'] += 1
            self.table(time.monotonic() - began)
            if len(self.findings) > 50:
                break
        return not self.findings

    def live_era(self, era, until):
        try:
            era.live(until)
        except (Finding, psycopg2.Error, subprocess.CalledProcessError) as error:
            self.finding(f'era {era.number}: {type(error).__name__} {error}')
        finally:
            self.set_faults()
            self.totals.update(era.counts)
            if self.findings:
                self.keep_logs(era)
            era.close()

    def keep_logs(self, era):
        """What tells of a finding, where it outlives the run."""
        folder = os.environ.get('SOAK_RESULTS')
        if folder:
            target = os.path.join(folder, f'era{era.number}')
            shutil.rmtree(target, ignore_errors=True)
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(self.work):
                if name.endswith('.log') or name.endswith('.error'):
                    shutil.copy(os.path.join(self.work, name), target)
            if os.path.isdir(os.path.join(era.dir, 'log')):
                shutil.copytree(os.path.join(era.dir, 'log'), os.path.join(target, 'log'))

    def table(self, seconds):
        """The run so far, as Markdown."""
        rows = [('seed', self.seed), ('minutes', f'{seconds / 60:.0f}')]
        rows += [(name, f'{self.totals[name]:,}') for name in ('eras', 'rounds', 'events', 'acknowledged events', 'unknown, there', 'unknown, not there', 'lost')]
        rows += [(name, f'{count:,}') for name, count in sorted(self.totals.items()) if name not in dict(rows)]
        rows += [('kills and crashes', f'{sum(self.totals[name] for name in ("programs killed", "crashes", "crashes of a standby")):,}')]
        rows += [('findings', len(self.findings))]
        print('| | |\n|---|---:|\n' + '\n'.join(f'| {name} | {value} |' for name, value in rows), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('hours', type=float)
    parser.add_argument('seed')
    parser.add_argument('--work', required=True)
    parser.add_argument('--library', required=True)
    parser.add_argument('--allow-list', action='store_true')
    soak = Soak(parser.parse_args())
    sys.exit(0 if soak.run() else 1)


if __name__ == '__main__':
    main()
