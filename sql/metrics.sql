-- How the store is doing: what es_metrics tells with preloading and without, and to whom.
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_metrics;
\c regress_es_metrics
CREATE EXTENSION eventstore;
\pset format unaligned
\set VERBOSITY terse
-- of each number its kind and its labels; counters and histograms are kept where the library is preloaded
SELECT kind = 'gauge' AS gauge, count(*) > 20 AS many FROM es_metrics() GROUP BY 1 HAVING kind = 'gauge';
SELECT (count(*) FILTER (WHERE kind = 'counter') > 30) = (max(value) FILTER (WHERE name = 'eventstore_preloaded') = 1) AS counters_where_preloaded FROM es_metrics();
SELECT es_append('a-1', 'T'), es_append('a-1', 'T'), es_append('b-1', 'T');
SELECT es_subscribe('s'), es_create_projection('p', 'count', mode => 'inline');
SELECT es_ack('s', 0, (SELECT max(position) FROM es_poll('s', 2)));
SELECT es_seal();
SELECT name, labels, value, kind FROM es_metrics()
WHERE kind = 'gauge' AND name !~ '_seconds$|_bytes$|_info$|_preloaded$|_worker_|slot|feed' AND labels::text !~ 'ready' ORDER BY name COLLATE "C", labels::text COLLATE "C";
SELECT name, labels ->> 'version' = extversion AS version, labels ->> 'library_version' = extversion AS library, labels ? 'server_version' AS has_server
FROM es_metrics(), pg_extension WHERE name = 'eventstore_build_info' AND extname = 'eventstore';
SELECT count(*) FROM es_metrics() WHERE help IS NULL OR value IS NULL;
-- a transaction that only reads; its own appends are in flight
BEGIN READ ONLY;
SELECT value FROM es_metrics() WHERE name = 'eventstore_last_position';
COMMIT;
BEGIN;
SELECT es_append('a-1', 'T');
SELECT name, value FROM es_metrics() WHERE name IN ('eventstore_last_position', 'eventstore_settled_position', 'eventstore_in_flight_transactions') ORDER BY name COLLATE "C";
ROLLBACK;
-- for whom
CREATE ROLE regress_es_watcher IN ROLE pg_monitor;
CREATE ROLE regress_es_reader;
SELECT es_grant('regress_es_reader', 'read');
SET ROLE regress_es_watcher;
SELECT value FROM es_metrics() WHERE name = 'eventstore_last_position';
SELECT count(*) FROM es_progress;
SET ROLE regress_es_reader;
SELECT count(*) FROM es_metrics();
SELECT count(*) FROM es_progress;
RESET ROLE;
\c :regression_database
DROP DATABASE regress_es_metrics;
DROP ROLE regress_es_watcher, regress_es_reader;
