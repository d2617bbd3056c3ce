--
-- Feeds: every committed event, once, as JSON, from a replication slot.
-- Needs wal_level = logical and, where the server has it, output_plugin_libraries.
--
SELECT current_setting('wal_level') <> 'logical' AS no_decoding \gset
\if :no_decoding
\quit
\endif

-- a feed is a slot: its name, and where history ends
SELECT slot_name, lsn IS NOT NULL AS lsn, head_position >= 0 AS head_position FROM es_create_feed('regress');
SELECT feed, slot_name, active, confirmed_lsn IS NOT NULL AS confirmed, lag_bytes >= 0 AS lag, retained_bytes >= 0 AS retained, wal_status IS NOT NULL AS status
FROM es_feeds WHERE feed = 'regress';

-- the messages, as they would come with these options
CREATE FUNCTION pg_temp.feed(VARIADIC options text[] DEFAULT '{}') RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT data::jsonb FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, VARIADIC options) $$;
CREATE FUNCTION pg_temp.brief(VARIADIC options text[] DEFAULT '{}') RETURNS TABLE (stream text, version text, type text, data jsonb)
LANGUAGE sql AS
$$ SELECT e->>'stream', e->>'version', e->>'type', e->'data' FROM pg_temp.feed(VARIADIC options) e $$;
CREATE FUNCTION pg_temp.take() RETURNS bigint LANGUAGE sql AS
$$ SELECT count(*) FROM pg_logical_slot_get_changes('es_regress', NULL, NULL) $$;

-- a message has every attribute of es_event, in its order
SELECT es_append('feed_order-1', 'Placed', '{"total": 10, "note": "a \"b\"\\ \t\n"}', '{"by": "ann"}', event_id => '0189eeee-0000-7000-8000-000000000001');
SELECT key, CASE WHEN key IN ('position', 'recorded_at') THEN json_typeof(value) ELSE value::text END AS value
FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL), json_each(data::json);
SELECT f->>'event_id' = e.event_id::text AS event_id, (f->>'position')::bigint = e.position AS position,
	(f->>'recorded_at')::timestamptz = e.recorded_at AS recorded_at, f->'data' = e.data AS data, f->'metadata' = e.metadata AS metadata
