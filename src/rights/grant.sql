/* ---- grant: giving and taking rights ---- */

CREATE FUNCTION @extschema@.es_grant(role regrole, privilege text, category text DEFAULT '*') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_grant(regrole, text, text) IS
	'gives a role a privilege, append, read or admin, on a category, or on all (*)';

CREATE FUNCTION @extschema@.es_revoke(role regrole, privilege text, category text DEFAULT '*') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_revoke(regrole, text, text) IS
	'takes from a role what es_grant has given it with the same arguments';

CREATE FUNCTION eventstore.list_grants(OUT role name, OUT privilege text, OUT category text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'es_grant_list';
COMMENT ON FUNCTION eventstore.list_grants() IS
	'the grants that the current user may see; behind es_grants';

CREATE VIEW @extschema@.es_grants AS
	SELECT g.role, g.privilege, g.category FROM eventstore.list_grants() g;
COMMENT ON VIEW @extschema@.es_grants IS
	'who may do what: the privileges of the roles whose member one is, or, for whoever has admin on *, of all';
