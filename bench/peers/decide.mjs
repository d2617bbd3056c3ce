// decide.mjs STORE DATABASE MODE CLIENTS SECONDS SESSION
//
// Decides by tags with a client in Node.js; prints events a second and their number.
//
// STORE: eventstore by the client "pg"; dcb-es and ricofritzsche by their own
// clients. MODE: setup makes the schema; own appends, CLIENTS at a time, each in a
// boundary of its own, a new one each 100 events; courses are the course
// subscriptions of lib/decide.sql, in one session.
import pg from 'pg';

const [name, database, mode, ...rest] = process.argv.slice(2);
const session = rest[2];
const [clients, seconds] = rest.slice(0, 2).map(Number);
const host = encodeURIComponent(process.env.PGHOST);
const url = `postgresql://${process.env.PGUSER}@localhost:${process.env.PGPORT}/${database}?host=${host}`;
const types = ['CourseDefined', 'StudentRegistered', 'Enrolled', 'Deposited'];

// Each store: read(tags) has the events with one of the tags, and the position after
// which none may come; append(event, tags, after) returns the next one.

function eventstore() {
	const pool = new pg.Pool({ database, max: clients });
	const queryOf = (tags) => JSON.stringify(tags.map((tag) => ({ tags: [tag] })));
	return {
		async read(tags) {
			const { rows } = await pool.query({
				name: 'read',
				text: 'SELECT position, type, data FROM es_read_query($1, 0, NULL)',
				values: [queryOf(tags)],
			});
			return { events: rows, after: rows.length ? rows[rows.length - 1].position : 0 };
		},
		async append({ stream, type, data, metadata, tags: own }, tags, after) {
			const { rows } = await pool.query({
				name: 'append',
				text: 'SELECT es_append_if($1, $2, query => $3) AS position',
				values: [JSON.stringify([{ stream, type, data, metadata, tags: own }]), after, queryOf(tags)],
			});
			return rows[0].position;
		},
		close: () => pool.end(),
	};
}

async function dcbEs() {
	const { Query, SequencePosition, Tags } = await import('@dcb-es/event-store');
	const { PostgresEventStore } = await import('@dcb-es/event-store-postgres');
	const pool = new pg.Pool({ database, max: clients });
	const store = new PostgresEventStore({ pool });
	const queryOf = (tags) => Query.fromItems(tags.map((tag) => ({ types, tags: Tags.from([tag]) })));
	// the client takes a lock, and looks, for each type: where one will do, it gets one
	const conditionOf = (tags, type) =>
		Query.fromItems(tags.map((tag) => ({ types: type === 'Deposited' ? [type] : types, tags: Tags.from([tag]) })));
	return {
		setup: () => store.ensureInstalled(),
		async read(tags) {
			const events = [];
			let after = SequencePosition.initial();
			for await (const { event, position } of store.read(queryOf(tags))) {
				events.push(event);
				after = position;
			}
			return { events, after };
		},
		append: ({ type, data, metadata, tags: own }, tags, after) =>
			store.append({
				events: { type, data, metadata, tags: Tags.from(own) },
				condition: { failIfEventsMatch: conditionOf(tags, type), after: after || SequencePosition.initial() },
			}),
		close: () => pool.end(),
	};
}

async function ricofritzsche() {
	const { PostgresEventStore, createFilter, createQuery } = await import('@ricofritzsche/eventstore');
	const store = new PostgresEventStore({ connectionString: url });
	const last = new Map();		// append() does not return a position, subscribers are told it
	await store.subscribe(async (events) => events.forEach((e) => last.set(e.payload.tags[0], e.sequenceNumber)));
	const queryOf = (tags) => createQuery(...tags.map((tag) => createFilter(types, [{ tags: [tag] }])));
	return {
		setup: () => store.initializeDatabase(),
		async read(tags) {
			const { events, maxSequenceNumber } = await store.query(queryOf(tags));
			return { events: events.map((e) => ({ type: e.eventType, data: e.payload.data })), after: maxSequenceNumber };
		},
		async append({ type, data, metadata, tags: own }, tags, after) {
			await store.append([{ eventType: type, payload: { data, metadata, tags: own } }], queryOf(tags), after);
			const position = last.get(own[0]);
			last.delete(own[0]);
			return position;
		},
		close: () => store.close(),
	};
}

const makers = { eventstore, 'dcb-es': dcbEs, ricofritzsche };
const log = console.log;
console.log = () => {};			// one of them writes there
const store = await makers[name]();

const given = (variable) => JSON.parse(process.env[variable] ?? '{}');
const data = given('BENCH_DATA');
const metadata = given('BENCH_METADATA');

async function own(id, until, most) {
	let n = 0;
	let after = 0;
	for (; n < most && performance.now() < until; n++) {
		const tag = `own-${session}-${id}-${Math.floor(n / 100)}`;
		if (n % 100 === 0) after = 0;
		after = await store.append({ stream: `own-${session}-${id}`, type: 'Deposited', data, metadata, tags: [tag] }, [tag], after);
	}
	return n;
}

async function introduce(tag, type, what) {
	const { events } = await store.read([tag]);
	if (events.length) throw new Error(`${tag} is known already`);
	await store.append({ stream: tag, type, data: what, metadata: {}, tags: [tag] }, [tag], 0);
}

async function enrol(course, student) {
	const { events, after } = await store.read([course, student]);
	let capacity = 0;
	let registered = false;
	let taken = 0;
	let courses = 0;
	for (const event of events) {
		if (event.type === 'CourseDefined') capacity = event.data.capacity;
		else if (event.type === 'StudentRegistered') registered = true;
		else {
			if (event.data.course === course) taken++;
			if (event.data.student === student) courses++;
			if (event.data.course === course && event.data.student === student) throw new Error('enrolled already');
		}
	}
	if (!registered || taken >= capacity || courses >= 10) throw new Error(`${student} cannot be in ${course}`);
	const tags = [course, student];
	await store.append({ stream: course, type: 'Enrolled', data: { course, student }, metadata: {}, tags }, tags, after);
}

async function decide(n) {
	const round = `${session}-${Math.floor(n / 120)}`;
	const i = n % 120;
	const course = (c) => `course-${round}-${c}`;
	const student = (s) => `student-${round}-${s}`;
	if (i < 10) await introduce(course(i), 'CourseDefined', { course: course(i), capacity: 10 });
	else if (i < 20) await introduce(student(i - 10), 'StudentRegistered', { student: student(i - 10) });
	else await enrol(course(Math.floor((i - 20) / 10)), student((i - 20) % 10));
}

async function courses(until) {
	let n = 0;
	for (; performance.now() < until; n++) await decide(n);
	return n;
}

if (mode === 'setup') {
	await store.setup?.();
} else {
	const everyone = [...Array(clients).keys()];
	// connections
	const before = (await Promise.all(everyone.map((id) => own(`first-${id}`, Infinity, 1)))).length;
	const start = performance.now();
	const until = start + seconds * 1000;
	const counts = mode === 'own' ? await Promise.all(everyone.map((id) => own(id, until, Infinity))) : [await courses(until)];
	const n = counts.reduce((a, b) => a + b, 0);
	log((n * 1000) / (performance.now() - start), n + before);
}
await store.close();
