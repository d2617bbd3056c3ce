// emmett.mjs DATABASE CLIENTS SECONDS STREAMS BATCH SEED
//
// Appends with emmett's own client, CLIENTS appends at a time, each with streams
// of its own; prints events a second and the number of events. SECONDS 0 makes
// the schema and one event in each stream.
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
import { randomOf } from './random.mjs';

const [database, clients, seconds, streams, batch, seed] =
	process.argv.slice(2).map((value, i) => (i === 0 ? value : Number(value)));
const host = encodeURIComponent(process.env.PGHOST);
const store = getPostgreSQLEventStore(
	`postgresql://${process.env.PGUSER}@localhost:${process.env.PGPORT}/${database}?host=${host}`,
	{ schema: { autoMigration: seconds === 0 ? 'CreateOrUpdate' : 'None' } },
);

const random = randomOf(seed);
const event = {
	type: 'Deposited',
	data: JSON.parse(process.env.BENCH_DATA),
	metadata: JSON.parse(process.env.BENCH_METADATA),
};
const events = Array(batch).fill(event);
const append = (stream, list) => store.appendToStream(`account-${stream}`, list);

async function client(id, until) {
	const own = Math.floor(streams / clients);
	let n = 0;
	for (; performance.now() < until; n++) await append(random(own) * clients + id + 1, events);
	return n;
}

const everyone = [...Array(clients).keys()];
if (seconds === 0) {
	await append(1, [event]);
	await Promise.all(everyone.map(async (id) => {
		for (let s = id + 1; s <= streams; s += clients) if (s > 1) await append(s, [event]);
	}));
} else {
	await Promise.all(everyone.map((id) => append(id + 1, [event])));	// connections
	const start = performance.now();
	const counts = await Promise.all(everyone.map((id) => client(id, start + seconds * 1000)));
	const n = counts.reduce((a, b) => a + b, 0) * batch;
	console.log((n * 1000) / (performance.now() - start), n + clients);
}
await store.close();
