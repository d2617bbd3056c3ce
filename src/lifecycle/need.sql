/* ---- need: who still needs events that are hidden ---- */

CREATE FUNCTION @extschema@.es_hold_events(after_position bigint) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_hold_events(bigint) IS
	'has scavenging leave events after a position, for a session that is reading the history; until it calls again, with NULL to let go, or ends';
