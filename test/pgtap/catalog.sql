-- What the catalog says of the extension: signatures as promised, every member
-- described, nothing for PUBLIC, no function that a caller's settings could mislead.
BEGIN;
SELECT * FROM no_plan();

CREATE TEMP VIEW member AS
	SELECT d.classid, d.objid, pg_catalog.pg_describe_object(d.classid, d.objid, 0) AS name
	FROM pg_catalog.pg_depend d
	JOIN pg_catalog.pg_extension x ON d.refobjid = x.oid
	WHERE x.extname = 'eventstore' AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass;
CREATE TEMP VIEW routine AS
	SELECT m.name AS description, p.*
	FROM member m JOIN pg_catalog.pg_proc p ON p.oid = m.objid
	WHERE m.classid = 'pg_catalog.pg_proc'::regclass;
CREATE TEMP VIEW relation AS
	SELECT m.name AS description, c.*
	FROM member m JOIN pg_catalog.pg_class c ON c.oid = m.objid
	WHERE m.classid = 'pg_catalog.pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'S', 'm');

-- Signatures.
CREATE TEMP TABLE promised (name text, arguments text, result text);
INSERT INTO promised VALUES
	('es_append', 'stream text, type text, data jsonb DEFAULT ''{}''::jsonb, metadata jsonb DEFAULT ''{}''::jsonb, expected_version bigint DEFAULT NULL::bigint, event_id uuid DEFAULT NULL::uuid, type_version integer DEFAULT NULL::integer', 'bigint'),
	('es_append_batch', 'stream text, events jsonb, expected_version bigint DEFAULT NULL::bigint', 'bigint'),
	('es_try_append', 'stream text, type text, data jsonb DEFAULT ''{}''::jsonb, metadata jsonb DEFAULT ''{}''::jsonb, expected_version bigint DEFAULT NULL::bigint, event_id uuid DEFAULT NULL::uuid, type_version integer DEFAULT NULL::integer, OUT outcome text, OUT version bigint', 'record'),
	('es_append_json', 'stream text, events text, expected_version bigint DEFAULT NULL::bigint', 'bigint'),
	('es_append_events', 'stream text, events es_new_event[], expected_version bigint DEFAULT NULL::bigint', 'bigint'),
	('es_append_many', 'events jsonb', 'TABLE(stream text, version bigint, "position" bigint)'),
	('es_append_if', 'events jsonb, after_position bigint, types text[] DEFAULT NULL::text[], tags text[] DEFAULT NULL::text[], query jsonb DEFAULT NULL::jsonb', 'bigint'),
	('es_read_query', 'query jsonb DEFAULT NULL::jsonb, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, backwards boolean DEFAULT false, to_position bigint DEFAULT NULL::bigint', 'SETOF es_event'),
	('es_detach_segments', 'before timestamp with time zone', 'SETOF text'),
	('es_attach_segment', 'name text', 'void'),
	('es_index_type', 'type text', 'void'),
	('es_drop_type_index', 'type text', 'void'),
	('es_read_tagged', 'tags text[], types text[] DEFAULT NULL::text[], after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000', 'SETOF es_event'),
	('es_last_position', '', 'bigint'),
	('es_stream_version', 'stream text', 'bigint'),
	('es_position', 'stream text, version bigint', 'bigint'),
	('es_find_event', 'stream text, event_id uuid', 'SETOF es_event'),
	('es_check_schema', 'schema jsonb, data jsonb', 'TABLE(pointer text, rule text, message text)'),
	('es_compare_schemas', 'old_schema jsonb, new_schema jsonb, compatibility text DEFAULT ''backward''::text', 'TABLE(pointer text, rule text, message text, direction text, decided boolean)'),
	('es_read', 'stream text, from_version bigint DEFAULT NULL::bigint, max_count bigint DEFAULT NULL::bigint, backwards boolean DEFAULT false', 'SETOF es_event'),
	('es_read_all', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL::text[], types text[] DEFAULT NULL::text[], stream_prefix text DEFAULT NULL::text, to_position bigint DEFAULT NULL::bigint, backwards boolean DEFAULT false', 'SETOF es_event'),
	('es_read_category', 'category text, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, types text[] DEFAULT NULL::text[], to_position bigint DEFAULT NULL::bigint, backwards boolean DEFAULT false', 'SETOF es_event'),
	('es_settled_position', '', 'bigint'),
	('es_settle', '', 'bigint'),
	('es_seal', '', 'bigint'),
	('es_doctor', '', 'TABLE(severity text, finding text, detail text, remedy text)'),
	('es_metrics', '', 'TABLE(name text, labels jsonb, value double precision, kind text, help text)'),
	('es_verify', 'from_position bigint DEFAULT 1, to_position bigint DEFAULT NULL::bigint', 'TABLE("position" bigint, problem text)'),
	('es_scavenge', 'max_events bigint DEFAULT NULL::bigint', 'TABLE(category text, events bigint, bytes bigint)'),
	('es_proof', '"position" bigint, seal bigint DEFAULT NULL::bigint', 'jsonb'),
	('es_prove_consistency', 'first_seal bigint, second_seal bigint DEFAULT NULL::bigint', 'jsonb'),
	('es_wait', 'after_position bigint, timeout interval', 'bigint'),
	('es_wait_for', 'IN after_position bigint, IN timeout interval, INOUT settled bigint DEFAULT NULL::bigint', NULL),
	('es_subscribe', 'subscription text, after_position bigint DEFAULT 0, categories text[] DEFAULT NULL::text[], types text[] DEFAULT NULL::text[], partitions integer DEFAULT 1, max_attempts integer DEFAULT 5, query jsonb DEFAULT NULL::jsonb', 'void'),
	('es_unsubscribe', 'subscription text', 'void'),
	('es_rewind', 'subscription text, after_position bigint', 'void'),
	('es_poll', 'subscription text, max_count integer DEFAULT 100, wait interval DEFAULT ''00:00:00''::interval, member text DEFAULT NULL::text, lease interval DEFAULT ''00:00:30''::interval', 'SETOF es_delivery'),
	('es_poll_wait', 'IN subscription text, IN timeout interval, INOUT ready boolean DEFAULT NULL::boolean, IN member text DEFAULT NULL::text', NULL),
	('es_ack', 'subscription text, partition integer, "position" bigint, member text DEFAULT NULL::text', 'void'),
	('es_nack', 'subscription text, partition integer, "position" bigint, reason text, member text DEFAULT NULL::text', 'void'),
	('es_parked', 'subscription text', 'TABLE("position" bigint, partition integer, attempts integer, reason text, parked_at timestamp with time zone, stream text, version bigint, type text)'),
	('es_discard_parked', 'subscription text, "position" bigint', 'void'),
	('es_alter_subscription', 'subscription text, categories text[], types text[], max_attempts integer, query jsonb DEFAULT NULL::jsonb', 'void'),
	('es_replay_parked', 'subscription text, "position" bigint DEFAULT NULL::bigint', 'bigint'),
	('es_create_projection', 'projection text, reducer text, mode text DEFAULT ''async''::text, category text DEFAULT NULL::text, key text DEFAULT ''$.stream''::text', 'void'),
	('es_create_handler_projection', 'projection text, handler regprocedure, mode text DEFAULT ''async''::text, categories text[] DEFAULT NULL::text[], types text[] DEFAULT NULL::text[], reset regprocedure DEFAULT NULL::regprocedure', 'void'),
	('es_drop_projection', 'projection text', 'void'),
	('es_projection', 'projection text, key text DEFAULT NULL::text', 'TABLE(key text, version bigint, "position" bigint, state jsonb)'),
	('es_projection_view', 'projection text, view name', 'void'),
	('es_index_projection', 'projection text, definition text', 'name'),
	('es_drop_projection_index', 'projection text, index name', 'void'),
	('es_run_projection', 'projection text, max_events bigint DEFAULT NULL::bigint', 'bigint'),
	('es_wait_projection', 'projection text, "position" bigint, timeout interval', 'boolean'),
	('es_wait_projection', 'projection text, stream text, version bigint, timeout interval', 'boolean'),
	('es_rebuild_projection', 'projection text', 'void'),
	('es_skip_event', 'projection text, "position" bigint', 'void'),
	('es_create_reducer', 'reducer text, initial jsonb DEFAULT ''{}''::jsonb, state_type regtype DEFAULT ''jsonb''::regtype, on_unknown text DEFAULT ''ignore''::text', 'void'),
	('es_drop_reducer', 'reducer text', 'void'),
	('es_register_reducer', 'reducer text, event_type text, handler regprocedure', 'void'),
	('es_register_reducer_ops', 'reducer text, event_type text, ops jsonb', 'void'),
	('es_snapshot', 'stream text, reducer text DEFAULT NULL::text', 'bigint'),
	('es_snapshot_every', 'reducer text, events integer', 'void'),
	('es_drop_snapshots', 'reducer text', 'void'),
	('es_delete_stream', 'stream text, expected_version bigint DEFAULT NULL::bigint', 'void'),
	('es_truncate_stream', 'stream text, before_version bigint', 'void'),
	('es_adopt_snapshots', 'reducer text', 'bigint'),
	('es_set_retention', 'category text, max_age interval DEFAULT NULL::interval, max_count bigint DEFAULT NULL::bigint', 'void'),
	('es_fold', 'reducer text, event es_event', 'jsonb'),
	('es_register_upcaster', 'type text, from_version integer, handler regprocedure', 'void'),
	('es_register_upcaster_ops', 'type text, from_version integer, ops jsonb', 'void'),
	('es_drop_upcaster', 'type text, from_version integer', 'void'),
	('es_upcast', 'event es_event', 'es_event'),
	('es_register_schema', 'type text, schema jsonb, compatibility text DEFAULT ''backward''::text', 'integer'),
	('es_drop_schema', 'type text, version integer', 'void'),
	('es_replay', 'stream text, reducer text DEFAULT NULL::text, until_version bigint DEFAULT NULL::bigint, as_of timestamp with time zone DEFAULT NULL::timestamp with time zone', 'SETOF es_state'),
	('es_replay_steps', 'stream text, reducer text DEFAULT NULL::text, from_version bigint DEFAULT 1, until_version bigint DEFAULT NULL::bigint', 'SETOF es_state'),
	('es_replay_category', 'category text, reducer text DEFAULT NULL::text, as_of timestamp with time zone DEFAULT NULL::timestamp with time zone', 'SETOF es_state'),
	('es_replay_as', 'stream text, state anyelement, reducer text DEFAULT NULL::text, until_version bigint DEFAULT NULL::bigint, as_of timestamp with time zone DEFAULT NULL::timestamp with time zone', 'anyelement'),
	('es_create_feed', 'feed text, categories text[] DEFAULT NULL::text[], types text[] DEFAULT NULL::text[], format text DEFAULT ''json''::text, query jsonb DEFAULT NULL::jsonb, OUT slot_name text, OUT lsn pg_lsn, OUT head_position bigint', 'record'),
	('es_drop_feed', 'feed text', 'void'),
	('es_share_feed', 'feed text, other text', 'void'),
	('es_alter_feed', 'feed text, categories text[], types text[], format text, query jsonb DEFAULT NULL::jsonb', 'void'),
	('es_feed_head', 'OUT head_position bigint, OUT lsn pg_lsn', 'record'),
	('es_feed_history', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL::text[], types text[] DEFAULT NULL::text[], query jsonb DEFAULT NULL::jsonb, feed_query jsonb DEFAULT NULL::jsonb, to_position bigint DEFAULT NULL::bigint', 'SETOF es_event'),
	('es_protect', 'category text, paths text[], subject text', 'void'),
	('es_reveal', 'stream text, type text, data jsonb', 'jsonb'),
	('es_shred', 'subject text', 'void'),
	('es_rotate_master_key', 'old_key_command text', 'void'),
	('es_grant', 'role regrole, privilege text, category text DEFAULT ''*''::text', 'void'),
	('es_revoke', 'role regrole, privilege text, category text DEFAULT ''*''::text', 'void'),
	('es_feed_message', 'event es_event, format text DEFAULT ''json''::text', 'text');
SELECT set_eq(
	format($$SELECT proname || '(' || pg_catalog.pg_get_function_arguments(oid) || ') '
		|| coalesce(pg_catalog.pg_get_function_result(oid), '') FROM routine WHERE proname = %L$$, p.name),
	array_agg(p.name || '(' || p.arguments || ') ' || coalesce(p.result, '')),
	p.name || ' has its signature')
FROM promised p GROUP BY p.name ORDER BY p.name;

SELECT is(
	(SELECT array_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)::text
		FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = pg_catalog.to_regclass(t.name) AND a.attnum > 0 AND NOT a.attisdropped),
	t.columns::text[]::text,
	t.name || ' has its columns')
FROM (VALUES
	('es_event', '{position bigint,stream text,version bigint,type text,type_version integer,data jsonb,metadata jsonb,event_id uuid,recorded_at timestamp with time zone}'),
	('es_events', '{position bigint,stream text,version bigint,type text,type_version integer,data jsonb,metadata jsonb,event_id uuid,recorded_at timestamp with time zone}'),
	('es_delivery', '{position bigint,stream text,version bigint,type text,type_version integer,data jsonb,metadata jsonb,event_id uuid,recorded_at timestamp with time zone,partition integer,attempt integer}'),
	('es_subscriptions', '{subscription text,partition integer,position bigint,member text,lease_until timestamp with time zone,lag bigint,parked bigint,categories text[],types text[],max_attempts integer,lag_time interval,query jsonb,creator name,created_at timestamp with time zone,application text}'),
	('es_projections', '{projection text,mode text,status text,position bigint,lag bigint,error text,error_position bigint,rebuild_position bigint,reducer text,handler text,category text,key text,creator text,attempts integer,failed_since timestamp with time zone,next_retry timestamp with time zone,lag_time interval,categories text[],types text[],reset text}'),
	('es_new_event', '{type text,data jsonb,metadata jsonb,event_id uuid}'),
	('es_state', '{stream text,version bigint,position bigint,state jsonb,recorded_at timestamp with time zone}'),
	('es_streams', '{stream text,category text,version bigint,first_version bigint,created_at timestamp with time zone,deleted boolean}'),
	('es_reducers', '{reducer text,event_type text,handler text,initial jsonb,state_type regtype,on_unknown text,snapshot_every integer,ops jsonb}'),
	('es_upcasters', '{type text,from_version integer,handler text,ops jsonb}'),
	('es_retention', '{category text,max_age interval,max_count bigint,position bigint,skipped bigint,skipped_since timestamp with time zone,skipped_stream text,error text}'),
	('es_schemas', '{type text,version integer,schema jsonb,compatibility text,registered_at timestamp with time zone}'),
	('es_protections', '{category text,paths text[],subject text,after_position bigint,created_at timestamp with time zone,hashed boolean}'),
	('es_subjects', '{subject text,created_at timestamp with time zone,shredded_at timestamp with time zone,hashed boolean}'),
	('es_grants', '{role name,privilege text,category text}'),
	('es_seals', '{position bigint,size bigint,root text,sealed_at timestamp with time zone,chain text}'),
	('es_snapshots', '{stream text,reducer text,version bigint,bytes bigint,usable boolean}'),
	('es_progress', '{pid integer,command text,phase text,done bigint,total bigint}'),
	('es_in_flight', '{pid integer,gid text,application_name text,state text,since timestamp with time zone,first_position bigint,query text}'),
	('es_feeds', '{feed text,slot_name text,active boolean,confirmed_lsn pg_lsn,lag_bytes bigint,retained_bytes bigint,wal_status text,safe_wal_size bigint,lag_events bigint,categories text[],types text[],format text,query jsonb}'),
	('es_indexed_types', '{type text,segments bigint,indexed bigint}'),
	('es_segments', '{segment bigint,first_position bigint,last_position bigint,events bigint,bytes bigint,from_time timestamp with time zone,to_time timestamp with time zone,state text}')
) t (name, columns) ORDER BY t.name;

-- Descriptions.
SELECT is_empty($$
	SELECT name FROM member
	WHERE classid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_class'::regclass,
			'pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_cast'::regclass, 'pg_catalog.pg_event_trigger'::regclass)
		AND pg_catalog.obj_description(objid, classid::regclass::name) IS NULL
$$, 'every function, relation, schema, cast and event trigger has a comment');

