// worker.mjs SUBSCRIPTION
//
// A worker: handles the events of a subscription one by one, for ever, each exactly once
// in what it writes into this database. Any number of them may run. It connects as psql
// does (PGHOST, PGDATABASE, ...). SIGTERM and SIGINT end it, after the batch in hand, with
// status 0; what it cannot mend ends it with status 1. Explained in doc/applications.md;
// demo/app/worker.py is the same in Python.
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

pg.types.setTypeParser(pg.types.builtins.INT8, BigInt);

const subscription = process.argv[2];
// Names this worker among the others. A new name for each start: who was killed is another.
const member = `${os.hostname()}-${process.pid}-${Date.now()}`;
// More than 64 savepoints in a transaction cost all sessions of the server.
const BATCH = 50;
const LONGEST_PAUSE_MS = 30_000;

// What the worker is for: a mail for each event, kept in a table. The event's id makes it
// known should it come again, after es_rewind or es_replay_parked say.
async function handle(client, event) {
	// Of an order that is deleted by now, or truncated, nobody is to be told. Its events
	// are delivered all the same, and the deletion after them.
	const { rows: [{ es_position: position }] } = await client.query(
		'SELECT es_position($1, $2)', [event.stream, event.version]);
	if (position === null) return;
	// The order as it was at this event; a read model may be behind it, or ahead.
	const { rows: [{ state }] } = await client.query(
		"SELECT state FROM es_replay($1, until_version => $2)", [event.stream, event.version]);
	await client.query(
		'INSERT INTO mail (event_id, recipient, subject) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
		[event.event_id, state.email, `${event.stream}: ${event.type}`]);
}

// One transaction: events are delivered, handled, acknowledged. Gives how many there were.
async function work(client) {
	await client.query('BEGIN');
	const { rows: events } = await client.query(
		'SELECT * FROM es_poll($1, $2, member => $3)', [subscription, BATCH, member]);
	const handled = new Map();		// partition: position
	const refused = new Set();		// partitions
	for (const event of events) {
		// What follows a refused event waits with it, so streams stay in order.
		if (refused.has(event.partition)) continue;
		await client.query('SAVEPOINT event');
		try {
			await handle(client, event);
			await client.query('RELEASE event');
			handled.set(event.partition, event.position);
		} catch (error) {
			if (passes(error)) throw error;
			await client.query('ROLLBACK TO event');
			await client.query('SELECT es_nack($1, $2, $3, $4, $5)',
				[subscription, event.partition, event.position, String(error.message), member]);
			refused.add(event.partition);
		}
	}
	for (const [partition, position] of handled)
		await client.query('SELECT es_ack($1, $2, $3, $4)', [subscription, partition, position, member]);
	await client.query('COMMIT');
	return events.length;
}

// Whether an error is gone when all is done again: the connection is lost, the server
// restarts, a deadlock, another member has the partition by now.
function passes(error) {
	if (!(error instanceof pg.DatabaseError))
		return /^E[A-Z]+$/.test(error.code) || /^(Connection|Client has|timeout)/.test(error.message);
	return /^(08|57P|40001|40P01|53300|55P03|VE007)/.test(error.code);
}

const stop = new AbortController();
let waiting = false;

// The member's name makes the statement one of its own, by which stop finds it.
const WAIT = `CALL es_poll_wait($1, '10min', member => $2)  -- ${member}`;

// Waits for news, outside a transaction.
async function wait(client) {
	if (stop.signal.aborted) return;
	waiting = true;
	try {
		await client.query(WAIT, [subscription, member]);
	} catch (error) {
		if (!(stop.signal.aborted && error.code === '57014')) throw error;
	} finally {
		waiting = false;
	}
}

// Ends the wait, if there is one; the server would go on with it.
async function end() {
	stop.abort();
	const client = new pg.Client();
	client.on('error', () => {});
	if (waiting) await client.connect();
	// again and again, should the first have come before the wait
	while (waiting) {
		await client.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = $1 AND state = 'active'", [WAIT]);
		await sleep(100);
	}
	await client.end();
}

async function session(settled) {
	const client = new pg.Client({ application_name: 'worker', keepAlive: true });
	// Without this listener a connection that breaks ends the process.
	client.on('error', () => {});
	await client.connect();
	try {
		while (!stop.signal.aborted) {
			if (await work(client) === 0) await wait(client);
			settled();
		}
	} finally {
		// closes the connection, which rolls back what is not committed
		await client.end();
	}
}

for (const signal of ['SIGTERM', 'SIGINT'])
	process.on(signal, () => end().catch((error) => console.error(error.message)));

let pause = 0;
while (!stop.signal.aborted) {
	try {
		await session(() => { pause = 0; });
	} catch (error) {
		if (!passes(error)) throw error;		// a right, a name, a bug: a supervisor has to know
		console.error(`${error.message}; trying again`);
		pause = Math.min(Math.max(2 * pause, 100), LONGEST_PAUSE_MS);
		await sleep(pause * (0.5 + Math.random() / 2), null, { signal: stop.signal }).catch(() => {});
	}
}
