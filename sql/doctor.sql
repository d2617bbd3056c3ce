-- es_doctor in a store where nothing is wrong, but that the library may not be preloaded.  The server that tests run on
-- has settings of its own, which are left out.
\set first :DBNAME
CREATE DATABASE doctor;
\c doctor
SET client_min_messages = warning;
CREATE EXTENSION eventstore;
SELECT es_append('doctor-1', 'A', '{"n": 1}'), es_append('doctor-2', 'A', '{"n": 2}');
SELECT es_register_reducer_ops('doctor', 'A', '{"inc": {"n": "$.data.n"}}'), es_create_projection('doctor', 'doctor', 'inline', category => 'doctor');
SELECT es_subscribe('doctor', NULL, '{doctor}'), es_set_retention('doctor', max_count => 1000);

-- what is said, in order of how bad it is
SELECT severity, finding, remedy IS NULL AS "no remedy" FROM es_doctor()
WHERE finding NOT IN ('the library is not preloaded', 'fsync is off', 'full_page_writes is off', 'commits are not durable', 'autovacuum is off',
	'the library is the one that belongs to the extension', 'the server''s settings do not harm the store')
	AND finding <> 'settings wait for a restart';
SELECT count(*) = CASE WHEN current_setting('shared_preload_libraries') = '' THEN 1 ELSE 0 END AS "as it is"
FROM es_doctor() WHERE finding = 'the library is not preloaded' AND severity = 'notice' AND remedy LIKE 'ALTER SYSTEM SET shared\_preload\_libraries = %''eventstore''; -- then restart the server';
SELECT bool_and(severity IN ('ok', 'notice', 'warning', 'critical')) AS severities, bool_and(finding IS NOT NULL) AS findings,
	bool_and(severity = 'ok' OR (detail IS NOT NULL AND remedy IS NOT NULL)) AS "details and remedies" FROM es_doctor();

-- the worst comes first
BEGIN;
ALTER TABLE eventstore.seals DISABLE TRIGGER guard_rows;
SELECT severity, finding, detail, remedy FROM es_doctor() LIMIT 1;
ROLLBACK;

-- nothing is written, and what is not committed yet is no matter
BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM es_doctor() WHERE severity = 'critical';
COMMIT;

-- who may ask
CREATE ROLE doctor_watcher;
SET ROLE doctor_watcher;
SELECT * FROM es_doctor();
RESET ROLE;
SELECT es_grant('doctor_watcher', 'admin');
SET ROLE doctor_watcher;
SELECT count(*) FROM es_doctor() WHERE severity = 'critical';
RESET ROLE;
SELECT es_revoke('doctor_watcher', 'admin');
GRANT pg_monitor TO doctor_watcher;
SET ROLE doctor_watcher;
SELECT count(*) FROM es_doctor() WHERE severity = 'critical';
RESET ROLE;
DROP ROLE doctor_watcher;

-- how long something may take
\set VERBOSITY sqlstate
SET eventstore.doctor_patience = -1;
\set VERBOSITY default
SET eventstore.doctor_patience = '1h';
SHOW eventstore.doctor_patience;
RESET eventstore.doctor_patience;

\c :first
DROP DATABASE doctor;
