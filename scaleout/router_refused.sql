/*
 * router_refused.sql
 *		What a store has and a router has not: each function and view is there, and says why not, and what to do.
 *
 * A part of router.sql, which includes it, and which it is to lie beside.
 */

CREATE FUNCTION scaleout.refuse(name text, reason text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = pg_catalog.format('"%s" is not possible through a router', $1),
		DETAIL = CASE $2 WHEN 'declare' THEN 'What it does is done at each shard alike.'
			WHEN 'condition' THEN 'Its condition is about a whole log, and each shard has its own.'
			WHEN 'position' THEN 'The sessions that append are those of the router at the shards.'
			WHEN 'type' THEN 'Types of states are those of a shard.'
			ELSE 'It is about one log, and each shard has its own.' END,
		HINT = CASE $2 WHEN 'declare' THEN pg_catalog.format('SELECT * FROM es_on_shards($_$SELECT %s(...)$_$) calls it at all shards.', $1)
			WHEN 'condition' THEN 'At a shard it is possible, in a transaction that begins with SELECT scaleout.enter(shard, ARRAY[slot]), for events and conditions that concern only this shard.'
			WHEN 'read' THEN 'es_read_shards reads all shards, and goes on by a vector of their positions.'
			WHEN 'position' THEN 'es_position(stream, version) tells where an event is in its shard''s log.'
			WHEN 'type' THEN 'es_replay returns states as jsonb.'
			ELSE 'Call it at each shard, as for a partition.' END;
END
$$;
COMMENT ON FUNCTION scaleout.refuse(text, text) IS 'says why a store''s function or view is not at a router, and what is';

DO $install$
DECLARE
	_name text;
	_arguments text;
	_result text;
	_reason text;
BEGIN
	FOR _name, _arguments, _result, _reason IN VALUES
		('es_adopt_snapshots', 'reducer text', 'bigint', 'declare'),
		('es_alter_subscription', 'subscription text, categories text[], types text[], max_attempts int, query jsonb DEFAULT NULL', 'void', 'declare'),
		('es_check_schema', 'schema jsonb, data jsonb', 'TABLE(pointer text, rule text, message text)', 'declare'),
		('es_compare_schemas', 'old_schema jsonb, new_schema jsonb, compatibility text DEFAULT ''backward''', 'TABLE(pointer text, rule text, message text, direction text, decided boolean)', 'declare'),
		('es_create_handler_projection', 'projection text, handler text, mode text DEFAULT ''async'', categories text[] DEFAULT NULL, types text[] DEFAULT NULL, reset text DEFAULT NULL', 'void', 'declare'),
		('es_create_projection', 'projection text, reducer text, mode text DEFAULT ''async'', category text DEFAULT NULL, key text DEFAULT ''$.stream''', 'void', 'declare'),
		('es_create_reducer', 'reducer text, initial jsonb DEFAULT ''{}'', state_type text DEFAULT ''jsonb'', on_unknown text DEFAULT ''ignore''', 'void', 'declare'),
		('es_drop_projection', 'projection text', 'void', 'declare'),
		('es_drop_projection_index', 'projection text, index name', 'void', 'declare'),
		('es_drop_reducer', 'reducer text', 'void', 'declare'),
		('es_drop_schema', 'type text, version int', 'void', 'declare'),
		('es_drop_snapshots', 'reducer text', 'void', 'declare'),
		('es_drop_type_index', 'type text', 'void', 'declare'),
		('es_drop_upcaster', 'type text, from_version int', 'void', 'declare'),
		('es_grant', 'role text, privilege text, category text DEFAULT ''*''', 'void', 'declare'),
		('es_index_projection', 'projection text, definition text', 'name', 'declare'),
		('es_index_type', 'type text', 'void', 'declare'),
		('es_projection_view', 'projection text, view name', 'void', 'declare'),
		('es_protect', 'category text, paths text[], subject text', 'void', 'declare'),
		('es_rebuild_projection', 'projection text', 'void', 'declare'),
		('es_register_reducer', 'reducer text, event_type text, handler text', 'void', 'declare'),
		('es_register_reducer_ops', 'reducer text, event_type text, ops jsonb', 'void', 'declare'),
		('es_register_schema', 'type text, schema jsonb, compatibility text DEFAULT ''backward''', 'int', 'declare'),
		('es_register_upcaster', 'type text, from_version int, handler text', 'void', 'declare'),
		('es_register_upcaster_ops', 'type text, from_version int, ops jsonb', 'void', 'declare'),
		('es_revoke', 'role text, privilege text, category text DEFAULT ''*''', 'void', 'declare'),
		('es_rotate_master_key', 'old_key_command text', 'void', 'declare'),
		('es_scavenge', 'max_events bigint DEFAULT NULL', 'TABLE(category text, events bigint, bytes bigint)', 'declare'),
		('es_seal', '', 'bigint', 'declare'),
		('es_set_retention', 'category text, max_age interval DEFAULT NULL, max_count bigint DEFAULT NULL', 'void', 'declare'),
		('es_set_segment_size', 'positions bigint', 'void', 'declare'),
		('es_settle', '', 'bigint', 'declare'),
		('es_shred', 'subject text', 'void', 'declare'),
		('es_snapshot_every', 'reducer text, events int', 'void', 'declare'),
		('es_subscribe', 'subscription text, after_position bigint DEFAULT 0, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, partitions int DEFAULT 1, max_attempts int DEFAULT 5, query jsonb DEFAULT NULL', 'void', 'declare'),
		('es_unsubscribe', 'subscription text', 'void', 'declare'),
		('es_ack', 'subscription text, partition int, "position" bigint, member text DEFAULT NULL', 'void', 'shard'),
		('es_alter_feed', 'feed text, categories text[], types text[], format text, query jsonb DEFAULT NULL', 'void', 'shard'),
		('es_attach_segment', 'name text', 'void', 'shard'),
		('es_create_feed', 'feed text, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, format text DEFAULT ''json'', query jsonb DEFAULT NULL, OUT slot_name text, OUT lsn pg_lsn, OUT head_position bigint', 'record', 'shard'),
		('es_detach_segments', 'before timestamptz', 'SETOF text', 'shard'),
		('es_discard_parked', 'subscription text, "position" bigint', 'void', 'shard'),
		('es_doctor', '', 'TABLE(severity text, finding text, detail text, remedy text)', 'shard'),
		('es_drop_feed', 'feed text', 'void', 'shard'),
		('es_feed_head', 'OUT head_position bigint, OUT lsn pg_lsn', 'record', 'shard'),
		('es_feed_history', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, query jsonb DEFAULT NULL, feed_query jsonb DEFAULT NULL, to_position bigint DEFAULT NULL', 'SETOF public.es_event', 'shard'),
		('es_feed_message', 'event public.es_event, format text DEFAULT ''json''', 'text', 'shard'),
		('es_hold_events', 'after_position bigint', 'void', 'shard'),
		('es_metrics', '', 'TABLE(name text, labels jsonb, value double precision, kind text, help text)', 'shard'),
		('es_nack', 'subscription text, partition int, "position" bigint, reason text, member text DEFAULT NULL', 'void', 'shard'),
		('es_parked', 'subscription text', 'TABLE("position" bigint, partition int, attempts int, reason text, parked_at timestamptz, stream text, version bigint, type text)', 'shard'),
		('es_poll', 'subscription text, max_count int DEFAULT 100, wait interval DEFAULT ''00:00:00'', member text DEFAULT NULL, lease interval DEFAULT ''00:00:30''', 'SETOF public.es_delivery', 'shard'),
		('es_poll_wait', 'subscription text, timeout interval, INOUT ready boolean DEFAULT NULL, member text DEFAULT NULL', '', 'shard'),
		('es_proof', '"position" bigint, seal bigint DEFAULT NULL', 'jsonb', 'shard'),
		('es_prove_consistency', 'first_seal bigint, second_seal bigint DEFAULT NULL', 'jsonb', 'shard'),
		('es_replay_category', 'category text, reducer text DEFAULT NULL, as_of timestamptz DEFAULT NULL', 'SETOF public.es_state', 'shard'),
		('es_replay_parked', 'subscription text, "position" bigint DEFAULT NULL', 'bigint', 'shard'),
		('es_rewind', 'subscription text, after_position bigint', 'void', 'shard'),
		('es_run_projection', 'projection text, max_events bigint DEFAULT NULL', 'bigint', 'shard'),
		('es_share_feed', 'feed text, other text', 'void', 'shard'),
		('es_skip_event', 'projection text, "position" bigint', 'void', 'shard'),
		('es_upcast', 'event public.es_event', 'public.es_event', 'shard'),
		('es_verify', 'from_position bigint DEFAULT 1, to_position bigint DEFAULT NULL', 'TABLE("position" bigint, problem text)', 'shard'),
		('es_wait_projection', 'projection text, "position" bigint, timeout interval', 'boolean', 'shard'),
		('es_read_all', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL, to_position bigint DEFAULT NULL, backwards boolean DEFAULT false', 'SETOF public.es_event', 'read'),
		('es_read_category', 'category text, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, types text[] DEFAULT NULL, to_position bigint DEFAULT NULL, backwards boolean DEFAULT false', 'SETOF public.es_event', 'read'),
		('es_read_query', 'query jsonb DEFAULT NULL, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, backwards boolean DEFAULT false, to_position bigint DEFAULT NULL', 'SETOF public.es_event', 'read'),
		('es_read_tagged', 'tags text[], types text[] DEFAULT NULL, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000', 'SETOF public.es_event', 'read'),
		('es_settled_position', '', 'bigint', 'read'),
		('es_wait', 'after_position bigint, timeout interval', 'bigint', 'read'),
		('es_wait_for', 'after_position bigint, timeout interval, INOUT settled bigint DEFAULT NULL', '', 'read'),
		('es_append_if', 'events jsonb, after_position bigint, types text[] DEFAULT NULL, tags text[] DEFAULT NULL, query jsonb DEFAULT NULL', 'bigint', 'condition'),
		('es_last_position', '', 'bigint', 'position'),
		('es_replay_as', 'stream text, state anyelement, reducer text DEFAULT NULL, until_version bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL', 'anyelement', 'type')
	LOOP
		EXECUTE pg_catalog.format('CREATE %s public.%I(%s)%s LANGUAGE plpgsql %s AS %L', CASE _result WHEN '' THEN 'PROCEDURE' ELSE 'FUNCTION' END, _name, _arguments,
			CASE _result WHEN '' THEN '' ELSE ' RETURNS ' || _result END, CASE _result WHEN '' THEN '' ELSE 'VOLATILE PARALLEL UNSAFE' END,
			pg_catalog.format(E'BEGIN\n\tPERFORM scaleout.refuse(%L, %L);\nEND', _name, _reason));
	END LOOP;
	FOR _name IN SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::pg_catalog.regnamespace AND p.prosrc LIKE E'BEGIN\n\tPERFORM scaleout.refuse(%' LOOP
		EXECUTE pg_catalog.format('COMMENT ON ROUTINE %s IS %L', _name, 'refused: a router does not have it');
	END LOOP;
	FOR _name, _arguments IN VALUES
		('es_events', '"position" bigint, stream text, version bigint, type text, type_version int, data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz'),
		('es_feeds', 'feed text, slot_name text, active boolean, confirmed_lsn pg_lsn, lag_bytes bigint, retained_bytes bigint, wal_status text, safe_wal_size bigint, lag_events bigint, categories text[], types text[], format text, query jsonb'),
		('es_grants', 'role name, privilege text, category text'),
		('es_in_flight', 'pid int, gid text, application_name text, state text, since timestamptz, first_position bigint, query text'),
		('es_indexed_types', 'type text, segments bigint, indexed bigint'),
		('es_progress', 'pid int, command text, phase text, done bigint, total bigint'),
		('es_projections', 'projection text, mode text, status text, "position" bigint, lag bigint, error text, error_position bigint, rebuild_position bigint, reducer text, handler text, category text, key text, creator text, attempts int, failed_since timestamptz, next_retry timestamptz, lag_time interval, categories text[], types text[], reset text'),
		('es_protections', 'category text, paths text[], subject text, after_position bigint, created_at timestamptz, hashed boolean'),
		('es_reducers', 'reducer text, event_type text, handler text, initial jsonb, state_type regtype, on_unknown text, snapshot_every int, ops jsonb'),
		('es_retention', 'category text, max_age interval, max_count bigint, "position" bigint, skipped bigint, skipped_since timestamptz, skipped_stream text, error text'),
		('es_schemas', 'type text, version int, schema jsonb, compatibility text, registered_at timestamptz'),
		('es_seals', '"position" bigint, size bigint, root text, sealed_at timestamptz, chain text'),
		('es_segments', 'segment bigint, first_position bigint, last_position bigint, events bigint, bytes bigint, from_time timestamptz, to_time timestamptz, state text'),
		('es_snapshots', 'stream text, reducer text, version bigint, bytes bigint, usable boolean'),
		('es_streams', 'stream text, category text, version bigint, first_version bigint, created_at timestamptz, deleted boolean'),
		('es_subjects', 'subject text, created_at timestamptz, shredded_at timestamptz, hashed boolean'),
		('es_subscriptions', 'subscription text, partition int, "position" bigint, member text, lease_until timestamptz, lag bigint, parked bigint, categories text[], types text[], max_attempts int, lag_time interval, query jsonb, creator name, created_at timestamptz, application text'),
		('es_upcasters', 'type text, from_version int, handler text, ops jsonb')
	LOOP
		EXECUTE pg_catalog.format('CREATE VIEW public.%I AS SELECT %s FROM scaleout.refuse(%L, %L) r', _name,
			/* no constants: a condition on one would be false before anything is run */
			(SELECT pg_catalog.string_agg(pg_catalog.regexp_replace(c, '^(\S+) (.*)$', 'CASE WHEN r THEN NULL::\2 END AS \1'), ', ' ORDER BY i) FROM pg_catalog.unnest(pg_catalog.string_to_array(_arguments, ', ')) WITH ORDINALITY u (c, i)),
			_name, CASE _name WHEN 'es_events' THEN 'read' ELSE 'shard' END);
		EXECUTE pg_catalog.format('COMMENT ON VIEW public.%I IS %L', _name, 'refused: a router does not have it');
		EXECUTE pg_catalog.format('GRANT SELECT ON public.%I TO PUBLIC', _name);
	END LOOP;
END
$install$;

CREATE FUNCTION scaleout.refuse_step(state jsonb, reducer text, event public.es_event) RETURNS jsonb
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT pg_catalog.to_jsonb(scaleout.refuse('es_fold', 'shard'))
$$;
COMMENT ON FUNCTION scaleout.refuse_step(jsonb, text, public.es_event) IS 'the step of the aggregate es_fold, which a router does not have';
CREATE AGGREGATE public.es_fold(reducer text, event public.es_event) (SFUNC = scaleout.refuse_step, STYPE = jsonb);
COMMENT ON AGGREGATE public.es_fold(text, public.es_event) IS 'refused: a router does not have it';

CREATE FUNCTION scaleout.refuse_row() RETURNS trigger
	LANGUAGE plpgsql AS $$
BEGIN
	PERFORM scaleout.refuse('INSERT INTO es_events', 'shard');
END
$$;
COMMENT ON FUNCTION scaleout.refuse_row() IS 'says so to who appends by the view';
CREATE TRIGGER refuse INSTEAD OF INSERT ON public.es_events FOR EACH ROW EXECUTE FUNCTION scaleout.refuse_row();
GRANT INSERT ON public.es_events TO PUBLIC;
