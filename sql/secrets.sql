-- Secrets: fields of events that are encrypted with a key of their subject.

-- failure(statement): state, message, detail and hint of a statement that must fail
CREATE FUNCTION pg_temp.failure(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	detail := regexp_replace(detail, 'position \d+', 'position <n>');
END
$$;
-- shape(data): stored data with each encrypted field shown as <secret>
CREATE FUNCTION pg_temp.shape(data jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(data::text, '"\$secret:[A-Za-z0-9+/=]*"', '<secret>', 'g')
$$;

-- what is appended before stays as it is
SELECT es_append('secrets_a-1', 'Signed', '{"id": 1, "email": "before@example.org", "note": "$secret:none"}');
SELECT es_protect('secrets_a', '{$.data.email,$.data.note,$.data.address,$.data.phones[*].number}', '$.data.id');
SELECT category, paths, subject, hashed FROM es_protections;
SELECT es_append('secrets_a-1', 'Signed', '{"id": 1, "email": "ann@example.org", "name": "Ann"}'),
	es_append('secrets_a-1', 'Moved', '{"id": 1, "address": {"street": "Elm", "no": 7}, "name": "Ann"}'),
	es_append('secrets_a-1', 'Called', '{"id": 1, "phones": [{"number": 123, "kind": "home"}, [{"number": null}], {"kind": "none"}]}'),
	es_append('secrets_a-1', 'Noted', '{"note": "$secret:none", "id": "1", "email": ["a", {"b": 1.50}], "address": true}'),
	es_append('secrets_a-1', 'Nothing', '{"name": "nobody"}'), es_append('secrets_a-1', 'Scalar', '7'),
	es_append('secrets_a-1', 'Empty', '{"id": 1, "email": "", "address": {}, "phones": {"number": []}}');

-- every way of reading gives plain data; what is stored is not
SELECT version, pg_temp.shape(data) FROM eventstore.events WHERE stream = 'secrets_a-1' ORDER BY version;
SELECT version, data FROM es_read('secrets_a-1');
SELECT version, data FROM es_events WHERE stream = 'secrets_a-1' AND data->>'email' LIKE 'ann%';
SELECT count(*) FROM es_read('secrets_a-1') r JOIN es_events e USING (position, data) JOIN es_read_category('secrets_a') c USING (position, data)
	JOIN es_read_all(0, NULL, ARRAY['secrets_a']) a USING (position, data);
SELECT es_append('secrets_a-2', 'Signed', '{"id": 2, "email": "bob@example.org"}', event_id => '5ec7e700-0000-4000-8000-000000000001');
SELECT data FROM es_find_event('secrets_a-2', '5ec7e700-0000-4000-8000-000000000001');
SELECT data FROM es_read('secrets_a-2', backwards => true);
SELECT es_subscribe('secrets_all', categories => '{secrets_a}');
SELECT version, data FROM es_poll('secrets_all') WHERE stream = 'secrets_a-2';
SELECT es_unsubscribe('secrets_all');
SELECT version, pg_temp.shape(data) FROM es_feed_history(0, 100, '{secrets_a}', NULL, NULL, NULL, NULL) WHERE stream = 'secrets_a-2';
-- no two encrypted fields are alike
SELECT count(es_append('secrets_a-same', 'T', '{"id": 3, "email": "same"}')) FROM generate_series(1, 50);
SELECT count(*), count(DISTINCT data->>'email') FROM eventstore.events WHERE stream = 'secrets_a-same';

-- every way of appending encrypts, and gives back what it was given
SELECT es_append_batch('secrets_a-4', '[{"type": "T", "data": {"id": 4, "email": "batch"}}, {"type": "T", "data": {"id": 5, "email": "other"}}]'),
	es_append_events('secrets_a-4', ARRAY[('T', '{"id": 4, "email": "events"}', NULL, NULL)]::es_new_event[]);
SELECT stream, version FROM es_append_many('[{"stream": "secrets_a-4", "type": "T", "data": {"id": 4, "email": "many"}}, {"stream": "secrets_b-4", "type": "T", "data": {"email": "plain"}}]');
SELECT es_append_if('[{"stream": "secrets_a-4", "type": "T", "data": {"id": 4, "email": "if"}}]', es_last_position()) > 0;
INSERT INTO es_events (stream, type, data) VALUES ('secrets_a-4', 'T', '{"id": 4, "email": "returning"}') RETURNING version, data;
INSERT INTO es_events (stream, type, data) SELECT 'secrets_a-4', 'T', '{"id": 4, "email": "insert"}';
COPY es_events (stream, type, data) FROM stdin;
secrets_a-4	T	{"id": 4, "email": "copy"}
secrets_b-4	T	{"id": 4, "email": "copy"}
\.
SELECT stream, version, data, pg_temp.shape(e.data) FROM es_events e WHERE stream IN ('secrets_a-4', 'secrets_b-4') ORDER BY stream, version;
SELECT stream, version, pg_temp.shape(data) FROM eventstore.events WHERE stream IN ('secrets_a-4', 'secrets_b-4') ORDER BY stream, version;

-- a retry is compared plain
SELECT es_append('secrets_a-2', 'Signed', '{"id": 2, "email": "bob@example.org"}', event_id => '5ec7e700-0000-4000-8000-000000000001');
SELECT f.state, f.detail FROM pg_temp.failure($$SELECT es_append('secrets_a-2', 'Signed', '{"id": 2, "email": "rob@example.org"}', event_id => '5ec7e700-0000-4000-8000-000000000001')$$) f;
INSERT INTO es_events (stream, type, data, event_id) VALUES ('secrets_a-2', 'Signed', '{"id": 2, "email": "bob@example.org"}', '5ec7e700-0000-4000-8000-000000000001');
SELECT es_stream_version('secrets_a-2');

-- schemas see plain data
SELECT es_register_schema('SecretsTyped', '{"type": "object", "properties": {"email": {"type": "string", "maxLength": 5}}}');
SELECT es_append('secrets_a-5', 'SecretsTyped', '{"id": 5, "email": "short"}');
SELECT f.state FROM pg_temp.failure($$SELECT es_append('secrets_a-5', 'SecretsTyped', '{"id": 5, "email": "longer"}')$$) f;
-- upcasters too
SELECT es_register_upcaster_ops('SecretsOld', 1, '{"set": {"mail": "$.data.email"}}');
SELECT es_append('secrets_a-5', 'SecretsOld', '{"id": 5, "email": "five@example.org"}', type_version => 1);
SET eventstore.upcast = on;
SELECT type_version, data FROM es_read('secrets_a-5', 2);
RESET eventstore.upcast;

-- subjects
SELECT data, f.state, f.message, f.detail FROM unnest(ARRAY['{"email": "x"}', '{"id": null, "email": "x"}', '{"id": true, "email": "x"}', '{"id": [1], "email": "x"}',
	'{"id": {"a": 1}, "email": "x"}', '{"id": "", "email": "x"}', '{"id": "a\u0001", "email": "x"}']) data,
	pg_temp.failure(format($$SELECT es_append('secrets_a-6', 'T', %L)$$, data)) f;
SELECT f.state, f.message FROM pg_temp.failure(format($$SELECT es_append('secrets_a-6', 'T', %L)$$, jsonb_build_object('id', repeat('x', 513), 'email', 1))) f;
SELECT es_append('secrets_a-6', 'T', '{"id": 6.0, "email": "a number"}'), es_append('secrets_a-6', 'T', '{"id": "6.0", "email": "a string"}'), es_append('secrets_a-6', 'T', '{"id": 6e0, "email": 1}');
SELECT subject, count(*) FROM eventstore.subjects WHERE subject LIKE '6%' GROUP BY 1 ORDER BY 1;
SELECT subject, created_at <= now() AS at, shredded_at, hashed FROM es_subjects ORDER BY subject;

-- arguments
SELECT args, f.state, f.message, f.detail, f.hint FROM unnest(ARRAY[
	$$NULL, '{$.data.x}', '$.data.id'$$, $$'secrets_x', NULL, '$.data.id'$$, $$'secrets_x', '{$.data.x}', NULL$$, $$'secrets_x', '{NULL}', '$.data.id'$$,
	$$'secrets-x', '{$.data.x}', '$.data.id'$$, $$'', '{$.data.x}', '$.data.id'$$, $$'secrets_x', '{{$.data.x},{$.data.y}}', '$.data.id'$$,
	$$'secrets_x', '{$.data}', '$.data.id'$$, $$'secrets_x', '{$}', '$.data.id'$$, $$'secrets_x', '{data.x}', '$.data.id'$$, $$'secrets_x', '{""}', '$.data.id'$$,
	$$'secrets_x', '{$.metadata.x}', '$.data.id'$$, $$'secrets_x', '{$.stream}', '$.data.id'$$, $$'secrets_x', '{$.dta.x}', '$.data.id'$$, $$'secrets_x', '{$.state.x}', '$.data.id'$$,
	$$'secrets_x', '{$.data.*}', '$.data.id'$$, $$'secrets_x', '{$.data.x[0]}', '$.data.id'$$, $$'secrets_x', '{$.data.**.x}', '$.data.id'$$, $$'secrets_x', '{$.data.x.size()}', '$.data.id'$$,
	$$'secrets_x', '{$.data.x ? (@ > 1)}', '$.data.id'$$, $$'secrets_x', '{strict $.data.x}', '$.data.id'$$, $$'secrets_x', '{$.data.x[}', '$.data.id'$$, $$'secrets_x', '{$.data[*]}', '$.data.id'$$,
	$$'secrets_x', '{$.data.x,$.data.x}', '$.data.id'$$, $$'secrets_x', ARRAY['$.data.x', '$.data."x"'], '$.data.id'$$, $$'secrets_x', '{$.data.x[*],$.data.x}', '$.data.id'$$,
	$$'secrets_x', '{$.data.x,$.data.x.y}', '$.data.id'$$, $$'secrets_x', '{$.data.x[*].y.z,$.data.x.y}', '$.data.id'$$,
	$$'secrets_x', '{$.data.x}', 'id'$$, $$'secrets_x', '{$.data.x}', '$.dta.id'$$, $$'secrets_x', '{$.data.x}', '$.position'$$, $$'secrets_x', '{$.data.x}', '$.state.id'$$, $$'secrets_x', '{$.data.x}', '$.data.$x'$$,
	$$'secrets_x', '{}', 'id'$$, $$'secrets_a', '{$.data.address.street}', '$.data.id'$$
	]) args, pg_temp.failure(format('SELECT es_protect(%s)', args)) f;
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_protect('secrets_x', (SELECT array_agg('$.data.x' || n) FROM generate_series(1, 1001) n), '$.stream')$$) f;
-- "*" is no way to say all categories; to take back what an earlier release took it for is
SELECT f.state, f.message, f.hint FROM pg_temp.failure($$SELECT es_protect('*', '{$.data.email}', '$.data.id')$$) f;
SELECT es_protect('*', '{}', NULL);
SELECT count(*) FROM es_protections WHERE category = '*';
SELECT args, f.state, f.message FROM unnest(ARRAY[$$NULL, 'T', '{}'$$, $$'s', NULL, '{}'$$, $$'', 'T', '{}'$$]) args, pg_temp.failure(format('SELECT es_reveal(%s)', args)) f;
SELECT es_reveal('secrets_a-1', 'T', NULL) IS NULL AS null, es_reveal('secrets_a-1', 'T', '{"email": "plain", "name": "$secret:none"}') AS plain, es_reveal('secrets_none', 'T', '{"email": 1}') AS other;
SELECT f.state, f.message FROM pg_temp.failure('SELECT es_shred(NULL)') f;
SELECT f.state, f.message, f.detail FROM pg_temp.failure($$SELECT es_shred('nobody')$$) f;
SELECT f.state, f.message FROM pg_temp.failure('SELECT es_rotate_master_key(NULL)') f;

-- more paths, in the place of what is in them, and another subject, from now on
SELECT es_protect('secrets_c', '{$.data.a.b}', '$.stream');
SELECT es_append('secrets_c-1', 'T', '{"a": {"b": "1", "c": "1"}, "d": "1"}');
SELECT es_protect('secrets_c', '{$.data.a,$.data.d}', '$.metadata.who');
SELECT category, paths, subject FROM es_protections WHERE category = 'secrets_c';
SELECT es_append('secrets_c-1', 'T', '{"a": {"b": "2", "c": "2"}, "d": "2"}', '{"who": "me"}');
SELECT es_protect('secrets_c', '{$.data.d}', '$.metadata.who');
SELECT count(*) FROM eventstore.protections WHERE category = 'secrets_c';
-- nothing, from now on
SELECT es_protect('secrets_c', '{}', NULL), es_protect('secrets_c', '{}', '$.stream'), es_protect('secrets_never', '{}', NULL);
SELECT category FROM es_protections ORDER BY category;
SELECT es_append('secrets_c-1', 'T', '{"a": {"b": "3", "c": "3"}, "d": "3"}');
SELECT version, pg_temp.shape(data) FROM eventstore.events WHERE stream = 'secrets_c-1' ORDER BY version;
SELECT version, data FROM es_read('secrets_c-1');
SELECT version, es_reveal('secrets_c-1', 'T', e.data) = r.data AS same FROM eventstore.events e JOIN es_read('secrets_c-1') r USING (version) WHERE e.stream = 'secrets_c-1';
-- what is encrypted cannot be taken for plain
SELECT f.state, f.message, f.detail FROM pg_temp.failure($$SELECT es_append('secrets_c-2', 'T', data) FROM eventstore.events WHERE stream = 'secrets_c-1' AND version = 2$$) f;
SELECT es_protect('secrets_c', '{$.data.a}', '$.stream');
SELECT es_append('secrets_c-1', 'T', '{"a": 4, "d": 4}');
SELECT f.state FROM pg_temp.failure($$SELECT es_append('secrets_c-2', 'T', data) FROM eventstore.events WHERE stream = 'secrets_c-1' AND version = 2$$) f;
SELECT version, data FROM es_read('secrets_c-1');

-- an encrypted field is that of its event and its place
SELECT what, f.state, f.message, f.detail FROM (SELECT data->>'email' AS email, data FROM eventstore.events WHERE stream = 'secrets_a-1' AND version = 2) e,
	LATERAL (VALUES ('as it is', 'secrets_a-1', 'Signed', jsonb_build_object('email', email)), ('other stream', 'secrets_a-2', 'Signed', jsonb_build_object('email', email)),
		('other type', 'secrets_a-1', 'Moved', jsonb_build_object('email', email)), ('other path', 'secrets_a-1', 'Signed', jsonb_build_object('note', email)),
		('into an array', 'secrets_a-1', 'Signed', jsonb_build_object('phones', jsonb_build_array(jsonb_build_object('number', email)))),
		('a bit', 'secrets_a-1', 'Signed', jsonb_build_object('email', overlay(email placing CASE substr(email, 100, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 100 for 1))),
		('cut', 'secrets_a-1', 'Signed', jsonb_build_object('email', left(email, -1))), ('no more than the marker', 'secrets_a-1', 'Signed', '{"email": "$secret:"}'),
		('not protected', 'secrets_a-1', 'Signed', jsonb_build_object('id', email))) v(what, stream, type, data),
	pg_temp.failure(format('SELECT es_reveal(%L, %L, %L)', stream, type, v.data)) f;
SELECT es_reveal('secrets_a-1', 'Signed', data) FROM eventstore.events WHERE stream = 'secrets_a-1' AND version = 2;

-- a subject that is itself protected is known by a keyed hash
SELECT es_protect('secrets_h', '{$.data.email,$.data.name}', '$.data.email');
SELECT es_append('secrets_h-1', 'T', '{"email": "hash@example.org", "name": "H"}'), es_append('secrets_h-2', 'T', '{"email": "hash@example.org", "name": "H"}'), es_append('secrets_h-3', 'T', '{"email": "other@example.org", "name": "O"}');
SELECT count(*), count(DISTINCT subject), bool_and(subject ~ '^[0-9a-f]{64}$') FROM es_subjects WHERE hashed;
SELECT es_shred('hash@example.org');
SELECT stream, data FROM es_read_category('secrets_h');
SELECT f.state FROM pg_temp.failure($$SELECT es_append('secrets_h-4', 'T', '{"email": "hash@example.org"}')$$) f;

-- a shredded subject's fields are null for ever, and there will be no others
SELECT es_append('secrets_a-7', 'T', '{"id": 7, "email": "seven", "name": "S"}', event_id => '5ec7e700-0000-4000-8000-000000000007');
BEGIN;
SELECT es_shred('7');
SELECT data FROM es_read('secrets_a-7');
SELECT es_append('secrets_a-7', 'T', '{"id": 7, "name": "no field of it"}');
ROLLBACK;
SELECT data FROM es_read('secrets_a-7');
SELECT es_shred('7'), es_shred('1');
SELECT es_shred('7');
SELECT data FROM es_read('secrets_a-7');
SELECT data FROM es_events WHERE stream IN ('secrets_a-7', 'secrets_a-1') ORDER BY stream, version;
SELECT es_reveal('secrets_a-7', 'T', data) FROM eventstore.events WHERE stream = 'secrets_a-7';
SELECT subject, shredded_at >= created_at AS shredded FROM es_subjects WHERE shredded_at IS NOT NULL AND NOT hashed ORDER BY subject;
SELECT count(*) FROM eventstore.subjects WHERE subject IN ('1', '7') AND wrapped IS NOT NULL;
SELECT f.state, f.message, f.detail, f.hint FROM pg_temp.failure($$SELECT es_append('secrets_a-7', 'T', '{"id": 7, "email": "again"}')$$) f;
SELECT f.state FROM pg_temp.failure($$SELECT es_append('secrets_a-7', 'T', '{"id": 7, "email": "again"}', event_id => '5ec7e700-0000-4000-8000-000000000008')$$) f;
SELECT es_append('secrets_a-7', 'T', '{"id": 7, "name": "without"}');
-- a retry of what is stored is still one: of the fields there is nothing left to compare
SELECT es_append('secrets_a-7', 'T', '{"id": 7, "email": "seven", "name": "S"}', event_id => '5ec7e700-0000-4000-8000-000000000007'),
	es_append('secrets_a-7', 'T', '{"id": 7, "email": "whatever", "name": "S"}', event_id => '5ec7e700-0000-4000-8000-000000000007');
SELECT data, f.state FROM unnest(ARRAY['{"id": 7, "email": "seven", "name": "other"}', '{"id": 7, "name": "S"}']) data,
	pg_temp.failure(format($$SELECT es_append('secrets_a-7', 'T', %L, event_id => '5ec7e700-0000-4000-8000-000000000007')$$, data)) f;

-- projections: no key from a protected field
SELECT es_register_reducer_ops('secrets_count', '*', '{"inc": {"n": 1}}');
SELECT key, f.state, f.message, f.detail, f.hint FROM unnest(ARRAY['$.data.email', '$.data.address.street', '{"T": "$.data.note"}', '{"*": "$.data.phones[0].number"}', '$.data.*']) key,
	pg_temp.failure(format($$SELECT es_create_projection('secrets_by', 'secrets_count', category => 'secrets_a', key => %L)$$, key)) f;
SELECT f.state FROM pg_temp.failure($$SELECT es_create_projection('secrets_by', 'secrets_count', key => '$.data.email')$$) f;
SELECT es_create_projection('secrets_by', 'secrets_count', category => 'secrets_d', key => '$.data.email');
SELECT f.state, f.message, f.detail, f.hint FROM pg_temp.failure($$SELECT es_protect('secrets_d', '{$.data.email}', '$.stream')$$) f;
SELECT es_protect('secrets_d', '{$.data.name}', '$.stream');
SELECT es_drop_projection('secrets_by');

-- too large when it is encrypted, though not before
SET eventstore.max_event_size = '255MB';
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_append('secrets_a-8', 'T', jsonb_build_object('id', 8, 'email', repeat('x', 200 * 1024 * 1024)))$$) f;
RESET eventstore.max_event_size;
SELECT es_append('secrets_a-8', 'T', jsonb_build_object('id', 8, 'email', repeat('long ', 100000)));
SELECT length(data->>'email') FROM es_read('secrets_a-8');

-- deep down: the arrays around a field are not made anew one in the other
SELECT es_protect('secrets_deep', '{$.data.a.x}', '$.stream');
SELECT es_append('secrets_deep-1', 'T', jsonb_build_object('a', (repeat('[', 6000) || '{"x": "' || repeat('z', 1000000) || '"}, {"x": 2}' || repeat(']', 6000))::jsonb));
SELECT length(data::text), right(data::text, -1005000) LIKE '%"x": 2%' AS end FROM es_read('secrets_deep-1');
SELECT count(*) FROM es_read('secrets_deep-1') r JOIN es_events e USING (position, data);

-- rights
CREATE ROLE secrets_reader;
CREATE ROLE secrets_admin;
CREATE ROLE secrets_keeper;
SELECT es_grant('secrets_reader', 'read', 'secrets_a'), es_grant('secrets_admin', 'admin', 'secrets_a'), es_grant('secrets_keeper', 'admin');
SET ROLE secrets_reader;
SELECT data FROM es_read('secrets_a-2');
SELECT data FROM es_events WHERE stream IN ('secrets_a-2', 'secrets_c-1');
SELECT es_reveal('secrets_a-2', 'T', '{"email": "plain"}');
SELECT category FROM es_protections;
SELECT count(*) FROM es_subjects;
SELECT call, f.state, f.message FROM unnest(ARRAY[$$es_reveal('secrets_c-1', 'T', '{}')$$, $$es_protect('secrets_a', '{$.data.x}', '$.stream')$$, $$es_shred('2')$$, $$es_rotate_master_key('true')$$]) call,
	pg_temp.failure('SELECT ' || call) f;
SET ROLE secrets_admin;
SELECT es_protect('secrets_a', '{$.data.admins}', '$.data.id');
SELECT call, f.state FROM unnest(ARRAY[$$es_reveal('secrets_a-1', 'T', '{}')$$, $$es_protect('secrets_c', '{$.data.x}', '$.stream')$$, $$es_shred('2')$$]) call, pg_temp.failure('SELECT ' || call) f;
SET ROLE secrets_keeper;
SELECT es_shred('2');
SELECT f.state, f.message, f.detail FROM pg_temp.failure($$SELECT es_rotate_master_key('true')$$) f;
RESET ROLE;
SELECT data FROM es_read('secrets_a-2');
SELECT es_revoke('secrets_reader', 'read', 'secrets_a'), es_revoke('secrets_admin', 'admin', 'secrets_a'), es_revoke('secrets_keeper', 'admin');
DROP ROLE secrets_reader, secrets_admin, secrets_keeper;

-- the master key is not shown, nor changed by a session
SELECT f.state, f.message FROM pg_temp.failure($$SET eventstore.master_key_command = 'printf %064d 2'$$) f;

-- a rotation to the same key changes nothing that can be read
SELECT es_rotate_master_key('printf %064d 1');
SELECT data FROM es_read('secrets_a-4', 1, 1);
SELECT command, f.state, f.message, f.detail, f.hint FROM unnest(ARRAY['true', 'exit 3', 'kill -9 $$', 'printf %063d 1', 'printf %065d 1', 'printf %064d 1; echo; echo', 'printf g%063d 1', 'yes', '/nonexistent/command 2>/dev/null', '']) command,
	pg_temp.failure(format('SELECT es_rotate_master_key(%L)', command)) f;
-- keys that neither of two master keys has wrapped
SELECT data FROM es_read('secrets_a-4', 1, 1);

-- the plan of a view is made anew once something is protected, in a prepared statement too
SELECT count(*) FROM es_events WHERE stream = 'secrets_b-4' AND data->>'email' = 'copy';
PREPARE secrets_events AS SELECT data FROM es_events WHERE stream = 'secrets_e-1';
SELECT es_append('secrets_e-1', 'T', '{"x": 1}');
EXECUTE secrets_events;
SELECT es_protect('secrets_e', '{$.data.x}', '$.stream');
SELECT es_append('secrets_e-1', 'T', '{"x": 2}');
EXECUTE secrets_events;
