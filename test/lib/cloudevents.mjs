// cloudevents.mjs SDK FILE: reads each line of the file with the CloudEvents SDK for
// JavaScript, strictly, and prints what it took the event's attributes to be.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [sdk, file] = process.argv.slice(2);
const { HTTP } = createRequire(resolve(sdk, 'package.json'))('cloudevents');
for (const body of readFileSync(file, 'utf8').split('\n').filter((line) => line !== '')) {
	const event = HTTP.toEvent({ headers: { 'content-type': 'application/cloudevents+json' }, body });
	event.validate();
	const { id, source, type, subject, time, sequence, position, data } = event;
	console.log(JSON.stringify([id, source, type, subject, new Date(time).getTime(), sequence, position, data]));
}
