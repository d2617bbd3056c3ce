/* ---- definition: what feeds let through, whoever reads them ---- */

/*
 * Feeds are this server's own, as their slots are: not dumped, and what replication brings
 * of another server's is left out. Output plugins read both tables as of a place in the
 * WAL (feed/asof.c).
 */
CREATE TABLE eventstore.feeds (
	definition pg_lsn NOT NULL,
	name text COLLATE "C" NOT NULL,
	CONSTRAINT feeds_by_name PRIMARY KEY (name)
) WITH (user_catalog_table = true);
COMMENT ON TABLE eventstore.feeds IS 'which definition a feed has, be its slot there or not';

/*
 * Rows are added, and go with the feed. A revision has as many rows as it takes to keep each of
 * them small, as rows stored out of line cannot be read as of a place: its lists, and the JSON of its
 * query, are those of all its parts, in order; NULL: no filter.
 */
CREATE TABLE eventstore.feed_definitions (
	definition pg_lsn NOT NULL,
	revision int NOT NULL,
	part int NOT NULL,
	format text COLLATE "C" NOT NULL,
	categories text[],
	types text[],
	query text COLLATE "C",
	CONSTRAINT feed_definitions_by_key PRIMARY KEY (definition, revision, part)
) WITH (user_catalog_table = true);
ALTER TABLE eventstore.feed_definitions ALTER categories SET STORAGE PLAIN, ALTER types SET STORAGE PLAIN, ALTER query SET STORAGE PLAIN;
COMMENT ON TABLE eventstore.feed_definitions IS 'the revisions of feeds'' definitions: each counts from its transaction''s commit on in the WAL';

/* Known to dumps, which have none of their rows. */
SELECT pg_catalog.pg_extension_config_dump('eventstore.feeds', 'WHERE false');
SELECT pg_catalog.pg_extension_config_dump('eventstore.feed_definitions', 'WHERE false');

/* What feeds are now, for es_feeds. */
CREATE VIEW eventstore.feed_settings AS
	SELECT f.name, d.format,
		CASE WHEN d.categories IS NOT NULL THEN ARRAY(
			SELECT u.name FROM eventstore.feed_definitions p
			CROSS JOIN LATERAL pg_catalog.unnest(p.categories) WITH ORDINALITY AS u(name, place)
			WHERE p.definition OPERATOR(pg_catalog.=) d.definition AND p.revision OPERATOR(pg_catalog.=) d.revision
			ORDER BY p.part, u.place) END AS categories,
		CASE WHEN d.types IS NOT NULL THEN ARRAY(
			SELECT u.name FROM eventstore.feed_definitions p
			CROSS JOIN LATERAL pg_catalog.unnest(p.types) WITH ORDINALITY AS u(name, place)
			WHERE p.definition OPERATOR(pg_catalog.=) d.definition AND p.revision OPERATOR(pg_catalog.=) d.revision
			ORDER BY p.part, u.place) END AS types,
		CASE WHEN d.query IS NOT NULL THEN (
			SELECT pg_catalog.string_agg(p.query, '' ORDER BY p.part) FROM eventstore.feed_definitions p
			WHERE p.definition OPERATOR(pg_catalog.=) d.definition AND p.revision OPERATOR(pg_catalog.=) d.revision
			)::pg_catalog.jsonb END AS query
	FROM eventstore.feeds f
	JOIN eventstore.feed_definitions d ON d.definition OPERATOR(pg_catalog.=) f.definition AND d.part OPERATOR(pg_catalog.=) 1
	WHERE NOT EXISTS (
		SELECT FROM eventstore.feed_definitions later
		WHERE later.definition OPERATOR(pg_catalog.=) d.definition AND later.revision OPERATOR(pg_catalog.>) d.revision);
COMMENT ON VIEW eventstore.feed_settings IS 'what each feed lets through now, and its format; behind es_feeds';
