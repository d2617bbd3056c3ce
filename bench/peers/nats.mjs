// nats.mjs PORT MODE CLIENTS SECONDS STREAMS SEED
//
// Publishes to NATS JetStream: CLIENTS connections of one process, each waits
// for the acknowledgement of an event before it sends the next, to subjects of
// its own. MODE is one of
//     setup    makes the JetStream stream and one event in each subject
//     count    prints the numbers of events and of subjects in the stream
//     any      publishes
//     exact    reads the last message of the subject, then publishes with its
//              sequence as the expected one
//     client   publishes with the NATS client for Node.js
// The last three print events a second, the number of events, and the cores that
// this process used. All but "client" speak the protocol themselves: the client
// needs several times the work for an event that the server does.
import net from 'node:net';
import { randomOf } from './random.mjs';

const mode = process.argv[3];
const [port, , clients, seconds, streams, seed] = process.argv.slice(2).map(Number);
const random = randomOf(seed);
const stream = 'events';
const subject = (n) => `events.account-${n}`;
const event = (type) =>
	`{"type": "${type}", "data": ${process.env.BENCH_DATA}, "metadata": ${process.env.BENCH_METADATA}}`;
const deposited = event('Deposited');

// a connection that waits for one reply at a time
class Connection {
	static open(id) {
		return new Promise((resolve, reject) => new Connection(id, resolve, reject));
	}

	constructor(id, resolve, reject) {
		Object.assign(this, { inbox: `reply.${id}`, received: '', resolve, reject });
		this.socket = net.connect(port, '127.0.0.1').setNoDelay(true).setEncoding('latin1');
		this.socket.on('data', (data) => this.receive(data));
		this.socket.on('error', (error) => this.reject(error));
		this.socket.on('close', () => this.reject(new Error('the server closed the connection')));
	}

	// a string's length is its size: all of it is ASCII
	request(to, body, header = '') {
		this.socket.write(header === ''
			? `PUB ${to} ${this.inbox} ${body.length}\r\n${body}\r\n`
			: `HPUB ${to} ${this.inbox} ${header.length} ${header.length + body.length}\r\n${header}${body}\r\n`);
		return new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
	}

	receive(data) {
		this.received += data;
		for (let end; (end = this.received.indexOf('\r\n')) >= 0;) {
			const line = this.received.slice(0, end);
			let next = end + 2;
			if (line.startsWith('MSG ') || line.startsWith('HMSG ')) {
				const start = next;
				next += Number(line.slice(line.lastIndexOf(' ') + 1)) + 2;
				if (this.received.length < next) return;
				this.resolve(this.received.slice(start, next - 2));
			} else if (line.startsWith('INFO ')) {
				this.socket.write('CONNECT {"verbose": false, "pedantic": false, "headers": true, "no_responders": true}\r\n' +
					`SUB ${this.inbox} 1\r\nPING\r\n`);
			} else if (line === 'PONG') {
				this.resolve(this);
			} else if (line === 'PING') {
				this.socket.write('PONG\r\n');
			} else {
				this.reject(new Error(line));
			}
			this.received = this.received.slice(next);
		}
	}

	async api(name, body) {
		const answer = JSON.parse(await this.request(`$JS.API.${name}`, JSON.stringify(body)));
		if (answer.error) throw new Error(answer.error.description);
		return answer;
	}

	async publish(n, body, header) {
		const answer = await this.request(subject(n), body, header);
		if (!answer.includes('"seq":')) throw new Error(answer);
	}

	async publishExact(n, body) {
		const last = await this.request(`$JS.API.DIRECT.GET.${stream}.${subject(n)}`, '');
		const [, sequence] = /^Nats-Sequence: (\d+)/m.exec(last);
		await this.publish(n, body, `NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: ${sequence}\r\n\r\n`);
	}

	close() {
		this.socket.removeAllListeners('close').end();
	}
}

async function setup(connections) {
	await connections[0].api(`STREAM.CREATE.${stream}`,
		{ name: stream, subjects: [`${stream}.>`], storage: 'file', retention: 'limits', num_replicas: 1, allow_direct: true });
	const opened = event('Opened');
	await Promise.all(connections.map(async (connection, id) => {
		for (let n = id + 1; n <= streams; n += clients) await connection.publish(n, opened);
	}));
}

async function count([connection]) {
	const { state } = await connection.api(`STREAM.INFO.${stream}`, {});
	console.log(state.messages, state.num_subjects);
}

// measure PUBLISHERS: one function a client, of the subject's number
async function measure(publishers) {
	const own = Math.floor(streams / clients);
	const start = performance.now();
	const until = start + seconds * 1000;
	const used = process.cpuUsage();
	const counts = await Promise.all(publishers.map(async (publish, id) => {
		let n = 0;
		for (; performance.now() < until; n++) await publish(random(own) * clients + id + 1);
		return n;
	}));
	const { user, system } = process.cpuUsage(used);
	const passed = performance.now() - start;
	const n = counts.reduce((a, b) => a + b, 0);
	console.log((n * 1000) / passed, n, (user + system) / 1000 / passed);
}

const each = (make) => Promise.all(Array.from({ length: clients }, (_, id) => make(id)));
if (mode === 'client') {
	const { connect } = await import('@nats-io/transport-node');
	const { jetstream } = await import('@nats-io/jetstream');
	const connections = await each(() => connect({ servers: `127.0.0.1:${port}`, reconnect: false }));
	const body = new TextEncoder().encode(deposited);
	await measure(connections.map((c) => jetstream(c)).map((js) => (n) => js.publish(subject(n), body)));
	await Promise.all(connections.map((connection) => connection.close()));
} else {
	const connections = await each(Connection.open);
	if (mode === 'setup') await setup(connections);
	else if (mode === 'count') await count(connections);
	else if (mode === 'exact') await measure(connections.map((c) => (n) => c.publishExact(n, deposited)));
	else await measure(connections.map((c) => (n) => c.publish(n, deposited)));
	connections.forEach((c) => c.close());
}
