--
-- Subscriptions by a query: who decides by tags listens by tags.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || SQLERRM || COALESCE(' / ' || NULLIF(detail, ''), '');
END
$$;
SET eventstore.retry_delay = '1ms';
SELECT es_settled_position() AS start \gset
CREATE FUNCTION pg_temp.put(stream text, type text, VARIADIC tags text[]) RETURNS bigint LANGUAGE sql AS
$$ SELECT es_append(stream, type, metadata => jsonb_build_object('tags', to_jsonb(tags))) $$;

-- an event matches an item if it is of one of the types and has all the tags
SELECT es_subscribe('listener', :start, query => '[{"types": ["Joined"], "tags": ["course:1"]}, {"tags": ["student:9", "course:2"]}]');
SELECT pg_temp.put('f-1', 'Joined', 'course:1'), pg_temp.put('f-1', 'Left', 'course:1'), pg_temp.put('g-1', 'Left', 'course:2', 'student:9'),
	pg_temp.put('f-2', 'Joined', 'course:2'), pg_temp.put('f-2', 'Joined', 'student:1', 'course:1');
SELECT position - :start AS position, stream, type FROM es_poll('listener');
SELECT position - :start AS position, stream, type FROM es_poll('listener', 1);
SELECT es_ack('listener', 0, :start + 3);
SELECT position - :start AS position, stream, type FROM es_poll('listener');
SELECT subscription, categories, types, query, lag > 0 AS behind, lag_time IS NOT NULL AS waits FROM es_subscriptions WHERE subscription = 'listener';
SELECT es_ack('listener', 0, :start + 5);

-- the checkpoint moves on past what does not match
SELECT pg_temp.put('f-1', 'Left', 'course:1') FROM generate_series(1, 3);
SELECT position - :start AS position, lag, lag_time IS NULL AS waits_for_nothing FROM es_subscriptions WHERE subscription = 'listener';
SELECT count(*) FROM es_poll('listener');
SELECT position - :start AS position, lag FROM es_subscriptions WHERE subscription = 'listener';

-- categories, types and the query must all pass
SELECT es_subscribe('narrow', :start, '{f}', '{Left,Joined}', query => '{"items": [{"tags": ["course:1"]}]}');
SELECT es_subscribe('types only', :start, '{g}', query => '[{"types": ["Left"]}]');
SELECT position - :start AS position, stream, type FROM es_poll('narrow');
SELECT position - :start AS position, stream, type FROM es_poll('types only');
SELECT query, lag_time IS NOT NULL AS waits FROM es_subscriptions WHERE subscription IN ('narrow', 'types only') ORDER BY subscription;

-- what may be a query of a subscription, and what not
SELECT query, pg_temp.outcome(format('SELECT es_subscribe(''refused'', query => %L)', query)) FROM unnest(ARRAY[
	'[{"tags": ["a"], "last": true}]', '[{"tags": ["a"]}, {"types": ["B"], "last": true}]', '[]', '{}', 'null', '1', '[{}]', '[{"tags": []}]',
	'[{"tags": [1]}]', '[{"types": [""]}]', '[{"tag": ["a"]}]', '{"items": [{"tags": ["a"]}], "more": 1}']) query;
SELECT pg_temp.outcome($$SELECT es_subscribe('refused', query => '[{"tags": ["a"], "last": false}]')$$), pg_temp.outcome($$SELECT es_unsubscribe('refused')$$);

