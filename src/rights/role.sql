/* ---- role: roles as rows name them ---- */

CREATE FUNCTION eventstore.role_name(system_id bigint, role_oid oid, name text) RETURNS name
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'es_role_name';
COMMENT ON FUNCTION eventstore.role_name(bigint, oid, text) IS
	'what the role is called now that a row names by cluster and OID, or, if it is not here, was called; behind views';
