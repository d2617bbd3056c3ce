/* ---- alter: changing what a subscription is of ---- */

CREATE FUNCTION @extschema@.es_alter_subscription(subscription text, categories text[], types text[], max_attempts int,
		query jsonb DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_alter_subscription(text, text[], text[], int, jsonb) IS
	'changes the filter of a subscription, from its checkpoints on, and how often an event may fail; NULL leaves it as it is';
