// schema.mjs MODE SECONDS
//
// Holds $BENCH_ORDER against $BENCH_SCHEMA, compiled once, by ajv, and prints µs each:
// MODE object of what JSON.parse gave before, text with JSON.parse each time.
import Ajv from 'ajv/dist/2020.js';

const [mode, seconds] = process.argv.slice(2);
const validate = new Ajv.default({ validateFormats: false }).compile(JSON.parse(process.env.BENCH_SCHEMA));
const text = process.env.BENCH_ORDER;
const parsed = JSON.parse(text);
const round = 10000;
const hold = mode === 'text' ? () => validate(JSON.parse(text)) : () => validate(parsed);

// what it took: nanoseconds of so many
function time(count) {
	const start = process.hrtime.bigint();
	for (let i = 0; i < count; i++) {
		if (!hold()) {
			throw new Error(JSON.stringify(validate.errors));
		}
	}
	return Number(process.hrtime.bigint() - start);
}

time(round);
let count = 0;
let spent = 0;
while (spent < Number(seconds) * 1e9) {
	spent += time(round);
	count += round;
}
console.log((spent / count / 1000).toFixed(3));