-- Names.
SELECT is_empty($$
	SELECT description FROM routine
	WHERE NOT (pronamespace = 'public'::regnamespace AND proname ~ '^es_')
		AND pronamespace <> 'eventstore'::regnamespace
$$, 'functions are es_* in the extension''s schema, or in the schema eventstore');
SELECT is_empty($$
	SELECT description FROM relation
	WHERE NOT (relkind = 'v' AND relnamespace = 'public'::regnamespace AND relname ~ '^es_')
		AND relnamespace <> 'eventstore'::regnamespace
$$, 'views are es_*, tables and sequences are in the schema eventstore');

-- Privileges. An append makes segments, which are no members but must be as closed.
SELECT es_append('catalog-1', 'Looked');
SELECT is_empty($$
	SELECT r.description, a.privilege_type FROM routine r
	CROSS JOIN pg_catalog.aclexplode(coalesce(r.proacl, pg_catalog.acldefault('f', r.proowner))) a
	WHERE a.grantee = 0 AND r.pronamespace = 'eventstore'::regnamespace
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass
			AND d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid = r.oid)
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castfunc = r.oid)
		AND r.proname NOT IN ('require_read', 'shown_state')
$$, 'of the functions in schema eventstore PUBLIC may execute those that views and casts call, and those that views of projections do');
SELECT is_empty($$
	SELECT r.description FROM routine r
	WHERE r.proname ~ '^es_' AND r.pronamespace = 'public'::regnamespace
		AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(r.proacl) a WHERE a.grantee = 0)
