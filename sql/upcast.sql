-- Upcasters: old events in the form of new ones. Stored events never change.

SELECT es_append_batch('upcast_order-1', '[
	{"type": "upcast_placed", "data": {"sum": 10, "name": "Ann Smith"}},
	{"type": "upcast_other", "data": {"sum": 1}},
	{"type": "upcast_placed", "data": {"sum": 2.5, "name": "Bo"}}]') AS version;
SELECT es_register_reducer_ops('upcast_order', 'upcast_placed',
	'[{"inc": {"cents": "$.data.cents"}}, {"append": {"names": "$.data.first"}}]');
SELECT state FROM es_replay('upcast_order-1');

-- version 2 counts in cents, version 3 has the first name by itself
CREATE FUNCTION upcast_to_cents(data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT data - 'sum' || jsonb_build_object('cents', (data->>'sum')::numeric * 100) $$;
SELECT es_register_upcaster('upcast_placed', 1, 'upcast_to_cents(jsonb)');
SELECT state FROM es_replay('upcast_order-1');
SELECT es_register_upcaster_ops('upcast_placed', 2, '[{"set": {"first": "$.data.name"}}, {"unset": ["name"]}]');
SELECT state FROM es_replay('upcast_order-1');
SELECT version, state FROM es_replay_steps('upcast_order-1');
SELECT es_fold('upcast_order', e ORDER BY e.version) FROM es_events e WHERE stream = 'upcast_order-1';

-- the event itself, as the newest form has it and as it is stored
SELECT u.version, u.type, u.type_version, u.data FROM es_read('upcast_order-1') e, es_upcast(e) u;
SELECT version, type, type_version, data FROM es_read('upcast_order-1');

-- an event that is in the newest form already is left as it is; a version without an upcaster needs no change
SELECT (es_upcast(es_upcast(e))).data = (es_upcast(e)).data AS same FROM es_read('upcast_order-1') e;
SELECT t, (es_upcast(ROW(1, 's', 1, 'upcast_placed', t, '{"sum": 1, "name": "x"}', '{}', NULL, NULL)::es_event)).*
	FROM generate_series(1, 4) t;
SELECT es_register_upcaster_ops('upcast_gap', 5, '{"set": {"from": 5}}');
SELECT (es_upcast(ROW(1, 's', 1, 'upcast_gap', t, '{}', '{}', NULL, NULL)::es_event)).* FROM generate_series(4, 6) t;
SELECT es_upcast(NULL), (es_upcast(ROW(1, 's', 1, NULL, 1, '{"sum": 1}', '{}', NULL, NULL)::es_event)).data;

-- in operations the state is the data, and $.data is what it was before
SELECT es_register_upcaster_ops('upcast_swap', 1, '[{"set": {"a": "$.state.b", "b": "$.state.a"}}, {"set": {"was": "$.data", "is": "$.state.a", "v": "$.version"}}]');
SELECT data FROM es_upcast(ROW(1, 's', 7, 'upcast_swap', 1, '{"a": 1, "b": 2}', '{}', NULL, NULL)::es_event);

-- registering again replaces; a rollback takes it back
BEGIN;
SELECT es_register_upcaster_ops('upcast_placed', 1, '{"set": {"cents": 1}}');
SELECT state FROM es_replay('upcast_order-1');
ROLLBACK;
SELECT state FROM es_replay('upcast_order-1');

-- functions and operations see upcast events, too
CREATE FUNCTION upcast_note(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT state || jsonb_build_object(event.version::text, jsonb_build_array(event.type_version, event.data)) $$;
SELECT es_register_reducer('upcast_note', '*', 'upcast_note(jsonb, es_event)');
SELECT state FROM es_replay('upcast_order-1', 'upcast_note');
SELECT state->'data' AS data, state->'type_version' AS type_version FROM es_replay('upcast_order-1', 'last');

-- what fails is VE009, with the upcaster and the event named
CREATE FUNCTION upcast_fail(data jsonb) RETURNS jsonb
	LANGUAGE plpgsql AS $$ BEGIN IF data ? 'null' THEN RETURN NULL; END IF; RAISE 'cannot upcast' USING DETAIL = 'No idea how.', HINT = 'Ask.'; END $$;
SELECT es_register_upcaster('upcast_failing', 1, 'upcast_fail(jsonb)');
SELECT es_append('upcast_failing-1', 'upcast_failing', type_version => 1) AS version;
SELECT * FROM es_replay('upcast_failing-1', 'merge');
SELECT es_upcast(e) FROM es_read('upcast_failing-1') e;
SELECT es_append('upcast_failing-2', 'upcast_failing', '{"null": 1}', type_version => 1) AS version;
SELECT * FROM es_replay('upcast_failing-2', 'merge');
SELECT es_register_upcaster_ops('upcast_failing', 1, '{"inc": {"null": "$.data.null / 0"}}');
SELECT * FROM es_replay('upcast_failing-2', 'merge');
SELECT es_register_upcaster('upcast_failing', 1, 'upcast_fail(jsonb)');
DROP FUNCTION upcast_fail;
SELECT * FROM es_replay('upcast_failing-2', 'merge');
SELECT es_register_upcaster_ops('upcast_failing', 1, '"ignore"');
SELECT state FROM es_replay('upcast_failing-2', 'merge');

-- events that a reducer ignores are not upcast for it
SELECT es_append('upcast_ignored-1', 'upcast_ignored') AS version;
SELECT es_register_upcaster_ops('upcast_ignored', 1, '{"inc": {"a": "$.data.none / 0"}}');
SELECT es_register_reducer_ops('upcast_ignored', 'another', '"merge"');
SELECT version, state FROM es_replay('upcast_ignored-1');
\set VERBOSITY sqlstate
SELECT version, state FROM es_replay('upcast_ignored-1', 'merge');
\set VERBOSITY default
SELECT es_register_upcaster_ops('upcast_ignored', 1, '"ignore"');

-- what is no upcaster
SELECT es_register_upcaster('upcast_placed', 1, 'upcast_note(jsonb, es_event)');
SELECT es_register_upcaster('upcast_placed', 0, 'upcast_to_cents(jsonb)');
SELECT es_register_upcaster_ops('upcast_placed', 1, '{"set": {"a": "$.data["}}');
\set VERBOSITY sqlstate
SELECT es_register_upcaster(NULL, 1, 'upcast_to_cents(jsonb)');
SELECT es_register_upcaster('upcast_placed', NULL, 'upcast_to_cents(jsonb)');
SELECT es_register_upcaster('upcast_placed', 1, NULL);
SELECT es_register_upcaster('upcast_placed', 1, 0);
SELECT es_register_upcaster_ops('upcast_placed', 2147483647, '"ignore"');
SELECT es_register_upcaster('$upcast', 1, 'upcast_to_cents(jsonb)');
SELECT es_register_upcaster_ops('upcast_placed', 1, NULL);
UPDATE eventstore.upcasters SET from_version = 7;
BEGIN READ ONLY;
SELECT es_register_upcaster_ops('upcast_placed', 1, '"ignore"');
ROLLBACK;
\set VERBOSITY default

-- functions run as the caller, who needs EXECUTE
CREATE ROLE regress_upcast_user;
REVOKE EXECUTE ON FUNCTION upcast_to_cents FROM PUBLIC;
SELECT es_grant('regress_upcast_user', 'read', 'upcast_order'), es_grant('regress_upcast_user', 'admin');
SET ROLE regress_upcast_user;
SELECT state FROM es_replay('upcast_order-1', 'merge');
SELECT es_register_upcaster('upcast_placed', 1, 'upcast_to_cents(jsonb)');
RESET ROLE;
DROP ROLE regress_upcast_user;

SELECT count(es_drop_reducer(reducer)) FROM (SELECT DISTINCT reducer FROM es_reducers WHERE reducer LIKE 'upcast%') r;
SELECT es_register_upcaster_ops('upcast_placed', 1, '"ignore"');
DROP FUNCTION upcast_to_cents, upcast_note;
