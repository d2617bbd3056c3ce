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
	failed_since timestamptz,
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
COMMENT ON COLUMN eventstore.projection_progress.failed_since IS 'when it failed for the first time since it last got on';
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

/*
 * Of a projection and its rebuild the one that has failed tells of the failure, the
 * projection first. The error may tell of events, and is for who may read them. A handler is shown with its arguments, to be pasted as a regprocedure.
 */
CREATE VIEW @extschema@.es_projections WITH (security_barrier) AS
	WITH ends AS MATERIALIZED (SELECT e.settled, e.last FROM eventstore.log_ends() e)
	SELECT p.name AS projection,
		p.mode,
		CASE WHEN f.error IS NOT NULL THEN 'failed'
			WHEN rebuild.projection_id IS NOT NULL THEN 'rebuilding'
			ELSE 'running'
		END AS status,
		CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' THEN e.settled ELSE live.position END AS position,
		CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' THEN 0::pg_catalog.int8
			ELSE GREATEST(e.last OPERATOR(pg_catalog.-) live.position, 0::pg_catalog.int8)
		END AS lag,
		CASE WHEN f.error IS NOT NULL AND eventstore.may_read_all(p.categories) THEN f.error END AS error,
		f.error_position,
		rebuild.position AS rebuild_position,
		p.reducer,
		p.handler OPERATOR(pg_catalog.||) '(@extschema@.es_event)' AS handler,
		CASE WHEN pg_catalog.cardinality(p.categories) OPERATOR(pg_catalog.=) 1 THEN p.categories[1] END AS category,
		p.key,
		p.creator,
		COALESCE(f.attempts, 0) AS attempts,
		f.failed_since,
		f.retry_at AS next_retry,
		CASE WHEN p.mode OPERATOR(pg_catalog.=) 'async'
			THEN eventstore.lag_time(live.position, e.last, p.categories, p.types)
		END AS lag_time,
		p.categories,
		p.types,
		p.reset OPERATOR(pg_catalog.||) '()' AS reset
	FROM eventstore.projections p
	JOIN eventstore.projection_progress live
		ON live.projection_id OPERATOR(pg_catalog.=) p.projection_id AND live.live
	LEFT JOIN eventstore.projection_progress rebuild
		ON rebuild.projection_id OPERATOR(pg_catalog.=) p.projection_id AND NOT rebuild.live
	LEFT JOIN eventstore.projection_progress f
		ON f.projection_id OPERATOR(pg_catalog.=) p.projection_id AND f.error IS NOT NULL
		AND f.generation OPERATOR(pg_catalog.=) CASE WHEN live.error IS NOT NULL THEN live.generation ELSE rebuild.generation END
	CROSS JOIN ends e
	WHERE eventstore.may_see_all(p.categories);
COMMENT ON VIEW @extschema@.es_projections IS
	'projections: what each is made of, how far it is taken in, how far it is behind, the error that stops it, how far a rebuild is; for who has read or admin on that';
