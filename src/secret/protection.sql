/* ---- protection: which fields are protected ---- */

/*
 * A definition holds for the events after its position, up to that of the category's next
 * one. It has all that is protected then; no paths: nothing is, any more.
 */
CREATE TABLE eventstore.protections (
	after_position bigint NOT NULL,
	created_at timestamptz NOT NULL,
	hashed boolean NOT NULL,
	category text COLLATE "C" NOT NULL,
	subject text,
	paths text[] NOT NULL,
	CONSTRAINT protections_by_category PRIMARY KEY (category, after_position),
	CHECK (subject IS NOT NULL OR paths OPERATOR(pg_catalog.=) '{}')
);
COMMENT ON TABLE eventstore.protections IS 'which fields of which categories'' events are protected, from which position on';
COMMENT ON COLUMN eventstore.protections.after_position IS 'the last position given out when it was defined: no event up to there is protected by it';
COMMENT ON COLUMN eventstore.protections.hashed IS 'the subject is itself protected, and known by a keyed hash';

SELECT pg_catalog.pg_extension_config_dump('eventstore.protections', '');

CREATE FUNCTION eventstore.forget_protections() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_protection_forget';
COMMENT ON FUNCTION eventstore.forget_protections() IS 'row trigger: rows that a restore or a subscription brings reach sessions that know what is protected';
CREATE TRIGGER forget_protections AFTER INSERT OR UPDATE OR DELETE ON eventstore.protections
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_protections();
ALTER TABLE eventstore.protections ENABLE ALWAYS TRIGGER forget_protections;

CREATE VIEW @extschema@.es_protections WITH (security_barrier) AS
	SELECT p.category, p.paths, p.subject, p.after_position, p.created_at, p.hashed
	FROM eventstore.protections p
	WHERE p.paths OPERATOR(pg_catalog.<>) '{}'
		AND (eventstore.may_see_all(ARRAY[p.category]) OR eventstore.has_right('append', p.category))
		AND NOT EXISTS (SELECT FROM eventstore.protections later
			WHERE later.category OPERATOR(pg_catalog.=) p.category
				AND later.after_position OPERATOR(pg_catalog.>) p.after_position);
COMMENT ON VIEW @extschema@.es_protections IS
	'which fields of which categories'' events are encrypted, and whose data they are; events up to after_position may be plain, or follow an earlier definition';
