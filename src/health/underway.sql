/* ---- underway: which long commands are under way ---- */

CREATE FUNCTION eventstore.commands_underway(OUT pid int, OUT command text, OUT phase text, OUT done bigint, OUT total bigint)
		RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5 AS 'MODULE_PATHNAME', 'es_commands_underway';
COMMENT ON FUNCTION eventstore.commands_underway() IS 'which long commands run in this database, and how far they are; behind es_progress';

CREATE VIEW @extschema@.es_progress AS
	SELECT u.pid, u.command, u.phase, u.done, u.total
	FROM eventstore.commands_underway() u;
COMMENT ON VIEW @extschema@.es_progress IS
	'long commands that run in this database: what each is at, how much of that is done and of how much; NULL where that is not known';
