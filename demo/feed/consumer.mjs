// consumer.mjs FEED [OPTION=VALUE...]
//
// Follows a feed and prints each event as a line of JSON. The options are those of
// the output plugin, such as after_position=42 or categories=order. It connects as
// psql does (PGHOST, PGDATABASE, ...), as a role with REPLICATION. What has been
// handled is confirmed, and the next run goes on from there; the last transaction
// may come twice: drop what you have, by stream and version.
import replication from 'pg-logical-replication';

const [feed, ...given] = process.argv.slice(2);
const options = given.map((option) => option.split(/=(.*)/s, 2));
const plugin = {
	start(client, slot, lsn) {
		const list = options.map(([name, value]) => `"${name}" '${value.replaceAll("'", "''")}'`);
		return client.query(`START_REPLICATION SLOT "${slot}" LOGICAL ${lsn}${list.length ? ` (${list})` : ''}`);
	},
	parse: (message) => JSON.parse(message.toString()),
};

async function handle(event) {
	console.log(JSON.stringify(event));
}

const service = new replication.LogicalReplicationService({}, {
	acknowledge: { auto: true, timeoutSeconds: 1 },
	flowControl: { enabled: true },		// one event after the other, each confirmed when it is handled
});
service.on('data', (lsn, event) => handle(event));
process.on('SIGTERM', () => service.stop());
await service.subscribe(plugin, `es_${feed}`).catch((error) => {
	console.error(error.message);
	process.exitCode = 1;
	return service.stop();
});
