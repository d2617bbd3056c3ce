--
-- Lists of names: what they mean does not depend on how long they are, on the
-- order of the names, or on how often one is in them.
--
\set VERBOSITY terse
SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'lists' || i % 300 || '-' || i % 7,
	'type', 'Lists' || i % 11, 'data', i)) FROM generate_series(1, 3000) i));
-- runs of one category: in the index of categories each is one entry
SELECT count(version) FROM generate_series(1, 40) i, LATERAL es_append_batch('lists_run' || i % 5 || '-1',
	(SELECT jsonb_agg(jsonb_build_object('type', 'ListsRun', 'data', i * 100 + k)) FROM generate_series(1, 30) k)) version;
SELECT min(position) - 1 AS before FROM es_read_all(0, NULL, stream_prefix => 'lists0-') \gset

-- what a read gives, and what it must: the rows of the view, in order
CREATE TEMP TABLE lists_all AS SELECT position, split_part(stream, '-', 1) AS category, type FROM es_events WHERE position > :before;
ANALYZE lists_all;
CREATE FUNCTION pg_temp.list_of(prefix text, first int, last int) RETURNS text[] LANGUAGE sql
	AS 'SELECT array_agg(prefix || i) FROM generate_series(first, last) i';
CREATE FUNCTION pg_temp.differs(after bigint, most bigint, categories text[], types text[]) RETURNS boolean LANGUAGE sql AS $$
	SELECT (SELECT array_agg(r.position ORDER BY n) FROM es_read_all(after, most, categories, types) WITH ORDINALITY
			r(position, stream, version, type, type_version, data, metadata, event_id, recorded_at, n))
		IS DISTINCT FROM
		(SELECT array_agg(position ORDER BY position) FROM (SELECT e.position FROM lists_all e
			JOIN (SELECT DISTINCT c FROM unnest(categories) c) c ON category = c
			WHERE position > after AND (types IS NULL OR e.type IN (SELECT t FROM unnest(types) t)) ORDER BY e.position LIMIT most) e)
$$;

-- a few names, and many; dense and sparse; most of them of no event; a small and no limit
SELECT first, last, most, pg_temp.differs(:before, most, pg_temp.list_of('lists', first, last), types) AS differs
	FROM (VALUES (0, 0), (0, 1), (3, 9), (0, 16), (0, 299), (290, 1300), (200, 20200), (299, 299)) r(first, last),
		(VALUES (NULL), (1), (100)) l(most), (VALUES (NULL::text[]), (pg_temp.list_of('Lists', 5, 3000))) t(types)
	WHERE pg_temp.differs(:before, most, pg_temp.list_of('lists', first, last), types);
SELECT pg_temp.differs(p, 5, pg_temp.list_of('lists', 7, 40), NULL) AS differs, count(*) FROM generate_series(:before, :before + 4200, 37) p GROUP BY 1;

-- runs: whole, from their middle on, and between others; what begins in the middle of one
SELECT pg_temp.differs(p, most, pg_temp.list_of('lists_run', 2, last), NULL) AS differs, count(*)
	FROM generate_series(:before + 2900, :before + 4300, 43) p, (VALUES (3), (4000)) l(last), (VALUES (1), (70), (NULL)) m(most) GROUP BY 1;
SELECT pg_temp.differs(:before, NULL, pg_temp.list_of('lists', 250, 400) || '{lists_run1,lists_run4}'::text[], NULL) AS differs;

-- each name once
SELECT (SELECT array_agg(position) FROM es_read_all(:before, NULL, array_fill('lists7'::text, ARRAY[30000]))) =
	(SELECT array_agg(position) FROM es_read_all(:before, NULL, '{lists7}')) AS same;
SELECT (SELECT array_agg(position) FROM es_read_category('lists7', :before, NULL, array_fill('Lists7'::text, ARRAY[30000]))) IS NOT DISTINCT FROM
	(SELECT array_agg(position) FROM es_read_category('lists7', :before, NULL, '{Lists7}')) AS same;
SELECT es_subscribe('lists', :before, '{lists9,lists8,lists9,lists8}', '{Lists1,Lists1}');
SELECT categories, types FROM eventstore.subscriptions WHERE name = 'lists';
SELECT es_unsubscribe('lists');
SELECT es_subscribe('lists', :before, pg_temp.list_of('lists', 200, 20200), pg_temp.list_of('Lists', 0, 20000));
SELECT count(*), bool_and(split_part(stream, '-', 1) = ANY (pg_temp.list_of('lists', 200, 299))) AS right FROM es_poll('lists', 10000);
SELECT es_unsubscribe('lists');

-- tags: an event with many, a question for many
SELECT es_append('lists_tags-1', 'ListsTags', '{}', jsonb_build_object('tags', to_jsonb(pg_temp.list_of('lists_tag', 1, 2000) || pg_temp.list_of('lists_tag', 1, 2000))));
SELECT count(*) FROM generate_series(1, 2000) n, es_read_tagged(ARRAY['lists_tag' || n]);
SELECT count(*) FROM es_read_tagged(pg_temp.list_of('lists_tag', 1, 2000));
SELECT count(*) FROM es_read_tagged(array_fill('lists_tag5'::text, ARRAY[30000]), array_fill('ListsTags'::text, ARRAY[30000]));
SELECT count(*) FROM es_read_tagged(pg_temp.list_of('lists_tag', 2, 2001));
SELECT es_append_if('[]', 0, pg_temp.list_of('ListsNot', 1, 20000) || '{ListsTags}'::text[], pg_temp.list_of('lists_tag', 1, 2000));
SELECT es_append_if('[]', 0, pg_temp.list_of('ListsNot', 1, 20000), pg_temp.list_of('lists_tag', 1, 2000)) IS NULL AS holds;