$$, 'PUBLIC may call every es_* function, which asks for rights');
SELECT set_eq($$
	SELECT c.oid::regclass, a.privilege_type FROM pg_catalog.pg_class c
	CROSS JOIN pg_catalog.aclexplode(c.relacl) a
	WHERE a.grantee = 0 AND (c.oid IN (SELECT oid FROM relation) OR c.relnamespace = 'eventstore'::regnamespace)
$$, $$
	SELECT oid::regclass, 'SELECT' FROM relation WHERE relkind = 'v' AND relname ~ '^es_'
$$, 'PUBLIC may look at every es_* view, and has no right on any table, sequence or segment');
SELECT set_eq($$
	SELECT c.oid::regclass, t.attname, a.privilege_type FROM pg_catalog.pg_attribute t
	JOIN pg_catalog.pg_class c ON c.oid = t.attrelid
	CROSS JOIN pg_catalog.aclexplode(t.attacl) a
	WHERE a.grantee = 0 AND (c.oid IN (SELECT oid FROM relation) OR c.relnamespace = 'eventstore'::regnamespace)
$$, $$
	SELECT 'es_events'::regclass, attname, 'INSERT' FROM pg_catalog.pg_attribute
	WHERE attrelid = 'es_events'::regclass AND attnum > 0
$$, 'PUBLIC may insert into the columns of es_events, and has no right on any other');
SELECT is_empty($$
	SELECT a.privilege_type FROM pg_catalog.pg_namespace n
	CROSS JOIN pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
	WHERE n.nspname = 'eventstore' AND a.grantee = 0
$$, 'PUBLIC has no right on the schema eventstore');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension x ON x.extname = 'eventstore'
	WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relowner <> x.extowner