-- changing it: NULL leaves it as it is, JSON's null takes it away, from the checkpoint on
SELECT es_alter_subscription('narrow', NULL, NULL, NULL);
SELECT query FROM es_subscriptions WHERE subscription = 'narrow';
SELECT es_alter_subscription('narrow', '{}', '{}', NULL, '[{"tags": ["course:2"]}]');
SELECT position - :start AS position, stream, type FROM es_poll('narrow');
SELECT es_ack('narrow', 0, :start + 4);
SELECT es_alter_subscription('narrow', NULL, NULL, NULL, 'null');
SELECT query, categories, types FROM es_subscriptions WHERE subscription = 'narrow';
SELECT position - :start AS position, stream, type FROM es_poll('narrow', 2);
SELECT pg_temp.outcome($$SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[{"tags": ["a"], "last": true}]')$$),
	pg_temp.outcome($$SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[]')$$);

-- an acknowledgement does not pass over what only a new query lets through
SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[{"tags": ["student:1"]}, {"tags": ["late"]}]');
SELECT es_rewind('narrow', :start);
SELECT pg_temp.put('f-3', 'Late', 'late');
SELECT position - :start AS position FROM es_poll('narrow');
SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[{"tags": ["late"]}]');
SELECT es_ack('narrow', 0, :start + 5);
SELECT position - :start AS position FROM es_poll('narrow');
SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[{"tags": ["late"]}, {"tags": ["course:1"]}]');
SELECT pg_temp.outcome(format('SELECT es_ack(''narrow'', 0, %s)', :start + 9));
SELECT position - :start AS position FROM es_poll('narrow');

-- what was refused is delivered again, unless it does not match any more
SELECT es_nack('narrow', 0, :start + 6, 'not now'), es_nack('narrow', 0, :start + 9, 'nor this');
SELECT es_ack('narrow', 0, :start + 9);
SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[{"tags": ["late"]}]');
SELECT position - :start AS position, attempt FROM es_poll('narrow', wait => '10s');
SELECT es_ack('narrow', 0, :start + 9);
SELECT es_alter_subscription('narrow', NULL, NULL, 1, '[{"tags": ["course:1"]}]');
SELECT es_rewind('narrow', :start + 5);
SELECT position - :start AS position FROM es_poll('narrow');
SELECT es_nack('narrow', 0, :start + 6, 'never');
SELECT es_alter_subscription('narrow', NULL, NULL, NULL, '[{"tags": ["late"]}]');
SELECT position - :start AS position, reason FROM es_parked('narrow');
SELECT es_replay_parked('narrow');
SELECT position - :start AS position FROM es_poll('narrow');

-- tags as they are: quotes, commas, beyond ASCII; twice is once, and what is no string is no tag
SELECT es_settled_position() AS start \gset
SELECT es_append('h-1', 'T', metadata => m::jsonb) FROM unnest(ARRAY[
	'{"tags": ["a,b", "say \"x\"", "größe:日本", "it''s"]}', '{"tags": ["a", "b"]}', '{"tags": ["a,b", "a,b", 1, null, {"a": 1}, "größe:日本"]}',
	'{"tags": "a,b"}', '{"tags": [["a,b"]]}', '{"tags": {"a,b": 1}}', '{"tags": []}', '{}', '{"Tags": ["a,b"]}']) m;
CREATE TEMP TABLE queries (n serial, query jsonb);
INSERT INTO queries (query) VALUES ('[{"tags": ["a,b"]}]'), ('[{"tags": ["größe:日本", "a,b"]}]'), ('[{"tags": ["say \"x\""]}, {"tags": ["b"]}]'), ('[{"tags": ["it''s"], "types": ["T"]}]'),
	('[{"tags": ["1"]}]'), ('[{"tags": ["b", "a", "b"]}, {"tags": ["a"]}, {"types": ["U"]}]'), ('[{"types": ["T"]}]'), ('[{"types": ["U", "V"]}]');
SELECT count(es_subscribe('tags ' || n, :start, query => query)) FROM queries;
SELECT n, query, (SELECT array_agg(e.position - :start ORDER BY e.position) FROM es_read_query(query, :start) e) AS read,
	(SELECT array_agg(e.position - :start ORDER BY e.position) FROM es_poll('tags ' || n) e) AS polled,
	(SELECT array_agg(e.position - :start ORDER BY e.position) FROM es_feed_history(:start, query => query) e) AS history
FROM queries ORDER BY n;
SELECT array_agg(e.position - :start ORDER BY e.position) FROM es_feed_history(:start, query => '[{"types": ["T"]}]', feed_query => '[{"tags": ["a,b"]}]') e;
SELECT array_agg(e.position - :start ORDER BY e.position) FROM es_feed_history(:start, 1, '{h}', '{T}', '[{"tags": ["a,b"]}]', '[{"tags": ["größe:日本"]}]', :start + 3) e;
SELECT pg_temp.outcome($$SELECT es_feed_history(query => '[{"tags": ["a"], "last": true}]')$$), pg_temp.outcome($$SELECT es_feed_history(feed_query => '[]')$$);

-- partitions: each has what matches of its streams
SELECT es_subscribe('parts', :start, partitions => 3, query => '[{"tags": ["p"]}]');
SELECT count(*) FROM (SELECT es_append('p-' || n, 'T', metadata => CASE WHEN n % 2 = 0 THEN '{"tags": ["p"]}' ELSE '{}' END::jsonb) FROM generate_series(1, 20) n) x;
SELECT count(*), count(DISTINCT partition) > 1 AS spread, bool_and(metadata @> '{"tags": ["p"]}') AS matches FROM es_poll('parts');

SELECT count(es_unsubscribe(subscription)) FROM (SELECT DISTINCT subscription FROM es_subscriptions WHERE subscription LIKE 'tags %' OR subscription IN ('listener', 'narrow', 'types only', 'parts')) s;
