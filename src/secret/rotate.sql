/* ---- rotate: another master key ---- */

CREATE FUNCTION @extschema@.es_rotate_master_key(old_key_command text) RETURNS void
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.es_rotate_master_key(text) IS
	'wraps all keys of protected fields by the master key that eventstore.master_key_command prints now; the argument is a shell command that prints the former one';
