-- Segments leave the log as plain tables, and come back.
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_archive;
\c regress_es_archive
CREATE EXTENSION eventstore;
SELECT es_set_segment_size(100);
SELECT es_append_batch('a-1', (SELECT jsonb_agg(jsonb_build_object('type', 'A', 'data', n)) FROM generate_series(1, 250) n));
SELECT es_subscribe('behind'), es_subscribe('ahead', 200);

-- complete segments whose events are all older
SELECT * FROM es_detach_segments('2001-01-01');
SELECT * FROM es_detach_segments('infinity');
SELECT segment, events, state FROM es_segments WHERE segment < 3 ORDER BY 1;
SELECT * FROM es_detach_segments('infinity');
SELECT * FROM es_detach_segments(NULL);
\d eventstore.events_0

-- who needs one is told
SELECT count(*) FROM es_read_all(0, NULL);
\set VERBOSITY terse
SELECT count(*) FROM es_events;
SELECT count(*) FROM es_events WHERE position > 100;
SELECT count(*) FROM es_events WHERE position > 200;
SELECT count(*) FROM es_read('a-1', 201);
SELECT count(*) FROM es_poll('behind');
SELECT count(*) FROM es_poll('ahead');
SELECT es_append('a-1', 'A');

-- dropped, and made again
CREATE TABLE archived AS TABLE eventstore.events_0;
DROP TABLE eventstore.events_0;
SELECT es_attach_segment('eventstore.events_0');
CREATE TABLE eventstore.events_0 (LIKE eventstore.events);
INSERT INTO eventstore.events_0 SELECT * FROM archived WHERE position <> 7;
\set VERBOSITY default
SELECT es_attach_segment('eventstore.events_0');
INSERT INTO eventstore.events_0 SELECT * FROM archived WHERE position = 7;
UPDATE eventstore.events_0 SET data = '8' WHERE position = 7;
SELECT es_attach_segment('eventstore.events_0');
UPDATE eventstore.events_0 SET data = '7' WHERE position = 7;
SELECT es_attach_segment('eventstore.events_0');
SELECT es_attach_segment('events_1');
SELECT es_attach_segment('events_1');
SELECT count(*), sum(data::int) FROM es_events WHERE data <> '{}';
SELECT segment, state FROM es_segments WHERE state = 'detached';

-- not from a transaction that uses the log
BEGIN;
SELECT count(*) FROM es_events;
SELECT * FROM es_detach_segments('infinity');
ROLLBACK;
\set VERBOSITY terse
SELECT es_attach_segment('events_77');
SELECT es_attach_segment('streams');
SELECT es_attach_segment(NULL);
\c :regression_database
DROP DATABASE regress_es_archive;
