/* ---- history: what a feed has before its seam ---- */

CREATE FUNCTION @extschema@.es_feed_history(after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000,
		categories text[] DEFAULT NULL, types text[] DEFAULT NULL, query jsonb DEFAULT NULL, feed_query jsonb DEFAULT NULL,
		to_position bigint DEFAULT NULL) RETURNS SETOF @extschema@.es_event
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_feed_history(bigint, bigint, text[], text[], jsonb, jsonb, bigint) IS
	'events that pass a feed''s filters and a consumer''s, both queries included, in order of position, up to where all positions are final';
