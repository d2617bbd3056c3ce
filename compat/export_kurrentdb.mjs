// export_kurrentdb.mjs CONNECTION [POSITION]
//
// Writes the events of KurrentDB, in the order of its log and from a commit position on, as JSON lines, which
// from_kurrentdb.sql reads. It needs the client: npm install @kurrent/kurrentdb-client.
import { once } from 'node:events';
import { KurrentDBClient, FORWARDS, START } from '@kurrent/kurrentdb-client';

const [connection, position] = process.argv.slice(2);
if (!connection) {
	console.error('usage: export_kurrentdb.mjs CONNECTION [POSITION]');
	process.exit(2);
}
const client = KurrentDBClient.connectionString(connection);
const fromPosition = position === undefined ? START : { commit: BigInt(position), prepare: BigInt(position) };

// positions and revisions as text, since they may be beyond a number's 53 bits; bytes in base64
const plain = (key, value) => (typeof value === 'bigint' ? value.toString() : value);
const bytes = (value) => (value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value);

for await (const { event } of client.readAll({ direction: FORWARDS, fromPosition })) {
	if (event === undefined) continue;
	const line = JSON.stringify({ ...event, data: bytes(event.data), metadata: bytes(event.metadata) }, plain);
	if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}
await client.dispose();
