// fold.mjs DATABASE FIRST STREAMS LENGTH SECONDS SEED
//
// Folds one stream after the other in objects, as an application does: reads its
// rows, type and data only, by the client "pg". Streams are those with the ids
// from FIRST on, in bench.accounts. Prints events a second; with SECONDS 0 the
// state of the first one.
import pg from 'pg';
import { randomOf } from './random.mjs';

const [database, ...rest] = process.argv.slice(2);
const [first, streams, length, seconds, seed] = rest.map(Number);
const client = new pg.Client({ database });
await client.connect();

function apply(state, [type, data]) {
	if (type === 'Deposited') {
		const { amount, currency, reference, text } = data;
		state.amount = amount;
		state.currency = currency;
		state.reference = reference;
		state.text = text;
		state.balance += amount;
		return state;
	}
	return Object.assign(state, data);
}

async function fold(id) {
	const { rows } = await client.query({
		name: 'fold',
		text: 'SELECT type, data FROM bench.accounts WHERE stream_id = $1 ORDER BY version',
		values: [id],
		rowMode: 'array',
	});
	return rows.reduce(apply, {});
}

const state = await fold(first);
if (seconds === 0) {
	console.log(JSON.stringify(state));
} else {
	const random = randomOf(seed);
	const start = performance.now();
	let n = 0;
	for (; performance.now() < start + seconds * 1000; n += length) await fold(first + random(streams));
	console.log((n * 1000) / (performance.now() - start));
}
await client.end();
