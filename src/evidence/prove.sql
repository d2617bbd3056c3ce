/* ---- prove: proofs ---- */

CREATE FUNCTION @extschema@.es_proof("position" bigint, seal bigint DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_proof(bigint, bigint) IS
	'the audit path from an event to the root of a seal, the last one or that of a position, as RFC 6962 has it';

CREATE FUNCTION @extschema@.es_prove_consistency(first_seal bigint, second_seal bigint DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_prove_consistency(bigint, bigint) IS
	'the proof that what one seal has closed is the beginning of what a later one has, as RFC 6962 has it';
