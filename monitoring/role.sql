-- role.sql: the role that the exporter connects as, with the least rights that do:
-- pg_monitor lets it call es_metrics(), es_doctor() and es_progress, and read what
-- the server itself counts.  It cannot read an event.  Run it once per server:
--
--	psql -f role.sql
--	psql -f role.sql -v role=somebody
--
-- "prometheus" is the system's user that Debian runs the exporter as, so that it can
-- connect by the socket and by "peer", without a password.
\if :{?role}
\else
\set role prometheus
\endif
\set ON_ERROR_STOP on
BEGIN;
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'role') AS missing \gset
\if :missing
CREATE ROLE :"role" LOGIN CONNECTION LIMIT 10;
\endif
GRANT pg_monitor TO :"role";
-- it writes nothing, and waits for nobody
ALTER ROLE :"role" SET default_transaction_read_only = on;
ALTER ROLE :"role" SET statement_timeout = '10s';
ALTER ROLE :"role" SET lock_timeout = '1s';
ALTER ROLE :"role" SET idle_in_transaction_session_timeout = '10s';
COMMIT;
