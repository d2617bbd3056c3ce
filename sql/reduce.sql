-- Reducers: creating, registering, dropping.
-- A reducer folds the events of a stream into a state. Handlers are functions
-- f(state S, event es_event) RETURNS S or f(state S, data jsonb) RETURNS S.

CREATE TYPE reduce_total AS (orders int, amount numeric);

CREATE FUNCTION reduce_placed(state reduce_total, data jsonb) RETURNS reduce_total
	LANGUAGE sql IMMUTABLE AS
$$ SELECT ROW(coalesce(state.orders, 0) + 1, coalesce(state.amount, 0) + (data->>'amount')::numeric)::reduce_total $$;

CREATE FUNCTION reduce_note(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN RETURN state || jsonb_build_object(event.type, event.version); END $$;

-- with all defaults, and with none
SELECT es_create_reducer('reduce_plain');
SELECT es_create_reducer('reduce_total', '{"orders": 0, "amount": 0}', 'reduce_total', 'error');
SELECT es_register_reducer('reduce_total', 'placed', 'reduce_placed(reduce_total, jsonb)');

-- registering alone creates a reducer with the defaults; '*' is for all other types
SELECT es_register_reducer('reduce_notes', '*', 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer('reduce_notes', 'special', 'reduce_note(jsonb, es_event)');

SELECT * FROM es_reducers WHERE reducer LIKE 'reduce%' ORDER BY reducer, event_type COLLATE "C";

-- registering again replaces
CREATE FUNCTION reduce_other(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT state $$;
SELECT es_register_reducer('reduce_notes', 'special', 'reduce_other(jsonb, jsonb)');
SELECT event_type, handler FROM es_reducers WHERE reducer = 'reduce_notes' ORDER BY event_type COLLATE "C";

-- what cannot be a reducer
SELECT es_create_reducer('reduce_plain');
SELECT es_create_reducer('merge');
SELECT es_create_reducer('reduce_bad', on_unknown => 'panic');
SELECT es_create_reducer('reduce_bad', state_type => 'anyelement');
-- what is a session's own means something else in another one
CREATE TYPE pg_temp.reduce_state AS (n int);
CREATE TEMP TABLE reduce_row (n int);
SELECT es_create_reducer('reduce_bad', state_type => 'pg_temp.reduce_state');
SELECT es_create_reducer('reduce_bad', state_type => 'reduce_row[]');
SELECT es_create_reducer('reduce_bad', '{"orders": "many"}', 'reduce_total');
SELECT es_create_reducer('');
SELECT es_create_reducer(E'reduce\tbad');
SELECT es_create_reducer(repeat('x', 513));
SELECT es_create_reducer(NULL);
SELECT es_create_reducer('reduce_bad', state_type => NULL);
SELECT es_create_reducer('reduce_bad', on_unknown => NULL);

-- what cannot be a handler
CREATE FUNCTION reduce_one(state jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
CREATE FUNCTION reduce_text(state jsonb, data text) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
CREATE FUNCTION reduce_set(state jsonb, data jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT state $$;
CREATE FUNCTION reduce_any(state anyelement, data jsonb) RETURNS anyelement LANGUAGE sql AS $$ SELECT state $$;
CREATE PROCEDURE reduce_procedure(state jsonb, data jsonb) LANGUAGE sql AS $$ SELECT $$;
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_one(jsonb)');
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_placed(reduce_total, jsonb)');
\set VERBOSITY sqlstate
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_text(jsonb, text)');
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_set(jsonb, jsonb)');
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_any(anyelement, jsonb)');
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_procedure(jsonb, jsonb)');
SELECT es_register_reducer('reduce_total', 'a', 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer('reduce_new', 'a', 'reduce_placed(reduce_total, jsonb)');
SELECT es_register_reducer('reduce_notes', 'a', 0);
SELECT es_register_reducer('merge', 'a', 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer('reduce_notes', '$a', 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer('reduce_notes', '', 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer(NULL, 'a', 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer('reduce_notes', NULL, 'reduce_note(jsonb, es_event)');
SELECT es_register_reducer('reduce_notes', 'a', NULL);
\set VERBOSITY default
SELECT count(*) AS made_by_failures FROM es_reducers WHERE reducer IN ('reduce_bad', 'reduce_new');

-- the tables are the functions' own: nobody changes rows by hand
\set VERBOSITY sqlstate
UPDATE eventstore.reducers SET on_unknown = 'error';
DELETE FROM eventstore.reducer_handlers;
TRUNCATE eventstore.reducers;
\set VERBOSITY default

-- but the owner may bring rows, as a restore does, and they hold at once
SELECT es_append('reduce_brought-1', 'noted') AS version;
INSERT INTO eventstore.reducers VALUES ('reduce_brought', '{}', 'pg_catalog.jsonb', 'ignore');
SELECT state FROM es_replay('reduce_brought-1');
INSERT INTO eventstore.reducer_handlers
	SELECT 'reduce_brought', 'noted', handler FROM eventstore.reducer_handlers
	WHERE reducer = 'reduce_notes' AND event_type = '*';
SELECT state FROM es_replay('reduce_brought-1');

-- a rollback takes a change back, also for the session that made it
BEGIN;
SELECT es_drop_reducer('reduce_brought');
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT state FROM es_replay('reduce_brought-1');
\set VERBOSITY default
ROLLBACK TO s;
SELECT es_register_reducer('reduce_brought', 'noted', 'reduce_other(jsonb, jsonb)');
SELECT state FROM es_replay('reduce_brought-1');
ROLLBACK;
SELECT state FROM es_replay('reduce_brought-1');

-- not in a read-only transaction
BEGIN READ ONLY;
SELECT es_create_reducer('reduce_bad');
ROLLBACK;

-- registering needs EXECUTE on the handler, as replaying does
CREATE ROLE regress_reduce_user;
REVOKE EXECUTE ON FUNCTION reduce_note FROM PUBLIC;
SELECT es_grant('regress_reduce_user', 'admin');
SET ROLE regress_reduce_user;
SELECT es_register_reducer('reduce_notes', 'a', 'reduce_note(jsonb, es_event)');
RESET ROLE;
DROP ROLE regress_reduce_user;

-- temporary functions would soon be somebody else's
CREATE FUNCTION pg_temp.reduce_temp(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
\set VERBOSITY sqlstate
SELECT es_register_reducer('reduce_notes', 'a', 'pg_temp.reduce_temp(jsonb, jsonb)');
SELECT es_register_upcaster('reduce_notes', 1, 'pg_temp.reduce_temp(jsonb, jsonb)');
\set VERBOSITY default

-- names are kept, and found again, whatever the session's settings are
SELECT es_append('reduce_quoted-1', 'noted') AS version;
SET quote_all_identifiers = on;
SELECT es_register_reducer('reduce_quoted', 'noted', 'reduce_note(jsonb, es_event)');
SELECT handler FROM es_reducers WHERE reducer = 'reduce_quoted';
RESET quote_all_identifiers;
SELECT state FROM es_replay('reduce_quoted-1');
SET quote_all_identifiers = on;
SELECT es_create_reducer('reduce_quoted_total', state_type => 'reduce_total');
SELECT state FROM es_replay('reduce_quoted-1');
RESET quote_all_identifiers;
SELECT state_type FROM es_reducers WHERE reducer = 'reduce_quoted_total';

-- a type that goes takes the reducer's state type with it
CREATE TYPE reduce_short AS (a int);
SELECT es_create_reducer('reduce_short', NULL, 'reduce_short');
SELECT * FROM es_reducers WHERE reducer = 'reduce_short';
DROP TYPE reduce_short;
SELECT * FROM es_reducers WHERE reducer = 'reduce_short';
SELECT * FROM es_replay('reduce_brought-1', 'reduce_short');

-- dropping
SELECT es_drop_reducer('reduce_unknown');
SELECT es_drop_reducer('count');
SELECT es_drop_reducer(reducer) FROM (SELECT DISTINCT reducer FROM es_reducers WHERE reducer LIKE 'reduce%' ORDER BY 1) r;
SELECT count(*) AS left_over FROM eventstore.reducer_handlers WHERE reducer LIKE 'reduce%';

DROP FUNCTION reduce_placed, reduce_note, reduce_other, reduce_one, reduce_text, reduce_set, reduce_any;
DROP PROCEDURE reduce_procedure;
DROP TYPE reduce_total;
