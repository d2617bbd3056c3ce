/* ---- wait: until the log has moved on ---- */

CREATE FUNCTION @extschema@.es_wait(after_position bigint, timeout interval) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_wait(bigint, interval) IS
	'waits until the settled position passes after_position, or the timeout (at most eventstore.max_wait) ends; returns the settled position';

CREATE PROCEDURE @extschema@.es_wait_for(after_position bigint, timeout interval, INOUT settled bigint DEFAULT NULL)
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE @extschema@.es_wait_for(bigint, interval, bigint) IS
	'like es_wait, but waits without snapshot and transaction id, and as long as told; inside a transaction block like es_wait';
