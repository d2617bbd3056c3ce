/* ---- settle: which positions are final ---- */

/* The newest position known to be final, for readers that cannot see who is writing. One row at most. */
CREATE TABLE eventstore.settled_mark (
	position bigint NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE eventstore.settled_mark IS 'the position up to which the log was final when es_settle() last ran; hot standbys read by it';

CREATE FUNCTION @extschema@.es_settled_position() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_settled_position() IS
	'the position up to which every position is final: committed and visible, or empty for good; 0 for an empty log';

CREATE FUNCTION @extschema@.es_settle() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_settle() IS
	'writes the settled position where hot standbys read it, and returns it';
