/* ---- subscribe: making and dropping subscriptions ---- */

CREATE FUNCTION @extschema@.es_subscribe(subscription text, after_position bigint DEFAULT 0, categories text[] DEFAULT NULL,
		types text[] DEFAULT NULL, partitions int DEFAULT 1, max_attempts int DEFAULT 5, query jsonb DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_subscribe(text, bigint, text[], text[], int, int, jsonb) IS
	'makes a subscription to what follows a position (NULL: from now on), of some categories and types, of what matches a query, or of all (NULL)';

CREATE FUNCTION @extschema@.es_unsubscribe(subscription text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_unsubscribe(text) IS 'drops a subscription with all that is known of it';