FROM pg_temp.feed() f, es_read('feed_order-1') e;
-- times are in UTC whatever the session says
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'SQL, DMY';
SELECT f->>'recorded_at' = (to_json(e.recorded_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00' AS utc
FROM pg_temp.feed() f, es_read('feed_order-1') e;
RESET TimeZone;
RESET DateStyle;

-- what is rolled back never appears, nor do other tables
CREATE TABLE feed_other (a int);
BEGIN;
SELECT es_append('feed_order-1', 'Undone');
INSERT INTO feed_other VALUES (1);
ROLLBACK;
BEGIN;
INSERT INTO feed_other VALUES (2);
SELECT es_append('feed_order-1', 'Shipped');
SAVEPOINT a;
SELECT es_append('feed_order-1', 'Undone');
SELECT es_append('feed_invoice-1', 'Undone');
ROLLBACK TO a;
SAVEPOINT b;
SELECT es_append('feed_invoice-1', 'Sent', '3');
RELEASE b;
SELECT es_append('feed_order-1', 'Closed');
TRUNCATE feed_other;
COMMIT;
INSERT INTO feed_other VALUES (3);
UPDATE feed_other SET a = 4;
DROP TABLE feed_other;
SELECT pg_logical_emit_message(true, 'eventstore', 'not an event') IS NOT NULL AS message;
-- partitions of other tables are no segments, whatever their name
CREATE SCHEMA feed_schema;
CREATE TABLE feed_schema.events (a int) PARTITION BY LIST (a);
CREATE TABLE feed_schema.events_1 PARTITION OF feed_schema.events DEFAULT;
INSERT INTO feed_schema.events VALUES (1);
SET client_min_messages = warning;
DROP SCHEMA feed_schema CASCADE;
RESET client_min_messages;
SELECT * FROM pg_temp.brief();

-- many events in one call, and in one statement
SELECT es_append_batch('feed_batch-1', '[{"type": "A"}, {"type": "B", "data": [1]}, {"type": "C", "data": null}]');
SELECT count(es_append('feed_many-' || n % 3, 'N', to_jsonb(n))) FROM generate_series(1, 6) n;
SELECT * FROM pg_temp.brief('stream_prefix', 'feed_batch');
SELECT * FROM pg_temp.brief('stream_prefix', 'feed_many');

-- filters: lists with commas or as JSON; an event must pass them all
SELECT * FROM pg_temp.brief('categories', 'feed_order');
SELECT * FROM pg_temp.brief('categories', ' feed_order , feed_invoice', 'types', 'Sent,Closed,Undone');
SELECT * FROM pg_temp.brief('categories', '["feed_order", "feed, with comma"]', 'types', '["Placed"]');
SELECT * FROM pg_temp.brief('categories', '[]');
SELECT * FROM pg_temp.brief('query', '[{"types": ["Placed"]}]', 'categories', 'feed_order');
SELECT * FROM pg_temp.brief('query', '[{"tags": ["none"]}]');
SELECT * FROM pg_temp.brief('categories', 'feed');
SELECT * FROM pg_temp.brief('stream_prefix', 'feed_many-1', 'categories', 'feed_many');
SELECT count(*) FROM pg_temp.brief('stream_prefix', '');
SELECT * FROM pg_temp.brief('stream_prefix', 'feed_order-1 and more');
SELECT version, type FROM pg_temp.brief('types', (SELECT jsonb_agg(n::text) || '"Placed"' FROM generate_series(1, 10000) n)::text);
SELECT version, type FROM pg_temp.brief('types', (SELECT string_agg(n::text, ',') || ',Placed' FROM generate_series(1, 10000) n));
-- after_position filters, it is no place to resume from: the order is that of the commits
SELECT min(position) AS batch_position FROM es_read('feed_batch-1') \gset
SELECT * FROM pg_temp.brief('after_position', :'batch_position', 'categories', 'feed_order,feed_batch');
SELECT * FROM pg_temp.brief('after_position', '9223372036854775807');

-- the frames of a transaction, around its events only
SELECT pg_temp.take() > 0 AS taken;
SELECT es_append('feed_frame-1', 'A');
CREATE TABLE feed_other (a int);
DROP TABLE feed_other;
BEGIN;
SELECT es_append('feed_frame-1', 'B');
SELECT es_append('feed_frame-1', 'C');
COMMIT;
SELECT CASE WHEN e ? 'stream' THEN e->>'type' ELSE
	(SELECT key || ': ' || (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(value) k) FROM jsonb_each(e)) END AS message
FROM pg_temp.feed('include_transaction', 'on') e;
SELECT count(*) FROM pg_temp.feed('include_transaction', 'on', 'types', 'None');
SELECT count(*) FROM pg_temp.feed('include_transaction', 'off');
WITH message AS (
	SELECT data::jsonb AS e, xid FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, 'include_transaction', 'true')
), frame AS (
	SELECT e ? 'begin' AS begins, coalesce(e->'begin', e->'commit') AS f, xid FROM message WHERE NOT e ? 'stream'
)
SELECT count(*) FILTER (WHERE begins) AS begins, count(*) FILTER (WHERE NOT begins) AS commits, count(DISTINCT f) AS transactions,
	bool_and(f->>'xid' = xid::text) AS xid, bool_and((f->>'commit_time')::timestamptz <= clock_timestamp()) AS time,
	bool_and((f->>'commit_lsn')::pg_lsn < pg_current_wal_lsn()) AS lsn
FROM frame;

-- CloudEvents 1.0: attributes are scalars, their names lower-case
SELECT pg_temp.take() AS taken;
SELECT es_append('feed_cloud-1', 'Placed', '{"total": 10}', '{"by": "ann"}', event_id => '0189eeee-0000-7000-8000-000000000002');
SELECT key, CASE WHEN key IN ('position', 'time', 'source') THEN json_typeof(value) ELSE value::text END AS value
FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, 'format', 'cloudevents'), json_each(data::json);
SELECT f->>'source' = '/eventstore/' || current_database() AS source, f->>'position' = e.position::text AS position,
	f->>'sequence' = e.version::text AS sequence, (f->>'time')::timestamptz = e.recorded_at AS time, (f->>'metadata')::jsonb = e.metadata AS metadata,
	(SELECT bool_and(key ~ '^[a-z0-9]+$' AND (key = 'data' OR jsonb_typeof(value) IN ('string', 'number'))) FROM jsonb_each(f)) AS well_formed
