/* ---- ddlguard: statements that would take the store away ---- */

CREATE FUNCTION eventstore.guard_ddl() RETURNS event_trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_ddlguard_statement';
COMMENT ON FUNCTION eventstore.guard_ddl() IS
	'event trigger: what would take the store or a part of it away is VE002 while it has events, unless eventstore.allow_drop is on';

/*
 * Fires before each statement that can drop something, if only by a cascade, and
 * so loads the library, whose hook then sees each object that is dropped.
 */
CREATE EVENT TRIGGER eventstore_guard_ddl ON ddl_command_start
	WHEN TAG IN (
		'ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER TYPE',
		'DROP ACCESS METHOD', 'DROP AGGREGATE', 'DROP CAST', 'DROP COLLATION', 'DROP CONVERSION', 'DROP DOMAIN',
		'DROP EXTENSION', 'DROP FOREIGN DATA WRAPPER', 'DROP FOREIGN TABLE', 'DROP FUNCTION', 'DROP INDEX',
		'DROP LANGUAGE', 'DROP MATERIALIZED VIEW', 'DROP OPERATOR', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY',
		'DROP OWNED', 'DROP PROCEDURE', 'DROP ROUTINE', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP SERVER',
		'DROP TABLE', 'DROP TEXT SEARCH CONFIGURATION', 'DROP TEXT SEARCH DICTIONARY', 'DROP TEXT SEARCH PARSER',
		'DROP TEXT SEARCH TEMPLATE', 'DROP TRIGGER', 'DROP TYPE', 'DROP VIEW')
	EXECUTE FUNCTION eventstore.guard_ddl();
ALTER EVENT TRIGGER eventstore_guard_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER eventstore_guard_ddl IS 'keeps the event store from being dropped by mistake, see eventstore.allow_drop';
