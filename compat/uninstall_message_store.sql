/*
 * uninstall_message_store.sql
 *		Takes away what message_store.sql has made, but for the role, which may own or
 *		connect; the events stay.  The role loses USAGE on the extension's schema, and 'append' and 'read' on all,
 *		whoever gave them.  Whatever else depends on it, or lies in its schema, keeps
 *		it from going.
 */
DO $uninstall$
DECLARE
	schema text;
	path text := pg_catalog.current_setting('search_path');
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('message_store.messages') AND relkind <> 'v') THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'schema "message_store" has the tables of message-db',
			HINT = 'What message_store.sql makes is not in this database.';
	END IF;
	DROP VIEW message_store.category_type_summary, message_store.type_category_summary, message_store.type_stream_summary,
		message_store.stream_type_summary, message_store.type_summary, message_store.stream_summary, message_store.messages;
	DROP FUNCTION message_store.get_category_messages, message_store.passes_category_filter, message_store.check_category_filter,
		message_store.get_last_stream_message, message_store.get_stream_messages, message_store.conditional_query,
		message_store.require_sql_condition, message_store.write_message, message_store.stream_version,
		message_store.acquire_lock, message_store.lock_key, message_store.cardinal_id, message_store.id, message_store.is_category,
		message_store.category, message_store.hash_64, message_store.message_store_version;
	DROP TYPE message_store.message;
	DROP SCHEMA message_store;
	SELECT pg_catalog.quote_ident(n.nspname) INTO schema
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'eventstore';
	IF schema IS NOT NULL AND to_regrole('message_store') IS NOT NULL THEN
		EXECUTE format('REVOKE USAGE ON SCHEMA %s FROM message_store', schema);
		EXECUTE format('SELECT %1$s.es_revoke(%2$L, %3$L), %1$s.es_revoke(%2$L, %4$L)', schema, 'message_store', 'append', 'read');
	END IF;
	PERFORM pg_catalog.set_config('search_path', path, true);
END
$uninstall$;
