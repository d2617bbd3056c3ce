/* ---- lag: how far consumers are behind ---- */

CREATE FUNCTION eventstore.log_ends(OUT settled bigint, OUT last bigint) RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_log_ends';
COMMENT ON FUNCTION eventstore.log_ends() IS 'the settled position, and the last one ever given out; behind the views that tell lags';

/* STABLE, though it looks afresh: else it is called even where nobody asks for its column. */
CREATE FUNCTION eventstore.lag_time(after bigint, last bigint, categories text[], types text[]) RETURNS interval
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_lag_time';
COMMENT ON FUNCTION eventstore.lag_time(bigint, bigint, text[], text[]) IS
	'the age of the oldest event between two positions that is of these categories and types; NULL if there is none; behind es_projections';
