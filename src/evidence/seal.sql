/* ---- seal: the log so far, closed under a root ---- */

/*
 * Each seal says up to which position it closes the log, how many events there are, and the root
 * of the tree over them; chain is a digest of that and of the chain of the seal before.
 */
CREATE TABLE eventstore.seals (
	position bigint NOT NULL,
	size bigint NOT NULL,
	sealed_at timestamptz NOT NULL,
	root bytea NOT NULL,
	chain bytea NOT NULL,
	CONSTRAINT seals_pkey PRIMARY KEY (position)
);
COMMENT ON TABLE eventstore.seals IS 'one row for each seal';
COMMENT ON COLUMN eventstore.seals.chain IS 'SHA-256 over the seal and the chain of the one before';

SELECT pg_catalog.pg_extension_config_dump('eventstore.seals', '');

CREATE VIEW @extschema@.es_seals WITH (security_barrier) AS
	SELECT s.position, s.size, pg_catalog.encode(s.root, 'hex') AS root, s.sealed_at, pg_catalog.encode(s.chain, 'hex') AS chain
	FROM eventstore.seals s
	WHERE eventstore.may_anything();
COMMENT ON VIEW @extschema@.es_seals IS
	'one row for each seal: up to which position it closes the log, how many events that are, the root over them, when it was made, and the chain over it and all before';
