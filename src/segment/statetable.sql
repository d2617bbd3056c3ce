/* ---- statetable: the tables of projections' states ---- */

/*
 * Partitioned by projection; a partition is made with its projection. Neither key nor
 * storage parameters are here: each partition has its own, see statetable.c. state is
 * what es_projection gives; state_text is what folding goes on from where the
 * reducer's states are not jsonb.
 */
CREATE TABLE eventstore.projection_states (
	projection_id bigint NOT NULL,
	generation bigint NOT NULL,
	version bigint NOT NULL,
	position bigint NOT NULL,
	key text COLLATE "C" NOT NULL,
	state jsonb,
	state_text text,
	sealed text
) PARTITION BY LIST (projection_id);
COMMENT ON TABLE eventstore.projection_states IS 'one row for each key of each projection with a reducer, in each generation; partitioned by projection';
COMMENT ON COLUMN eventstore.projection_states.version IS 'how many events are folded into the key';
COMMENT ON COLUMN eventstore.projection_states.position IS 'the last of them';
COMMENT ON COLUMN eventstore.projection_states.sealed IS 'the state, encrypted, if it was made of protected data in another way than by copies';

CREATE FUNCTION eventstore.before_publish() RETURNS event_trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_statetable_before_publish';
COMMENT ON FUNCTION eventstore.before_publish() IS 'event trigger: gives eventstore.projection_states the key that changes are published by';

CREATE EVENT TRIGGER eventstore_before_publish ON ddl_command_start
	WHEN TAG IN ('CREATE PUBLICATION', 'ALTER PUBLICATION')
	EXECUTE FUNCTION eventstore.before_publish();
COMMENT ON EVENT TRIGGER eventstore_before_publish IS 'gives eventstore.projection_states the key that changes are published by';
ALTER EVENT TRIGGER eventstore_before_publish ENABLE ALWAYS;

CREATE FUNCTION eventstore.after_index() RETURNS event_trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_statetable_after_index';
COMMENT ON FUNCTION eventstore.after_index() IS 'event trigger: an index on eventstore.projection_states becomes one of each of its partitions';

CREATE EVENT TRIGGER eventstore_after_index ON ddl_command_end
	WHEN TAG IN ('CREATE INDEX')
	EXECUTE FUNCTION eventstore.after_index();
COMMENT ON EVENT TRIGGER eventstore_after_index IS 'has an index on eventstore.projection_states be one of each of its partitions';
ALTER EVENT TRIGGER eventstore_after_index ENABLE ALWAYS;
