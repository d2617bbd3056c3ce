/* ---- progress: how far projections are ---- */

/*
 * A generation is one building of a projection from the log's beginning. One is
 * live; a rebuild makes another one beside it. The columns that change are in no
 * index, and pages have room, so updates are HOT.
 */
CREATE TABLE eventstore.projection_progress (
	projection_id bigint NOT NULL,
	generation bigint NOT NULL,
	position bigint NOT NULL,
	error_position bigint,
	retry_at timestamptz,
	attempts int NOT NULL,
	live boolean NOT NULL,
	litter boolean NOT NULL,
	error text,
	layout text,
	CONSTRAINT projection_progress_by_key PRIMARY KEY (projection_id, generation)
) WITH (fillfactor = 50);
COMMENT ON TABLE eventstore.projection_progress IS 'how far each generation of a projection is: the live one, and the one that a rebuild makes';
COMMENT ON COLUMN eventstore.projection_progress.position IS 'everything up to here is taken in; of an inline projection''s live generation: where it was when it became live';
COMMENT ON COLUMN eventstore.projection_progress.attempts IS 'how often it has failed there in a row';
COMMENT ON COLUMN eventstore.projection_progress.litter IS 'states of earlier generations are still there, to be deleted by and by';
COMMENT ON COLUMN eventstore.projection_progress.layout IS 'what the states'' type was made of as the generation was begun; NULL: states are jsonb, or there are none';
COMMENT ON COLUMN eventstore.projection_progress.retry_at IS 'the worker does not try before this time';

CREATE TABLE eventstore.projection_skips (
	projection_id bigint NOT NULL,
	position bigint NOT NULL,
	skipped_at timestamptz NOT NULL,
	skipped_by text NOT NULL,
	error text,
	CONSTRAINT projection_skips_by_key PRIMARY KEY (projection_id, position)
);
COMMENT ON TABLE eventstore.projection_skips IS 'events that a projection leaves out because somebody said so, and the error there was';

SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_progress', '');
SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_skips', '');

CREATE VIEW @extschema@.es_projections AS
	SELECT p.name AS projection,
		p.mode,
		CASE WHEN live.error IS NOT NULL OR rebuild.error IS NOT NULL THEN 'failed'
			WHEN rebuild.projection_id IS NOT NULL THEN 'rebuilding'
			ELSE 'running'
		END AS status,
		CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' THEN l.settled ELSE live.position END AS position,
		CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' THEN 0::pg_catalog.int8
			ELSE GREATEST(l.settled OPERATOR(pg_catalog.-) live.position, 0::pg_catalog.int8)
		END AS lag,
		COALESCE(live.error, rebuild.error) AS error,
		CASE WHEN live.error IS NOT NULL THEN live.error_position ELSE rebuild.error_position END AS error_position,
		rebuild.position AS rebuild_position
	FROM eventstore.projections p
	JOIN eventstore.projection_progress live
		ON live.projection_id OPERATOR(pg_catalog.=) p.projection_id AND live.live
	LEFT JOIN eventstore.projection_progress rebuild
		ON rebuild.projection_id OPERATOR(pg_catalog.=) p.projection_id AND NOT rebuild.live
	CROSS JOIN (SELECT @extschema@.es_settled_position() AS settled OFFSET 0) l;
COMMENT ON VIEW @extschema@.es_projections IS
	'projections: how far each is taken in, how many positions it is behind, the error that stops it, how far a rebuild is';
