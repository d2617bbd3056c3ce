-- Versions of types: which version new events are of, and what reads give of old ones.

-- failure(statement): state, message and detail of a statement that must fail
CREATE FUNCTION pg_temp.failure(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	detail := regexp_replace(detail, 'position \d+', 'position <n>');
END
$$;

-- where nothing is defined there is version 1
SELECT es_append('versions_a-1', 'VersionsA', '{"sum": 1}'), es_append('versions_a-1', 'VersionsA', '{"sum": 2}', type_version => 1);
SELECT f.* FROM pg_temp.failure($$SELECT es_append('versions_a-1', 'VersionsA', type_version => 2)$$) f;

-- an upcaster begins the next one: a new event is of that, unless its writer says otherwise, and is not upcast
SELECT es_register_upcaster_ops('VersionsA', 1, '[{"set": {"cents": "$.data.sum * 100"}}, {"unset": ["sum"]}]');
SELECT es_append('versions_a-1', 'VersionsA', '{"cents": 300}'), es_append('versions_a-1', 'VersionsA', '{"sum": 4}', type_version => 1),
	es_append('versions_a-1', 'VersionsA', '{"cents": 500}', type_version => 2), es_append('versions_a-1', 'VersionsOther');
SELECT version, type_version, data FROM es_read('versions_a-1');
SELECT es_register_reducer_ops('versions_a', 'VersionsA', '{"inc": {"cents": "$.data.cents"}}');
SELECT state FROM es_replay('versions_a-1');
SELECT f.* FROM unnest(ARRAY[3, 0, -1]) v, pg_temp.failure(format($$SELECT es_append('versions_a-1', 'VersionsA', type_version => %s)$$, v)) f;

-- in every way in
SELECT es_append_batch('versions_b-1', '[{"type": "VersionsA"}, {"type": "VersionsA", "type_version": 1}, {"type": "VersionsA", "type_version": null}, {"type": "VersionsA", "type_version": 2.0}]');
SELECT es_append_events('versions_b-1', ARRAY[('VersionsA', '{}', NULL, NULL)]::es_new_event[]);
SELECT stream, version FROM es_append_many('[{"stream": "versions_b-1", "type": "VersionsA", "type_version": 1}, {"stream": "versions_b-2", "type": "VersionsA"}]');
SELECT es_append_if('[{"stream": "versions_b-1", "type": "VersionsA", "type_version": 1}, {"stream": "versions_b-1", "type": "VersionsA"}]', es_last_position()) IS NOT NULL AS appended;
INSERT INTO es_events (stream, type, type_version) VALUES ('versions_b-1', 'VersionsA', 1) RETURNING version, type_version;
INSERT INTO es_events (stream, type) VALUES ('versions_b-1', 'VersionsA') RETURNING version, type_version;
INSERT INTO es_events (stream, type, type_version) SELECT 'versions_b-1', 'VersionsA', nullif(n, 3) FROM generate_series(1, 3) n;
COPY es_events (stream, type, data, type_version) FROM stdin;
versions_b-1	VersionsA	{}	1
versions_b-1	VersionsA	{}	\N
\.
SELECT stream, version, type_version FROM es_read_category('versions_b') ORDER BY stream, version;
COPY es_events (stream, type, data, type_version) FROM stdin;
versions_b-1	VersionsA	{}	1
versions_b-1	VersionsA	{}	3
versions_b-1	VersionsA	{}	1
\.
SELECT statement, f.state, f.message, f.detail FROM unnest(ARRAY[
	$$SELECT es_append_batch('versions_b-1', '[{"type": "VersionsA", "type_version": 1}, {"type": "VersionsA", "type_version": 3}]')$$,
	$$SELECT es_append_batch('versions_b-1', '[{"type": "VersionsA", "type_version": "1"}]')$$,
	$$SELECT es_append_batch('versions_b-1', '[{"type": "VersionsA", "type_version": 1.5}]')$$,
	$$SELECT es_append_batch('versions_b-1', '[{"type": "VersionsA", "type_version": 2147483648}]')$$,
	$$SELECT es_append_batch('versions_b-1', '[{"type": "VersionsA", "type_version": {}}]')$$,
	$$SELECT es_append_many('[{"stream": "versions_b-1", "type_version": 1}]')$$,
	$$SELECT es_append_many('[{"stream": "versions_b-1", "type": "VersionsA", "type_version": 0}]')$$,
	$$INSERT INTO es_events (stream, type, type_version) VALUES ('versions_b-1', 'VersionsA', 3)$$
	]) statement, pg_temp.failure(statement) f;
SELECT es_stream_version('versions_b-1');

-- a retry is one whatever has become the newest version, and whatever version it gives
SELECT es_append('versions_c-1', 'VersionsC', '{"n": 1}', event_id => '0189cccc-0000-7000-8000-000000000001');
SELECT es_register_upcaster_ops('VersionsC', 1, '"ignore"');
SELECT es_append('versions_c-1', 'VersionsC', '{"n": 1}', event_id => '0189cccc-0000-7000-8000-000000000001'),
	es_append('versions_c-1', 'VersionsC', '{"n": 1}', event_id => '0189cccc-0000-7000-8000-000000000001', type_version => 1);
SELECT es_append('versions_c-1', 'VersionsC', '{"n": 1}', event_id => '0189cccc-0000-7000-8000-000000000001', type_version => 2);
SELECT version, type_version FROM es_read('versions_c-1');

-- changes of one's own transaction count at once, and not once they are undone
BEGIN;
SELECT es_append('versions_d-1', 'VersionsD');
SAVEPOINT s;
SELECT es_register_upcaster_ops('VersionsD', 2, '"ignore"'), es_append('versions_d-1', 'VersionsD');
SELECT es_append('versions_d-1', 'VersionsD', type_version => 2);
ROLLBACK TO s;
SELECT es_append('versions_d-1', 'VersionsD');
SELECT f.* FROM pg_temp.failure($$SELECT es_append('versions_d-1', 'VersionsD', type_version => 2)$$) f;
SELECT es_register_upcaster_ops('VersionsD', 1, '"ignore"');
SELECT es_append('versions_d-1', 'VersionsD');
COMMIT;
SELECT version, type_version FROM es_read('versions_d-1');
BEGIN;
SELECT es_register_upcaster_ops('VersionsD', 2, '"ignore"'), es_append('versions_d-1', 'VersionsD');
ROLLBACK;
SELECT es_append('versions_d-1', 'VersionsD');
SELECT max(type_version) FROM es_read('versions_d-1');

--
-- eventstore.upcast
--
SELECT es_subscribe('versions', categories => '{versions_a}', types => '{VersionsA}');
SET eventstore.upcast = on;
SELECT version, type_version, data FROM es_read('versions_a-1');
SELECT version, type_version, data FROM es_read('versions_a-1', backwards => true, max_count => 3);
SELECT version, type_version, data FROM es_read_all(stream_prefix => 'versions_a-');
SELECT version, type_version, data FROM es_read_category('versions_a', types => '{VersionsA}', backwards => true);
SELECT version, type_version, data FROM es_read_query('[{"types": ["VersionsA"]}]', max_count => 2);
SELECT es_append('versions_e-1', 'VersionsA', '{"sum": 7}', '{"tags": ["versions"]}', event_id => '0189eeee-0000-7000-8000-000000000001', type_version => 1);
SELECT type_version, data FROM es_read_tagged('{versions}');
SELECT version, type_version, data, attempt FROM es_poll('versions');
-- what is about stored events gives them as they are
SELECT type_version, data FROM es_find_event('versions_e-1', '0189eeee-0000-7000-8000-000000000001');
SELECT type_version, data FROM es_events WHERE stream = 'versions_e-1';
SELECT type_version, data FROM es_feed_history(max_count => NULL) WHERE stream = 'versions_e-1';
-- by cursor, in a function, beside es_upcast
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT version, type_version FROM es_read('versions_a-1');
FETCH 2 FROM c;
SET LOCAL eventstore.upcast = off;
FETCH 1 FROM c;
FETCH BACKWARD 2 FROM c;
SELECT version, type_version FROM es_read('versions_a-1', max_count => 1);
COMMIT;
SELECT u.version, u.type_version, u.data = e.data AS same FROM es_read('versions_a-1') e, es_upcast(e) u;
CREATE FUNCTION versions_reads(stream text) RETURNS text LANGUAGE sql SET eventstore.upcast = off AS $$SELECT string_agg(type_version::text, ' ' ORDER BY version) FROM es_read(stream)$$;
SELECT versions_reads('versions_a-1');
-- a session that knows an upcaster sees another one at once
SELECT es_register_upcaster_ops('VersionsA', 2, '{"set": {"currency": "EUR"}}');
SELECT version, type_version, data FROM es_read('versions_a-1', max_count => 3);
-- what it fails at is named
CREATE FUNCTION versions_fail(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one' USING DETAIL = 'No.'; END$$;
SELECT es_append('versions_f-1', 'VersionsF', '{"n": 1}'), es_append('versions_f-1', 'VersionsA', '{"cents": 1, "currency": "USD"}');
SELECT es_register_upcaster('VersionsF', 1, 'versions_fail(jsonb)');
SELECT f.* FROM pg_temp.failure($$SELECT * FROM es_read('versions_f-1')$$) f;
SELECT * FROM es_read('versions_f-1');
-- a poll goes on, and parks the event in the end
SELECT es_subscribe('versions_f', categories => '{versions_f}', max_attempts => 2);
SET client_min_messages = error;
SELECT version, type_version, data FROM es_poll('versions_f');
SELECT version, type_version, data FROM es_poll('versions_f');
SELECT version, type_version, data FROM es_poll('versions_f');
RESET client_min_messages;
SELECT attempts, reason, stream, version FROM es_parked('versions_f');
-- a handler is called with the caller's rights; without them nothing is parked
CREATE ROLE regress_versions;
SELECT es_grant('regress_versions', 'read');
REVOKE EXECUTE ON FUNCTION versions_fail FROM PUBLIC;
SELECT es_replay_parked('versions_f');
SET ROLE regress_versions;
SELECT f.* FROM pg_temp.failure($$SELECT * FROM es_read('versions_f-1')$$) f;
SELECT f.* FROM pg_temp.failure($$SELECT * FROM es_poll('versions_f')$$) f;
SELECT version FROM es_read('versions_a-1', max_count => 1);
RESET ROLE;
DROP OWNED BY regress_versions;
DROP ROLE regress_versions;
DROP FUNCTION versions_fail;
SELECT f.* FROM pg_temp.failure($$SELECT * FROM es_read('versions_f-1')$$) f;
-- handlers run with the server's own setting
CREATE FUNCTION versions_look(data jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_build_object('upcast', current_setting('eventstore.upcast'))$$;
SELECT es_register_upcaster('VersionsF', 1, 'versions_look(jsonb)');
SELECT data FROM es_read('versions_f-1', max_count => 1);
RESET eventstore.upcast;
SELECT data FROM es_read('versions_f-1', max_count => 1);

--
-- Dropping upcasters
--
SELECT statement, f.* FROM unnest(ARRAY[
	$$SELECT es_drop_upcaster('VersionsA', 1)$$,
	$$SELECT es_drop_upcaster('VersionsA', 2)$$,
	$$SELECT es_drop_upcaster('VersionsA', 3)$$,
	$$SELECT es_drop_upcaster('VersionsNone', 1)$$,
	$$SELECT es_drop_upcaster('$VersionsNone', 1)$$,
	$$SELECT es_drop_upcaster('VersionsA', 0)$$,
	$$SELECT es_drop_upcaster(NULL, 1)$$,
	$$SELECT es_drop_upcaster('VersionsA', NULL)$$
	]) statement, pg_temp.failure(statement) f;
-- as long as no event has a later version, those of other types and older ones do not matter
SELECT es_register_upcaster_ops('VersionsG', 1, '"ignore"'), es_register_upcaster_ops('VersionsG', 2, '"ignore"');
SELECT es_append('versions_g-1', 'VersionsG', type_version => 1), es_append('versions_g-1', 'VersionsG', type_version => 2);
SELECT es_drop_upcaster('VersionsG', 2);
SELECT type, from_version FROM es_upcasters WHERE type = 'VersionsG';
SELECT es_append('versions_g-1', 'VersionsG');
SELECT version, type_version FROM es_read('versions_g-1');
SELECT f.* FROM pg_temp.failure($$SELECT es_drop_upcaster('VersionsG', 1)$$) f;
-- found by the index of the type, too; one's own events count
SELECT es_index_type('VersionsG');
SELECT f.* FROM pg_temp.failure($$SELECT es_drop_upcaster('VersionsG', 1)$$) f;
SELECT es_drop_type_index('VersionsG');
BEGIN;
SELECT es_register_upcaster_ops('VersionsH', 1, '"ignore"');
SELECT es_append('versions_h-1', 'VersionsH');
SELECT f.* FROM pg_temp.failure($$SELECT es_drop_upcaster('VersionsH', 1)$$) f;
ROLLBACK;
-- registered again it is the same version: where its events begin stays known
SELECT es_register_upcaster_ops('VersionsG', 1, '{"set": {"x": 1}}');
SELECT f.* FROM pg_temp.failure($$SELECT es_drop_upcaster('VersionsG', 1)$$) f;
-- a rollback brings it back
SELECT es_register_upcaster_ops('VersionsI', 1, '"ignore"');
BEGIN;
SELECT es_drop_upcaster('VersionsI', 1);
SELECT es_append('versions_i-1', 'VersionsI');
ROLLBACK;
SELECT es_append('versions_i-1', 'VersionsI');
SELECT version, type_version FROM es_read('versions_i-1');

SELECT es_unsubscribe('versions'), es_unsubscribe('versions_f'), es_drop_reducer('versions_a');
SELECT es_register_upcaster_ops('VersionsF', 1, '"ignore"');
DROP FUNCTION versions_look, versions_reads;
