// tour.mjs STREAM
//
// What a program in Node.js has to know of the package pg to work with eventstore. It
// appends to STREAM, which must be new, and prints a line for each step; the
// programs in the other languages print the same. It connects as psql does (PGHOST,
// PGDATABASE, ...). Explained in doc/applications.md.
import { randomUUID } from 'node:crypto';
import pg from 'pg';

// Versions and positions are BigInt, not strings. Never Number: it is exact up to 2^53 only.
pg.types.setTypeParser(pg.types.builtins.INT8, BigInt);
// Times stay text: Date has milliseconds, recorded_at microseconds.
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => text);

const stream = process.argv[2];
const client = new pg.Client();
// A connection that breaks while nobody waits for an answer says so here. Without a
// listener the process ends.
client.on('error', (error) => console.error(error.message));
await client.connect();

// one value of one row
async function value(text, values) {
	const { rows } = await client.query({ text, values, rowMode: 'array' });
	return rows[0][0];
}

// Arguments by name, where there are many: those left out have their defaults.
const opened = await value(
	"SELECT es_append($1, 'Opened', $2, metadata => $3, expected_version => $4)",
	[stream, { owner: 'ann' }, { by: 'tour' }, 0]);
console.log(`version ${opened}`);

// pg sends an object as JSON, but an array as an array of SQL and a string as it is.
// JSON.stringify is right for each of them.
const append = "SELECT es_append($1, $2, $3)";
await value(append, [stream, 'Listed', JSON.stringify([1, 'two', null])]);
await value(append, [stream, 'Noted', JSON.stringify('it\'s "text"')]);
const { rows } = await client.query('SELECT position, version, data, recorded_at FROM es_read($1)', [stream]);
console.log(`data ${Object.keys(rows[0].data)}, ${rows[1].data.length} elements, ${rows[2].data}`);
const large = 9007199254740993n;		// 2^53 + 1
console.log(`position ${rows[0].position}, and so would be ${await value('SELECT $1::bigint', [large])}`);

// Several events, as rows of es_new_event: one array for each of their columns.
const ids = [randomUUID(), randomUUID()];
const several = await value(`
	SELECT es_append_events($1, ARRAY(
		SELECT ROW(type, data, NULL, id)::es_new_event
		FROM unnest($2::text[], $3::jsonb[], $4::uuid[]) WITH ORDINALITY AS e (type, data, id, nth)
		ORDER BY nth), expected_version => $5)`,
	[stream, ['Added', 'Added'], [JSON.stringify({ sku: 'A1' }), JSON.stringify({ sku: 'B2' })], ids, 3]);
console.log(`several ${several}`);

// The same as one JSON array, which is less to write.
const batch = [{ type: 'Added', data: { sku: 'C3' } }, { type: 'Removed', data: ['A1'], event_id: randomUUID() }];
console.log(`batch ${await value('SELECT es_append_batch($1, $2, $3)', [stream, JSON.stringify(batch), 5])}`);

// Errors have the SQLSTATE in code, and in detail what a program may parse.
try {
	await value("SELECT es_append($1, 'Closed', expected_version => $2)", [stream, 1]);
} catch (error) {
	if (error.code !== 'VE001') throw error;
	const [, expected, actual] = error.detail.match(/^Expected version is (-?[0-9]+), actual version is ([0-9]+)\.$/);
	console.log(`conflict ${error.code}, expected ${BigInt(expected)}, actual ${BigInt(actual)}`);
}

// The same event again, under the id that the program gave it, and another one under that id.
const id = randomUUID();
const give = "SELECT es_append($1, 'Paid', $2, event_id => $3)";
const first = await value(give, [stream, { amount: 5 }, id]);
const again = await value(give, [stream, { amount: 5 }, id]);
try {
	await value(give, [stream, { amount: 7 }, id]);
} catch (error) {
	const stored = await value('SELECT version FROM es_find_event($1, $2)', [stream, id]);
	console.log(`retry ${first} ${again}, ${error.code}, stored at ${stored}`);
}

// A condition that does not hold.
try {
	const events = [{ stream, type: 'Opened' }];
	await value("SELECT es_append_if($1, $2, types => $3)",
		[JSON.stringify(events), rows[0].position - 1n, ['Opened']]);
} catch (error) {
	const [, position, where] = error.detail.match(/^It is at position ([0-9]+), in stream "(.*)"\.$/s);
	console.log(`condition ${error.code}, ${BigInt(position) === rows[0].position && where === stream}`);
}

// A time goes back as it came, with its microseconds.
const { recorded_at: time } = rows[0];
console.log(`time ${await value('SELECT count(*) FROM es_read($1) WHERE recorded_at = $2', [stream, time])}`);

// A procedure, outside a transaction: a CALL by itself. INOUT arguments come as a row.
const settled = await value("CALL es_wait_for($1, '10s')", [rows[0].position]);
console.log(`waited ${settled > rows[0].position}`);

// A statement with a name is prepared, once a connection; behind a pool that does not keep
// prepared statements give none.
let last;
for (let n = 0; n < 11; n++) {
	const name = process.env.PREPARE === 'no' ? undefined : 'append';
	({ rows: [{ version: last }] } = await client.query({ name, text: `${append} AS version`, values: [stream, 'Counted', n] }));
}
console.log(`prepared ${last}`);
await client.end();
