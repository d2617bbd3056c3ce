/* ---- readmodel: the states that projections with a reducer keep ---- */

/*
 * state is what es_projection gives; state_text is what folding goes on from where
 * the reducer's states are not jsonb. Updates are HOT: pages have room.
 */
CREATE TABLE eventstore.projection_states (
	projection_id bigint NOT NULL,
	generation bigint NOT NULL,
	version bigint NOT NULL,
	position bigint NOT NULL,
	key text COLLATE "C" NOT NULL,
	state jsonb,
	state_text text,
	CONSTRAINT projection_states_by_key PRIMARY KEY (projection_id, generation, key)
) WITH (fillfactor = 80);
COMMENT ON TABLE eventstore.projection_states IS 'one row for each key of each projection with a reducer, in each generation';
COMMENT ON COLUMN eventstore.projection_states.version IS 'how many events are folded into the key';
COMMENT ON COLUMN eventstore.projection_states.position IS 'the last of them';

SELECT pg_catalog.pg_extension_config_dump('eventstore.projection_states', '');

CREATE FUNCTION @extschema@.es_projection(projection text, key text DEFAULT NULL)
	RETURNS TABLE (key text, version bigint, "position" bigint, state jsonb)
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_projection(text, text) IS
	'the states that a projection keeps: of one key, or of all (NULL); version tells how many events are folded into it';