$$, 'everything in the schema eventstore belongs to the extension''s owner, segments too');

-- Whatever takes a fresh snapshot, appends or waits.
SELECT is_empty($$
	SELECT description, provolatile, proparallel FROM routine
	WHERE proname = ANY ('{append_fault,es_append,es_try_append,es_append_batch,es_append_json,es_append_events,es_append_many,es_append_if,es_read_tagged,es_read_query,es_index_type,es_drop_type_index,es_stream_version,es_position,es_find_event,es_read,es_read_all,
			es_read_category,es_settled_position,es_settle,es_wait,es_create_reducer,es_drop_reducer,
			es_register_reducer,es_replay,es_replay_steps,es_replay_category,es_replay_as,es_register_reducer_ops,es_snapshot,
			es_snapshot_every,es_drop_snapshots,es_delete_stream,es_truncate_stream,es_adopt_snapshots,es_set_retention,es_register_upcaster,es_register_upcaster_ops,es_drop_upcaster,es_register_schema,es_drop_schema,es_create_feed,
			es_drop_feed,es_alter_feed,es_share_feed,es_feed_head,es_feed_history,es_subscribe,es_unsubscribe,es_rewind,es_poll,es_ack,es_nack,es_parked,es_replay_parked,es_discard_parked,es_alter_subscription,
			es_create_projection,es_create_handler_projection,es_drop_projection,es_run_projection,es_wait_projection,es_rebuild_projection,es_skip_event,
			es_projection_view,es_index_projection,es_drop_projection_index,es_protect,es_reveal,es_shred,es_rotate_master_key,es_seal,es_verify,es_proof,es_prove_consistency,es_metrics,es_doctor}'::name[])
		AND (provolatile <> 'v' OR proparallel <> 'u')
$$, 'what takes a fresh snapshot, appends or waits is VOLATILE PARALLEL UNSAFE');

