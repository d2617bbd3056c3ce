/* ---- finding: what es_doctor's looks take and give ---- */

/*
 * Looks are functions eventstore.look_at_SUBJECT(visit), a part each, in SQL that the doctor runs as the extension's owner. They
 * pin their search_path, so names in them need not be qualified. Of a finding severity and sentence stand side by side
 * as literals, which lint/findings holds against the manual. What is not of the server, but written by whoever may
 * append, is told only if the visit says so.
 */
CREATE TYPE eventstore.finding AS (severity text, finding text, detail text, remedy text);
COMMENT ON TYPE eventstore.finding IS 'a row of es_doctor()';

CREATE TYPE eventstore.visit AS (asker oid, reads boolean, patience interval, preloaded boolean, standby boolean, subscriber boolean,
	loading boolean, home text);
COMMENT ON TYPE eventstore.visit IS
	'who asks es_doctor(), whether he may read all events, how long something may take, how the server runs, the schema of es_* functions, quoted';
