/* ---- subject: whose data is protected, and the keys, each wrapped by the master key ---- */

/*
 * kind: 0, subject is what the path in es_protect gave; 1, it is that as a keyed hash,
 * hexadecimal, since the value is itself protected; 2, no subject: the key of these hashes.
 * A subject may have several keys, of transactions that began at the same time. wrapped is
 * NULL once the key is destroyed.
 */
CREATE TABLE eventstore.subjects (
	created_at timestamptz NOT NULL,
	shredded_at timestamptz,
	fingerprint bigint NOT NULL,
	kind int NOT NULL CHECK (kind OPERATOR(pg_catalog.>=) 0 AND kind OPERATOR(pg_catalog.<=) 2),
	key_id uuid NOT NULL,
	subject text COLLATE "C" NOT NULL,
	wrapped bytea,
	CONSTRAINT subjects_by_key PRIMARY KEY (key_id),
	CHECK ((wrapped IS NULL) OPERATOR(pg_catalog.=) (shredded_at IS NOT NULL))
);
CREATE INDEX subjects_by_subject ON eventstore.subjects USING hash (subject);
COMMENT ON TABLE eventstore.subjects IS 'keys of protected fields, by the subject whose data they protect';
COMMENT ON COLUMN eventstore.subjects.fingerprint IS 'of the master key that the key is wrapped by';
COMMENT ON COLUMN eventstore.subjects.wrapped IS 'the key, encrypted by the master key; NULL once it is destroyed';

SELECT pg_catalog.pg_extension_config_dump('eventstore.subjects', '');

CREATE FUNCTION eventstore.forget_keys() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_subject_forget';
COMMENT ON FUNCTION eventstore.forget_keys() IS 'row trigger: keys that are destroyed, or wrapped anew, elsewhere reach sessions that have them';
CREATE TRIGGER forget_keys AFTER UPDATE OR DELETE ON eventstore.subjects
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_keys();
ALTER TABLE eventstore.subjects ENABLE ALWAYS TRIGGER forget_keys;

CREATE VIEW @extschema@.es_subjects WITH (security_barrier) AS
	SELECT s.subject,
		pg_catalog.min(s.created_at) AS created_at,
		CASE WHEN pg_catalog.bool_or(s.shredded_at IS NOT NULL) THEN pg_catalog.max(s.shredded_at) END AS shredded_at,
		s.kind OPERATOR(pg_catalog.=) 1 AS hashed
	FROM eventstore.subjects s
	WHERE s.kind OPERATOR(pg_catalog.<) 2
		AND eventstore.has_right('admin', NULL)
	GROUP BY s.subject, s.kind;
COMMENT ON VIEW @extschema@.es_subjects IS
	'whose data is protected, and since when it is destroyed; hashed: the subject is itself protected, and shown as its keyed hash';
