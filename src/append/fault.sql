/* ---- fault: what an append would refuse ---- */

CREATE FUNCTION eventstore.append_fault(stream text, type text, data jsonb, metadata jsonb) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_fault_of_append';
COMMENT ON FUNCTION eventstore.append_fault(text, text, jsonb, jsonb) IS
	'what of a new event''s data and metadata would be refused, by their size and by what is defined of the event''s type and category; NULL: nothing';