-- All that may be in a parallel query: what is read is what the statement's snapshot sees, or the session's own, or rights.
SELECT is((SELECT string_agg(format('%s %s', proname, proparallel), ', ' ORDER BY proname) FROM routine WHERE proparallel <> 'u'),
	'commands_underway r, es_check_schema s, es_compare_schemas s, es_event s, es_feed_message s, es_last_position r, es_projection r, function_named s, has_right s, library_version s, may_anything s, may_read s, may_read_all s, may_see_all s, may_see_some s, plain r, plain_support s, read_support s, require_library s, require_read s, role_name s, segment_bytes s, segment_events r, segment_index s, segment_time r, segment_version r, shown_state r, shown_state_support s, sight s, sight_support s, tagindex_handler s',
	'PARALLEL RESTRICTED or SAFE is only what takes no snapshot and no xid of its own');

-- Nothing that a caller's search_path could mislead.
SELECT is_empty($$
	SELECT r.description FROM routine r JOIN pg_catalog.pg_language l ON l.oid = r.prolang
	WHERE l.lanname NOT IN ('c', 'internal') AND r.prosqlbody IS NULL
		AND NOT EXISTS (SELECT FROM pg_catalog.unnest(r.proconfig) s WHERE s LIKE 'search_path=%')
$$, 'functions not in C have a parsed body or a search_path of their own');
SELECT is_empty($$
	SELECT description FROM routine
	WHERE prosecdef AND NOT EXISTS (SELECT FROM pg_catalog.unnest(proconfig) s WHERE s LIKE 'search_path=%')
$$, 'SECURITY DEFINER comes with a search_path');