FROM pg_temp.feed('format', 'cloudevents') f, es_read('feed_cloud-1') e;
SELECT count(*) FROM pg_temp.feed('format', 'json', 'types', 'Placed');

-- data and metadata are written as the types jsonb and json write them
SELECT pg_temp.take() AS taken;
SELECT count(es_append('feed_text-1', 'T', data, jsonb_build_object(data::text, data))) FROM (VALUES
	('null'::jsonb), ('true'), ('""'), ('[]'), ('{}'), ('[[], {}, [{"a": []}], null, false]'), ('-1.50'), ('1e-30'), ('12345678901234567890.5'),
	(to_jsonb((SELECT string_agg(chr(n), '') FROM generate_series(1, 300) n))), (to_jsonb(repeat('x', 7) || '"' || repeat('y', 8) || '\' || repeat('z', 9))),
	('{"": {"a b": {"\u0001": "ü€😀"}}}')) v(data);
SELECT count(*), bool_and((f->'data')::text = e.data::text AND (f->'metadata')::text = e.metadata::text) AS same
FROM (SELECT data::json FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL)) AS c(f) JOIN es_read('feed_text-1') e ON f->>'version' = e.version::text;
SELECT count(*), bool_and((f->'data')::text = e.data::text AND f->>'metadata' = e.metadata::text) AS same
FROM (SELECT data::json FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, 'format', 'cloudevents')) AS c(f) JOIN es_read('feed_text-1') e ON f->>'sequence' = e.version::text;

-- what came here by replication can be left out
SELECT pg_temp.take() AS taken;
SELECT pg_replication_origin_create('regress_es_feed') IS NOT NULL AS created, pg_replication_origin_session_setup('regress_es_feed') IS NOT NULL AS set_up;
SELECT es_append('feed_origin-1', 'Replicated');
SELECT pg_replication_origin_session_reset() IS NOT NULL AS reset, pg_replication_origin_drop('regress_es_feed') IS NOT NULL AS dropped;
SELECT es_append('feed_origin-1', 'Own');
SELECT type FROM pg_temp.brief();
SELECT type FROM pg_temp.brief('origin', 'any');
SELECT type FROM pg_temp.brief('origin', 'none');

-- data that is stored out of line: 8 MB that do not compress, and metadata too
SELECT pg_temp.take() AS taken;
SELECT es_append('feed_large-1', 'Large', jsonb_build_object('s', string_agg(md5(n::text), '')), jsonb_build_object('m', string_agg(md5((-n)::text), '')))
FROM generate_series(1, 250000) n;
SELECT es_append('feed_large-1', 'Compressed', jsonb_build_object('s', repeat('x', 1000000)));
SELECT length(f->'data'->>'s') AS data, length(f->'metadata'->>'m') AS metadata, f->'data' = e.data AND f->'metadata' = e.metadata AS same
FROM pg_temp.feed() f JOIN es_read('feed_large-1') e ON f->>'version' = e.version::text;
SELECT length((f->>'metadata')::jsonb->>'m') AS metadata FROM pg_temp.feed('format', 'cloudevents', 'types', 'Large') f;