-- what can never match is refused, in every filter alike
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE 'fine';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLERRM WHEN 'fine' THEN 'fine' ELSE SQLSTATE || ' ' || left(SQLERRM, 70) END;
END $$;
CREATE FUNCTION lists_take(es_event) RETURNS void LANGUAGE sql AS '';
SELECT replace(call, '%', filter) AS call, pg_temp.outcome('SELECT ' || replace(call, '%', filter)) FROM (VALUES
	($$es_read_all(0, 1, %)$$), ($$es_read_category('a', 0, 1, %)$$), ($$es_subscribe('lists', 0, %)$$), ($$es_subscribe('lists', 0, NULL, %)$$),
	($$es_create_handler_projection('lists', 'lists_take(es_event)', 'async', %)$$), ($$es_create_feed('lists', %)$$),
	($$es_read_tagged(%)$$), ($$es_append_if('[]', 0, %)$$), ($$es_append_if('[]', 0, NULL, %)$$)) c(call),
	(VALUES ($$'{""}'$$), ($$'{lists-1}'$$), ($$ARRAY[E'a\nb']$$), ($$ARRAY[repeat('x', 600)]$$), ($$'{{a,b},{c,d}}'$$), ($$'{NULL}'$$)) f(filter);
SELECT call, pg_temp.outcome('SELECT ' || call) FROM (VALUES ($$es_read_category('')$$), ($$es_read_category('lists-1')$$),
	($$es_replay_category('lists-1', 'count')$$), ($$es_create_projection('lists', 'count', 'async', 'lists-1')$$),
	($$es_create_projection('lists', 'count', 'async', '')$$)) c(call);

-- of the store's own types there is one
BEGIN;
SELECT replace(call, '%', filter) AS call, pg_temp.outcome('SELECT ' || replace(call, '%', filter)) FROM (VALUES
	($$es_read_all(0, 1, types => '{Lists1,%}')$$), ($$es_read_category('a', 0, 1, '{%}')$$), ($$es_read_tagged('{a}', '{%}')$$), ($$es_read_query('[{"types": ["%"]}]')$$),
	($$es_append_if('[]', es_settled_position(), '{%}')$$), ($$es_append_if('[]', es_settled_position(), query => '[{"tags": ["a"]}, {"types": ["%"], "tags": ["a"]}]')$$),
	($$es_subscribe('lists', types => '{%}')$$), ($$es_subscribe('lists', query => '[{"types": ["%"]}]')$$),
	($$es_create_handler_projection('lists', 'lists_take(es_event)', types => '{%}')$$),
	($$es_create_projection('lists', 'count', key => '{"%": "$.stream", "*": "$.stream"}')$$),
	($$es_feed_history(0, 1, query => '[{"types": ["%"]}]')$$), ($$es_index_type('%')$$)) c(call),
	(VALUES ('$stream-deleted'), ('$stream_deleted'), ('$')) f(filter);
ROLLBACK;
\set VERBOSITY default
SELECT es_subscribe('lists', types => '{$stream_deleted}');
\set VERBOSITY terse
SELECT es_subscribe('lists', types => '{Lists1}', query => '[{"types": ["Lists1"]}]');
SELECT call, pg_temp.outcome('SELECT ' || call) FROM (VALUES ($$es_alter_subscription('lists', NULL, '{$stream-deleted}', NULL)$$), ($$es_alter_subscription('lists', NULL, '{$stream_deleted}', NULL)$$),
	($$es_alter_subscription('lists', NULL, NULL, NULL, '[{"types": ["$stream_deleted"]}]')$$)) c(call);
SELECT es_unsubscribe('lists');
-- what an earlier release has stored goes on; so its history can be asked for, and its index dropped
BEGIN;
INSERT INTO eventstore.indexed_types VALUES ('$stream_deleted');
SELECT es_drop_type_index('$stream_deleted');
ROLLBACK;
SELECT count(*) FROM es_feed_history(:before, NULL, types => '{$stream_deleted}', feed_query => '[{"types": ["$stream_deleted"]}]');

-- so is what nobody can mean
SELECT call, pg_temp.outcome('SELECT ' || call) FROM (VALUES ($$es_read_all(0, 1, array_fill('a'::text, ARRAY[1000001]))$$),
	($$es_read_all(0, 1, types => array_fill('a'::text, ARRAY[1000001]))$$), ($$es_subscribe('lists', 0, array_fill('a'::text, ARRAY[1000001]))$$),
	($$es_read_tagged(array_fill('a'::text, ARRAY[1000001]))$$), ($$es_read_all(0, 1, array_fill('a'::text, ARRAY[1000000]))$$)) c(call);
DROP FUNCTION lists_take(es_event);

-- "*" is the category of streams such as this one, and not all of them
SELECT es_append('*-lists', 'ListsStar'), es_append('lists_star-1', 'ListsStar');
SELECT es_subscribe('lists_star', NULL, '{*}');
SELECT es_append('*-lists', 'ListsStar'), es_append('lists_star-1', 'ListsStar');
SELECT (SELECT string_agg(stream, ' ') FROM es_read_category('*', :before)) AS category, (SELECT string_agg(stream, ' ') FROM es_read_all(:before, NULL, '{*}')) AS log,
	(SELECT string_agg(stream, ' ') FROM es_poll('lists_star')) AS delivered;
SELECT es_unsubscribe('lists_star');
