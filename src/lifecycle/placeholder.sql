/* ---- placeholder: what stands in the log for a segment that was given back ---- */

CREATE FUNCTION eventstore.placeholder() RETURNS fdw_handler
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_placeholder_handler';
COMMENT ON FUNCTION eventstore.placeholder() IS 'handler of foreign tables that stand in the log for segments that were given back: whoever reads one is told so';

CREATE FOREIGN DATA WRAPPER eventstore_placeholder HANDLER eventstore.placeholder NO VALIDATOR;
COMMENT ON FOREIGN DATA WRAPPER eventstore_placeholder IS 'segments of the event store that were given back';

CREATE SERVER eventstore_placeholder FOREIGN DATA WRAPPER eventstore_placeholder;
COMMENT ON SERVER eventstore_placeholder IS 'segments of the event store that were given back';