-- names at their limits
SELECT pg_temp.take() AS taken;
SELECT es_append('feed_long-"\' || repeat('x', 500), rpad('T', 255, 't'));
SELECT length(f->>'stream') AS stream, length(f->>'type') AS type FROM pg_temp.feed() f;

-- what a slot has given is gone
SELECT pg_temp.take() AS taken;
SELECT pg_temp.take() AS taken;

-- options: each once, known, and of its kind
\set VERBOSITY sqlstate
SELECT pg_temp.feed('format', 'xml');
SELECT pg_temp.feed('format', 'JSON');
SELECT pg_temp.feed('format', 'json', 'format', 'json');
SELECT pg_temp.feed('colour', 'red');
SELECT pg_temp.feed('Types', 'a');
SELECT pg_temp.feed('after_position', '-1');
SELECT pg_temp.feed('after_position', '1x');
SELECT pg_temp.feed('after_position', '');
SELECT pg_temp.feed('after_position', '9223372036854775808');
SELECT pg_temp.feed('include_transaction', 'perhaps');
SELECT pg_temp.feed('categories', '');
SELECT pg_temp.feed('categories', 'a,,b');
SELECT pg_temp.feed('categories', '["a"');
SELECT pg_temp.feed('categories', '["a", 1]');
SELECT pg_temp.feed('categories', '["a", null]');
SELECT pg_temp.feed('types', '["a"] b');
SELECT pg_temp.feed('types', 'a,$stream_deleted');
SELECT pg_temp.feed('query', '[{"types": ["$stream_deleted"]}]');
SELECT pg_temp.feed('query', '[{"tags": ["a"], "last": true}]');
SELECT pg_temp.feed('query', '[{"tags": ["a"]}');
SELECT pg_temp.feed('query', '[{"tag": ["a"]}]');
SELECT pg_temp.feed('origin', 'some');
SELECT pg_temp.feed('streaming', 'on');
SELECT pg_temp.feed('two_phase', 'on', 'include_transaction', 'off');
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT * FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, 'colour', 'red');
SELECT * FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, 'types', 'a,,b');
SELECT * FROM pg_logical_slot_peek_changes('es_regress', NULL, NULL, 'streaming', 'on');

-- es_create_feed: what it refuses
\set VERBOSITY sqlstate
SELECT * FROM es_create_feed('regress');
SELECT * FROM es_create_feed(NULL);
SELECT * FROM es_create_feed('');
SELECT * FROM es_create_feed('Regress');
SELECT * FROM es_create_feed('a-b');
SELECT * FROM es_create_feed(repeat('x', 61));
SELECT * FROM es_create_feed('regress2', format => 'xml');
SELECT * FROM es_create_feed('regress2', format => NULL);
SELECT * FROM es_create_feed('regress2', categories => '{a,NULL}');
SELECT * FROM es_create_feed('regress2', types => '{{a,b},{c,d}}');
SELECT * FROM es_create_feed('regress2', query => '[{"tags": ["a"], "last": true}]');
SELECT * FROM es_create_feed('regress2', query => '[]');
BEGIN;
SELECT * FROM es_create_feed('regress2');
ROLLBACK;
SELECT es_append('feed_order-1', 'Undone'), es_create_feed('regress2');
DO $$ BEGIN PERFORM es_create_feed('regress2'); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
SELECT es_drop_feed(NULL);
SELECT es_drop_feed('regress2');
SELECT es_drop_feed('Regress');
-- it takes REPLICATION, and the store's owner
CREATE ROLE regress_es_feed;
SET ROLE regress_es_feed;
SELECT * FROM es_create_feed('regress2');
SELECT es_drop_feed('regress');
RESET ROLE;
ALTER ROLE regress_es_feed REPLICATION;
SET ROLE regress_es_feed;
SELECT * FROM es_create_feed('regress2');
SELECT es_drop_feed('regress');
RESET ROLE;
DROP ROLE regress_es_feed;
\set VERBOSITY default
SELECT count(*) FROM es_feeds WHERE feed = 'regress2';

-- the longest name, and what a consumer is going to ask for
SELECT slot_name FROM es_create_feed(repeat('x', 60), '{feed_order}', '{Placed,"$stream-deleted"}', 'cloudevents');
SELECT es_drop_feed(repeat('x', 60));