-- What a dump must carry.
SELECT is_empty($$
	SELECT r.description FROM relation r, pg_catalog.pg_extension x
	WHERE x.extname = 'eventstore' AND r.relkind IN ('r', 'S') AND NOT r.oid = ANY (x.extconfig)
		AND r.relname NOT IN ('settled_mark', 'wal_mark', 'timeline_seq')
$$, 'every table and sequence is dumped with its rows; settled mark, WAL marks and timeline are this server''s');

-- What keeps the log append-only whatever session_replication_role says.
SELECT is_empty($$
	SELECT tgrelid::regclass, tgname FROM pg_catalog.pg_trigger t
	JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
	WHERE (c.relnamespace = 'eventstore'::regnamespace OR c.oid IN (SELECT oid FROM relation))
		AND NOT t.tgisinternal AND t.tgenabled <> 'A'
$$, 'every trigger of the store is ENABLE ALWAYS');
SELECT is_empty($$
	SELECT r.description FROM relation r
	WHERE r.relnamespace = 'eventstore'::regnamespace AND r.relkind IN ('r', 'p')
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = r.oid AND NOT t.tgisinternal)
$$, 'every table of the store has its guards');

-- Without a key, UPDATE and DELETE fail once the table is published.
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_catalog.pg_class c
	WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r' AND c.relreplident NOT IN ('f', 'i')
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
$$, 'a logical subscriber finds the rows of every table');

-- What es_doctor misses must be what there is.
SELECT set_eq($$SELECT o.relation, o.name, o.statement FROM eventstore.own_indexes o$$, $$
	SELECT t.relname::text AS relation, c.relname::text AS name, CASE WHEN k.oid IS NULL THEN pg_catalog.pg_get_indexdef(i.indexrelid)
		ELSE format('ALTER TABLE eventstore.%I ADD CONSTRAINT %I %s', t.relname, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) END AS statement
	FROM relation t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
		LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u')
	WHERE t.relnamespace = 'eventstore'::regnamespace AND t.relkind = 'r'
$$, 'es_doctor knows the indexes of all tables, and how to make them');

SELECT * FROM finish();
ROLLBACK;
