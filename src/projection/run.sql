/* ---- run: what runs projections, and waits for them ---- */

CREATE FUNCTION @extschema@.es_run_projection(projection text, max_events bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_run_projection(text, bigint) IS
	'takes in what a projection has not yet, and goes on with its rebuild, up to where the log is settled; returns how many events it took in';

CREATE FUNCTION @extschema@.es_wait_projection(projection text, "position" bigint, timeout interval) RETURNS boolean
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_wait_projection(text, bigint, interval) IS
	'waits until a projection has taken in everything up to a position, has failed, or the timeout (at most eventstore.max_wait) ends; tells whether it has';

CREATE FUNCTION @extschema@.es_wait_projection(projection text, stream text, version bigint, timeout interval) RETURNS boolean
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_wait_projection_version';
COMMENT ON FUNCTION @extschema@.es_wait_projection(text, text, bigint, interval) IS
	'waits until a projection has taken in a stream''s event, by the version that its append returned, has failed, or the timeout ends; tells whether it has';

CREATE FUNCTION @extschema@.es_skip_event(projection text, "position" bigint) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_skip_event(text, bigint) IS
	'has a projection leave out the event at which it stands failed; eventstore.projection_skips keeps that on record';