-- a slot of another plugin is no feed; one of ours that was made by hand has no feed's name
SELECT slot_name FROM pg_create_logical_replication_slot('es_regress_other', 'test_decoding');
SELECT slot_name FROM pg_create_logical_replication_slot('regress_bare', 'eventstore');
SELECT feed, slot_name FROM es_feeds WHERE slot_name LIKE '%regress%' ORDER BY slot_name;
SELECT es_drop_feed('regress_other');
SELECT pg_drop_replication_slot('es_regress_other'), pg_drop_replication_slot('regress_bare');

-- the seam: history up to head_position, the rest from the slot
SELECT es_append('feed_seam-1', 'History');
SELECT head_position AS head FROM es_create_feed('regress_seam') \gset
SELECT es_append('feed_seam-1', 'New');
SELECT type FROM es_read_all(to_position => :head, max_count => NULL, categories => '{feed_seam}')
UNION ALL
SELECT data::jsonb->>'type' FROM pg_logical_slot_peek_changes('es_regress_seam', NULL, NULL, 'after_position', :'head', 'categories', 'feed_seam');

-- consumers of history write it as the feed would, byte by byte
SELECT es_append('feed_seam-1', 'Same', '{"text": "\"\\ \n \u00fc", "n": 1.50}', '{"tags": ["a"]}');
SELECT f.format, es_feed_message(e, f.format) = m.data AS same
FROM (VALUES ('json'), ('cloudevents')) f(format)
CROSS JOIN es_read('feed_seam-1', 3) e
CROSS JOIN pg_logical_slot_peek_changes('es_regress_seam', NULL, NULL, 'types', 'Same', 'format', f.format) m;
SELECT es_feed_message(e) = es_feed_message(e, 'json') AS json, es_feed_message(NULL) IS NULL AS of_null,
	es_feed_message(NULL::es_event, 'json') IS NULL AS of_no_event, es_feed_message(ROW(1, 's', 1, NULL, 1, NULL, NULL, NULL, NULL)::es_event) IS NULL AS of_no_type
FROM es_read('feed_seam-1', 3) e;
SELECT es_feed_message(e, 'xml') FROM es_read('feed_seam-1', 3) e;

-- a feed that exists has a later seam as well
SELECT h.head_position = es_settled_position() AS head, h.lsn > s.confirmed_flush_lsn AS lsn
FROM es_feed_head() h, pg_replication_slots s WHERE s.slot_name = 'es_regress_seam';

-- how many events a consumer is behind: exact from the start of a feed, an estimate between marks
CREATE FUNCTION pg_temp.lag() RETURNS bigint LANGUAGE sql AS
$$ SELECT lag_events FROM es_feeds WHERE feed = 'regress_lag' $$;
CREATE FUNCTION pg_temp.append(n int) RETURNS void LANGUAGE sql AS $$
	SELECT FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'feed_lag-' || i % 10, 'type', 'Counted', 'data', jsonb_build_object('i', i)))
		FROM generate_series(1, n) i));
$$;
SELECT slot_name FROM es_create_feed('regress_lag');
SELECT pg_temp.lag();
-- (once in vain: reading the catalogs may write WAL, which would lie between the events and their mark)
SELECT es_settle() = es_settled_position() AS marked;
SELECT pg_temp.append(60);
SELECT es_settle() = es_settled_position() AS marked;
SELECT pg_temp.append(40);
SELECT pg_temp.lag();
SELECT count(*) FROM pg_logical_slot_get_changes('es_regress_lag', NULL, 1);
SELECT pg_temp.lag();
SELECT count(*) FROM pg_logical_slot_get_changes('es_regress_lag', NULL, NULL);
SELECT pg_temp.lag();
-- by what else is written nobody gets behind
CREATE TABLE feed_filler AS SELECT repeat('x', 100) FROM generate_series(1, 1000);
SELECT pg_temp.lag(), lag_bytes > 100000 AS lag_bytes FROM es_feeds WHERE feed = 'regress_lag';
DROP TABLE feed_filler;
SELECT es_drop_feed('regress_lag');

-- dropping is not undone by a rollback
SELECT es_drop_feed('regress_seam');
BEGIN;
SELECT es_drop_feed('regress');
ROLLBACK;
SELECT count(*) FROM es_feeds WHERE slot_name LIKE 'es_regress%';
