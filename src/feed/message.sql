/* ---- message: events as a feed writes them ---- */

CREATE FUNCTION @extschema@.es_feed_message(event @extschema@.es_event, format text DEFAULT 'json') RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_feed_message(@extschema@.es_event, text) IS
	'an event as the message that a feed has of it, byte by byte';
