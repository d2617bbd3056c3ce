/* ---- grantrow: what has been granted ---- */

/*
 * One row a privilege. A row of this cluster (system_id) is the role's of role_oid, so that it
 * goes with a role that is renamed, and not to one that is made anew under its name; any other row,
 * which came with a dump, a subscription or pg_upgrade, is the role's of that name. grant_id is the key,
 * since rows of two clusters may say the same.
 */
CREATE TABLE eventstore.grants (
	grant_id uuid NOT NULL,
	system_id bigint NOT NULL,
	role_oid oid NOT NULL,
	role text COLLATE "C" NOT NULL,
	privilege text COLLATE "C" NOT NULL CHECK (privilege OPERATOR(pg_catalog.=) ANY ('{append,read,admin}')),
	category text COLLATE "C" NOT NULL CHECK (category OPERATOR(pg_catalog.<>) '' AND pg_catalog.strpos(category, '-') OPERATOR(pg_catalog.=) 0),
	CONSTRAINT grants_by_id PRIMARY KEY (grant_id)
);
COMMENT ON TABLE eventstore.grants IS 'who may do what: one row for each privilege of a role on a category, or on all (*)';
COMMENT ON COLUMN eventstore.grants.system_id IS 'the cluster that role_oid is of; in others the row goes by the name';

SELECT pg_catalog.pg_extension_config_dump('eventstore.grants', '');

CREATE FUNCTION eventstore.forget_grants() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_grantrow_forget';
COMMENT ON FUNCTION eventstore.forget_grants() IS 'row trigger: rows that a restore or a subscription brings reach sessions that know the rights';
CREATE TRIGGER forget_grants AFTER INSERT OR UPDATE OR DELETE ON eventstore.grants
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_grants();
ALTER TABLE eventstore.grants ENABLE ALWAYS TRIGGER forget_grants;
