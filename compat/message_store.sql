/*
 * message_store.sql
 *		The interface of message-db 1.3.0 over an eventstore: its schema, its role, its
 *		functions with their arguments, defaults and error texts, its type, its views.
 *
 * Run it as a superuser, by any client, in a database that has the extension; again, to have the
 * functions of a newer release.  uninstall_message_store.sql takes it away; events stay.
 *
 * Functions run with their caller's rights, which es_grant gives; the role message_store gets
 * 'append' and 'read' on all, the first time: what was taken from it since is not given back.  Names
 * are qualified, or parsed here, so no search_path changes what they do; only a caller's own SQL
 * condition is parsed with the caller's.
 *
 * Positions in streams count from 0, versions of the store from 1.  A global position is the
 * store's position.  JSON null data stand for SQL NULL, which an event cannot have.
 */
DO $install$
DECLARE
	schema text;
	path text := pg_catalog.current_setting('search_path');
	first_time boolean;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT pg_catalog.quote_ident(n.nspname) INTO schema
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'eventstore';
	IF schema IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'extension "eventstore" is not in this database',
			HINT = 'CREATE EXTENSION eventstore, then run this script again.';
	END IF;
	IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('message_store.messages') AND relkind <> 'v') THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_schema', MESSAGE = 'schema "message_store" has the tables of message-db',
			HINT = 'Give it another name (ALTER SCHEMA message_store RENAME TO message_db), then run this script, and from_message_db.sql.';
	END IF;
	first_time := to_regclass('message_store.messages') IS NULL OR to_regrole('message_store') IS NULL;
	IF to_regrole('message_store') IS NULL THEN
		CREATE ROLE message_store LOGIN;
	END IF;
	IF to_regnamespace('message_store') IS NULL THEN
		CREATE SCHEMA message_store;
	END IF;
	IF to_regtype('message_store.message') IS NULL THEN
		CREATE TYPE message_store.message AS (id varchar, stream_name varchar, type varchar, "position" bigint,
			global_position bigint, data varchar, metadata varchar, "time" timestamp);
	END IF;

	EXECUTE replace(replace($script$

/* ---- names of streams ---- */

CREATE OR REPLACE FUNCTION message_store.message_store_version() RETURNS varchar
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN '1.3.0'::varchar;
COMMENT ON FUNCTION message_store.message_store_version() IS 'the version of message-db whose interface this is';

CREATE OR REPLACE FUNCTION message_store.hash_64(value varchar) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN ('x' || substr(md5(value), 1, 16))::bit(64)::bigint;
COMMENT ON FUNCTION message_store.hash_64(varchar) IS 'the first 64 bits of a value''s MD5';

CREATE OR REPLACE FUNCTION message_store.category(stream_name varchar) RETURNS varchar
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN split_part(stream_name, '-', 1);
COMMENT ON FUNCTION message_store.category(varchar) IS 'a stream''s category: its name before the first "-"';

CREATE OR REPLACE FUNCTION message_store.is_category(stream_name varchar) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN COALESCE(strpos(stream_name, '-') = 0, true);
COMMENT ON FUNCTION message_store.is_category(varchar) IS 'whether a name has no "-"';

CREATE OR REPLACE FUNCTION message_store.id(stream_name varchar) RETURNS varchar
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN substr(stream_name, NULLIF(strpos(stream_name, '-'), 0) + 1);
COMMENT ON FUNCTION message_store.id(varchar) IS 'a stream''s id: its name after the first "-"; NULL for a category';

CREATE OR REPLACE FUNCTION message_store.cardinal_id(stream_name varchar) RETURNS varchar
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN split_part(message_store.id(stream_name), '+', 1);
COMMENT ON FUNCTION message_store.cardinal_id(varchar) IS 'a stream''s id before the first "+"; NULL for a category';

/* ---- writing ---- */

/* Writers share what acquire_lock takes alone.  The key is not hash_64, which would be most of what the lock costs. */
CREATE OR REPLACE FUNCTION message_store.lock_key(stream_name varchar) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN hashtextextended(split_part(stream_name, '-', 1), 7814992342398198384);
COMMENT ON FUNCTION message_store.lock_key(varchar) IS 'the key of the advisory lock on a stream''s category';

CREATE OR REPLACE FUNCTION message_store.acquire_lock(stream_name varchar) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT pg_advisory_xact_lock(message_store.lock_key(stream_name));
	SELECT message_store.hash_64(message_store.category(stream_name));
END;
COMMENT ON FUNCTION message_store.acquire_lock(varchar) IS
	'keeps others from writing to the stream''s category until the transaction ends, and returns hash_64 of the category';

CREATE OR REPLACE FUNCTION message_store.stream_version(stream_name varchar) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	RETURN CASE WHEN stream_name IS NOT NULL THEN NULLIF(@extschema@.es_stream_version(stream_name), 0) - 1 END;
COMMENT ON FUNCTION message_store.stream_version(varchar) IS 'the position of the stream''s last message; NULL if it never had one';

CREATE OR REPLACE FUNCTION message_store.write_message(id varchar, stream_name varchar, "type" varchar, data jsonb,
		metadata jsonb DEFAULT NULL, expected_version bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_shared boolean := pg_catalog.pg_advisory_xact_lock_shared(message_store.lock_key(write_message.stream_name)) IS NULL;
	_tried record;
BEGIN
	IF write_message.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'not_null_violation', SCHEMA = 'message_store', TABLE = 'messages', COLUMN = 'id',
			MESSAGE = 'null value in column "id" of relation "messages" violates not-null constraint';
	END IF;
	_tried := @extschema@.es_try_append(write_message.stream_name, write_message.type,
		COALESCE(write_message.data, 'null'::pg_catalog.jsonb),
		CASE WHEN write_message.metadata OPERATOR(pg_catalog.<>) 'null'::pg_catalog.jsonb THEN write_message.metadata END,
		CASE WHEN write_message.expected_version OPERATOR(pg_catalog.<) -1 THEN 9223372036854775807
			WHEN write_message.expected_version IS NOT NULL
				THEN LEAST(write_message.expected_version, 9223372036854775806) OPERATOR(pg_catalog.+) 1 END,
		write_message.id::pg_catalog.uuid);
	IF _tried.outcome OPERATOR(pg_catalog.=) 'appended' THEN
		RETURN _tried.version OPERATOR(pg_catalog.-) 1;
	ELSIF _tried.outcome OPERATOR(pg_catalog.=) 'stored' AND write_message.expected_version IS NOT NULL THEN
		/* the stream's version, for who may not read it */
		_tried.version := @extschema@.es_append_batch(write_message.stream_name, '[]'::pg_catalog.jsonb);
	END IF;
	IF write_message.expected_version OPERATOR(pg_catalog.<>) (_tried.version OPERATOR(pg_catalog.-) 1) THEN
		RAISE EXCEPTION 'Wrong expected version: % (Stream: %, Stream Version: %)',
			write_message.expected_version, write_message.stream_name, _tried.version OPERATOR(pg_catalog.-) 1;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'unique_violation', SCHEMA = 'message_store', TABLE = 'messages', CONSTRAINT = 'messages_id',
		MESSAGE = 'duplicate key value violates unique constraint "messages_id"',
		DETAIL = pg_catalog.format('Key (id)=(%s) already exists.', write_message.id::pg_catalog.uuid);
END
$$;
COMMENT ON FUNCTION message_store.write_message(varchar, varchar, varchar, jsonb, jsonb, bigint) IS
	'writes a message and returns its position in the stream, from 0; expected_version: the position of the stream''s last message, -1 for none';

/* ---- the messages ---- */

CREATE OR REPLACE VIEW message_store.messages WITH (security_invoker = true) AS
	SELECT e."position" AS global_position, e.version - 1 AS "position", e.recorded_at AT TIME ZONE 'UTC' AS "time",
		e.stream AS stream_name, e.type, CASE WHEN e.data <> 'null' THEN e.data END AS data, e.metadata, e.event_id AS id
	FROM @extschema@.es_events e;
COMMENT ON VIEW message_store.messages IS 'the messages that one may read';

CREATE OR REPLACE FUNCTION message_store.require_sql_condition() RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	IF pg_catalog.lower(COALESCE(pg_catalog.current_setting('message_store.sql_condition', true), ''))
		OPERATOR(pg_catalog.=) ANY ('{on,true,yes,1}'::pg_catalog.text[]) THEN
		RETURN;
	END IF;
	RAISE EXCEPTION 'Retrieval with SQL condition is not activated';
END
$$;
COMMENT ON FUNCTION message_store.require_sql_condition() IS 'raises unless the session has message_store.sql_condition = on';

/* Columns as a condition knows them; then as functions return them. */
CREATE OR REPLACE FUNCTION message_store.conditional_query(source text, condition varchar, ordering text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN 'SELECT id::pg_catalog.varchar, stream_name::pg_catalog.varchar, type::pg_catalog.varchar, "position", global_position,
			data::pg_catalog.varchar, metadata::pg_catalog.varchar, "time"
		FROM (SELECT e.event_id AS id, e.stream AS stream_name, e.type,
				e.version OPERATOR(pg_catalog.-) 1 AS "position", e."position" AS global_position,
				CASE WHEN e.data OPERATOR(pg_catalog.<>) ''null'' THEN e.data END AS data, e.metadata,
				pg_catalog.timezone(''UTC'', e.recorded_at) AS "time"
			FROM ' || source || ') AS messages
		WHERE (' || condition || '
		) ORDER BY ' || ordering || ' LIMIT $1';
COMMENT ON FUNCTION message_store.conditional_query(text, varchar, text) IS 'the text of a query over messages with a caller''s SQL condition';

/* ---- reading ---- */

CREATE OR REPLACE FUNCTION message_store.get_stream_messages(stream_name varchar, "position" bigint DEFAULT 0,
		batch_size bigint DEFAULT 1000, condition varchar DEFAULT NULL) RETURNS SETOF message_store.message
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_from bigint := LEAST(GREATEST(get_stream_messages."position", 0), 9223372036854775806) OPERATOR(pg_catalog.+) 1;
	_limit bigint := COALESCE(get_stream_messages.batch_size, 1000);
BEGIN
	IF message_store.is_category(get_stream_messages.stream_name) THEN
		RAISE EXCEPTION 'Must be a stream name: %', get_stream_messages.stream_name;
	END IF;
	IF _limit OPERATOR(pg_catalog.=) -1 THEN
		_limit := NULL;
	END IF;
	IF get_stream_messages.condition IS NULL THEN
		RETURN QUERY SELECT e.event_id::pg_catalog.varchar, e.stream::pg_catalog.varchar, e.type::pg_catalog.varchar,
				e.version OPERATOR(pg_catalog.-) 1, e."position",
				CASE WHEN e.data OPERATOR(pg_catalog.<>) 'null' THEN e.data END::pg_catalog.varchar,
				e.metadata::pg_catalog.varchar, pg_catalog.timezone('UTC', e.recorded_at)
			FROM @extschema@.es_read(get_stream_messages.stream_name, _from,
				CASE WHEN _limit OPERATOR(pg_catalog.>=) 0 THEN _limit END) e
			ORDER BY e.version LIMIT _limit;
		RETURN;
	END IF;
	PERFORM message_store.require_sql_condition();
	RETURN QUERY EXECUTE message_store.conditional_query('@extschema_in_quotes@.es_read($2, $3) e', get_stream_messages.condition, '"position"')
		USING _limit, get_stream_messages.stream_name, _from;
END
$$;
COMMENT ON FUNCTION message_store.get_stream_messages(varchar, bigint, bigint, varchar) IS
	'messages of a stream from a position on; batch_size -1: all of them';

CREATE OR REPLACE FUNCTION message_store.get_last_stream_message(stream_name varchar, type varchar DEFAULT NULL)
		RETURNS SETOF message_store.message
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF get_last_stream_message.stream_name IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT e.event_id::pg_catalog.varchar, e.stream::pg_catalog.varchar, e.type::pg_catalog.varchar,
			e.version OPERATOR(pg_catalog.-) 1, e."position",
			CASE WHEN e.data OPERATOR(pg_catalog.<>) 'null' THEN e.data END::pg_catalog.varchar,
			e.metadata::pg_catalog.varchar, pg_catalog.timezone('UTC', e.recorded_at)
		FROM @extschema@.es_read(get_last_stream_message.stream_name, NULL, NULL, true) e
		WHERE get_last_stream_message.type IS NULL OR e.type OPERATOR(pg_catalog.=) get_last_stream_message.type
		ORDER BY e.version DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION message_store.get_last_stream_message(varchar, varchar) IS
	'the last message of a stream, or the last of a type';

/* Raises unless correlation and consumer group are such as can be asked for. */
CREATE OR REPLACE FUNCTION message_store.check_category_filter(correlation varchar, consumer_group_member bigint,
		consumer_group_size bigint) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
	_fault text;
BEGIN
	IF pg_catalog.strpos(check_category_filter.correlation, '-') OPERATOR(pg_catalog.>) 0 THEN
		RAISE EXCEPTION 'Correlation must be a category (Correlation: %)', check_category_filter.correlation;
	END IF;
	_fault := CASE
		WHEN (check_category_filter.consumer_group_member IS NULL) OPERATOR(pg_catalog.<>) (check_category_filter.consumer_group_size IS NULL)
			THEN 'member and size must be specified'
		WHEN check_category_filter.consumer_group_size OPERATOR(pg_catalog.<) 1 THEN 'size must not be less than 1'
		WHEN check_category_filter.consumer_group_member OPERATOR(pg_catalog.<) 0 THEN 'member must not be less than 0'
		WHEN check_category_filter.consumer_group_member OPERATOR(pg_catalog.>=) check_category_filter.consumer_group_size
			THEN 'member must be less than the group size'
	END;
	IF _fault IS NOT NULL THEN
		RAISE EXCEPTION 'Consumer group % (Consumer Group Member: %, Consumer Group Size: %)',
			_fault, check_category_filter.consumer_group_member, check_category_filter.consumer_group_size;
	END IF;
END
$$;
COMMENT ON FUNCTION message_store.check_category_filter(varchar, bigint, bigint) IS
	'raises unless correlation and consumer group are such as can be asked for';

/* Whether a message is one that a reader of a category asks for; NULL is no. */
CREATE OR REPLACE FUNCTION message_store.passes_category_filter(stream_name text, metadata jsonb, correlation varchar,
		consumer_group_member bigint, consumer_group_size bigint) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (correlation IS NULL OR split_part(metadata ->> 'correlationStreamName', '-', 1) = correlation)
		AND (consumer_group_size IS NULL
			OR abs(message_store.hash_64(message_store.cardinal_id(stream_name)) % consumer_group_size) = consumer_group_member);
COMMENT ON FUNCTION message_store.passes_category_filter(text, jsonb, varchar, bigint, bigint) IS
	'whether a message is of the correlation and for the consumer group''s member';

CREATE OR REPLACE FUNCTION message_store.get_category_messages(category varchar, "position" bigint DEFAULT 1,
		batch_size bigint DEFAULT 1000, correlation varchar DEFAULT NULL, consumer_group_member bigint DEFAULT NULL,
		consumer_group_size bigint DEFAULT NULL, condition varchar DEFAULT NULL) RETURNS SETOF message_store.message
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_after bigint := GREATEST(get_category_messages."position", 1) OPERATOR(pg_catalog.-) 1;
	_limit bigint := COALESCE(get_category_messages.batch_size, 1000);
	_filtered boolean := get_category_messages.correlation IS NOT NULL OR get_category_messages.consumer_group_member IS NOT NULL
		OR get_category_messages.consumer_group_size IS NOT NULL;
BEGIN
	IF NOT message_store.is_category(get_category_messages.category) THEN
		RAISE EXCEPTION 'Must be a category: %', get_category_messages.category;
	END IF;
	IF _filtered THEN
		PERFORM message_store.check_category_filter(get_category_messages.correlation,
			get_category_messages.consumer_group_member, get_category_messages.consumer_group_size);
	END IF;
	IF _limit OPERATOR(pg_catalog.=) -1 THEN
		_limit := NULL;
	END IF;
	IF get_category_messages.category IS NULL THEN
		RETURN;
	ELSIF get_category_messages.condition IS NOT NULL THEN
		PERFORM message_store.require_sql_condition();
		RETURN QUERY EXECUTE message_store.conditional_query('@extschema_in_quotes@.es_read_category($2, $3, NULL) e
			WHERE message_store.passes_category_filter(e.stream, e.metadata, $4, $5, $6)', get_category_messages.condition, 'global_position')
			USING _limit, get_category_messages.category, _after, get_category_messages.correlation,
				get_category_messages.consumer_group_member, get_category_messages.consumer_group_size;
	ELSIF _filtered THEN
		RETURN QUERY SELECT e.event_id::pg_catalog.varchar, e.stream::pg_catalog.varchar, e.type::pg_catalog.varchar,
				e.version OPERATOR(pg_catalog.-) 1, e."position",
				CASE WHEN e.data OPERATOR(pg_catalog.<>) 'null' THEN e.data END::pg_catalog.varchar,
				e.metadata::pg_catalog.varchar, pg_catalog.timezone('UTC', e.recorded_at)
			FROM @extschema@.es_read_category(get_category_messages.category, _after, NULL) e
			WHERE message_store.passes_category_filter(e.stream, e.metadata, get_category_messages.correlation,
				get_category_messages.consumer_group_member, get_category_messages.consumer_group_size)
			ORDER BY e."position" LIMIT _limit;
	ELSE
		RETURN QUERY SELECT e.event_id::pg_catalog.varchar, e.stream::pg_catalog.varchar, e.type::pg_catalog.varchar,
				e.version OPERATOR(pg_catalog.-) 1, e."position",
				CASE WHEN e.data OPERATOR(pg_catalog.<>) 'null' THEN e.data END::pg_catalog.varchar,
				e.metadata::pg_catalog.varchar, pg_catalog.timezone('UTC', e.recorded_at)
			FROM @extschema@.es_read_category(get_category_messages.category, _after,
				CASE WHEN _limit OPERATOR(pg_catalog.>=) 0 THEN _limit END) e
			ORDER BY e."position" LIMIT _limit;
	END IF;
END
$$;
COMMENT ON FUNCTION message_store.get_category_messages(varchar, bigint, bigint, varchar, bigint, bigint, varchar) IS
	'messages of a category from a global position on, none of which can be skipped; batch_size -1: all of them';

/* ---- reports ---- */

CREATE OR REPLACE VIEW message_store.stream_summary WITH (security_invoker = true) AS
	SELECT stream_name, count(*) AS message_count, round(count(*) / sum(count(*)) OVER () * 100, 2) AS percent
	FROM message_store.messages GROUP BY 1 ORDER BY 1;
COMMENT ON VIEW message_store.stream_summary IS 'how many messages each stream has';

CREATE OR REPLACE VIEW message_store.type_summary WITH (security_invoker = true) AS
	SELECT type, count(*) AS message_count, round(count(*) / sum(count(*)) OVER () * 100, 2) AS percent
	FROM message_store.messages GROUP BY 1 ORDER BY 1;
COMMENT ON VIEW message_store.type_summary IS 'how many messages of each type there are';

CREATE OR REPLACE VIEW message_store.stream_type_summary WITH (security_invoker = true) AS
	SELECT stream_name, type, count(*) AS message_count, round(count(*) / sum(count(*)) OVER () * 100, 2) AS percent
	FROM message_store.messages GROUP BY 1, 2 ORDER BY 1, 2;
COMMENT ON VIEW message_store.stream_type_summary IS 'how many messages of each type each stream has';

CREATE OR REPLACE VIEW message_store.type_stream_summary WITH (security_invoker = true) AS
	SELECT type, stream_name, count(*) AS message_count, round(count(*) / sum(count(*)) OVER () * 100, 2) AS percent
	FROM message_store.messages GROUP BY 1, 2 ORDER BY 1, 2;
COMMENT ON VIEW message_store.type_stream_summary IS 'in which streams there are messages of each type, and how many';

CREATE OR REPLACE VIEW message_store.type_category_summary WITH (security_invoker = true) AS
	SELECT type, message_store.category(stream_name) AS category, count(*) AS message_count,
		round(count(*) / sum(count(*)) OVER () * 100, 2) AS percent
	FROM message_store.messages GROUP BY 1, 2 ORDER BY 1, 2;
COMMENT ON VIEW message_store.type_category_summary IS 'in which categories there are messages of each type, and how many';

CREATE OR REPLACE VIEW message_store.category_type_summary WITH (security_invoker = true) AS
	SELECT message_store.category(stream_name) AS category, type, count(*) AS message_count,
		round(count(*) / sum(count(*)) OVER () * 100, 2) AS percent
	FROM message_store.messages GROUP BY 1, 2 ORDER BY 1, 2;
COMMENT ON VIEW message_store.category_type_summary IS 'how many messages of each type each category has';

$script$, '@extschema_in_quotes@', replace(schema, '''', '''''')), '@extschema@', schema);

	/* ---- rights ---- */

	IF first_time THEN
		GRANT USAGE ON SCHEMA message_store TO message_store;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA message_store TO message_store;
		GRANT SELECT ON message_store.messages, message_store.stream_summary, message_store.type_summary,
			message_store.stream_type_summary, message_store.type_stream_summary, message_store.type_category_summary,
			message_store.category_type_summary TO message_store;
		EXECUTE format('SELECT %1$s.es_grant(%2$L, %3$L), %1$s.es_grant(%2$L, %4$L)', schema, 'message_store', 'append', 'read');
		IF NOT has_schema_privilege('message_store', to_regnamespace(schema), 'USAGE') THEN
			EXECUTE format('GRANT USAGE ON SCHEMA %s TO message_store', schema);
		END IF;
	END IF;
	PERFORM pg_catalog.set_config('search_path', path, true);
END
$install$;
