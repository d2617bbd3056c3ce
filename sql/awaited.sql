--
-- Waiting until a projection has an event, by its position or by stream and version.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
CREATE FUNCTION awaited_note(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF event.type = 'Bad' THEN
		RAISE EXCEPTION 'cannot note this';
	END IF;
END
$$;
CREATE FUNCTION awaited_reset() RETURNS void LANGUAGE sql AS '';
-- whoever waits in vain here fails with 57014
SET eventstore.max_wait = '1h';
SET statement_timeout = '60s';

-- an asynchronous one has what was run
SELECT es_create_projection('awaited', 'count', category => 'awaited'),
	es_create_handler_projection('awaited_notes', 'awaited_note(es_event)', categories => '{awaited}', reset => 'awaited_reset()');
SELECT es_append('awaited-1', 'A'), es_append('awaited-1', 'B'), es_append('unheeded-1', 'C');
SELECT es_run_projection(p) >= 0 AS ran FROM unnest('{awaited,awaited_notes}'::text[]) p;
SELECT p, v, es_wait_projection(p, 'awaited-1', v, '1h'), es_wait_projection(p, es_position('awaited-1', v), '1h')
	FROM unnest('{awaited,awaited_notes}'::text[]) p, generate_series(1, 2) v;
SELECT es_wait_projection('awaited', 'unheeded-1', 1, '1h');

-- what is not there yet is waited for
SELECT es_wait_projection('awaited', 'awaited-1', 3, '10ms') AS no_such_version, es_wait_projection('awaited', 'awaited-0', 1, '0') AS no_such_stream,
	es_wait_projection('awaited', 'awaited-1', 9223372036854775807, '0') AS far;

-- nor has it what this transaction has appended
BEGIN;
SELECT es_append('awaited-1', 'D');
SELECT es_wait_projection('awaited', 'awaited-1', 3, '10ms');
ROLLBACK;

-- an inline one has what is committed, and to this transaction its own
SELECT es_create_projection('awaited_inline', 'count', 'inline', 'awaited');
SELECT es_wait_projection('awaited_inline', 'awaited-1', 2, '1h');
BEGIN;
SELECT es_append('awaited-2', 'A');
SELECT es_wait_projection('awaited_inline', 'awaited-2', 1, '1h'), es_wait_projection('awaited_inline', es_last_position(), '1h'),
	es_wait_projection('awaited_inline', 'awaited-2', 2, '0') AS another, es_wait_projection('awaited_inline', es_last_position() + 1, '0') AS later;
ROLLBACK;
SELECT es_wait_projection('awaited_inline', 'awaited-2', 1, '10ms');

-- one that stands failed has what comes before that event, and nothing else is waited for
SELECT es_append('awaited-3', 'Good'), es_append('unheeded-1', 'D'), es_append('awaited-3', 'Bad'), es_append('awaited-3', 'Good');
SET client_min_messages = error;
SELECT es_run_projection(p) >= 0 AS ran FROM unnest('{awaited,awaited_notes}'::text[]) p;
RESET client_min_messages;
SELECT status, error_position = es_position('awaited-3', 2) AS at FROM es_projections WHERE projection = 'awaited_notes';
SELECT stream, v, es_wait_projection('awaited_notes', stream, v, '1h'), es_wait_projection('awaited_notes', es_position(stream, v), '1h')
	FROM (VALUES ('awaited-3', 1), ('unheeded-1', 2), ('awaited-3', 2), ('awaited-3', 3)) e (stream, v);
SELECT es_wait_projection('awaited_notes', 'awaited-3', 4, '1h') AS nor_what_is_not_there, es_wait_projection('awaited_notes', es_last_position() + 100, '1h');
SELECT es_wait_projection('awaited', 'awaited-3', 3, '1h') AS another_projection;
SELECT es_skip_event('awaited_notes', es_position('awaited-3', 2));
SELECT es_run_projection('awaited_notes') >= 0 AS ran;
SELECT es_wait_projection('awaited_notes', 'awaited-3', 3, '1h');

-- one that has failed at no event in particular
BEGIN;
DROP FUNCTION awaited_note(es_event);
SELECT es_append('unheeded-1', 'E');
COMMIT;
SELECT es_append('awaited-3', 'Good');
SET client_min_messages = error;
SELECT es_run_projection('awaited_notes') >= 0 AS ran;
RESET client_min_messages;
SELECT es_wait_projection('awaited_notes', 'awaited-3', 3, '1h') AS has, es_wait_projection('awaited_notes', 'awaited-3', 4, '1h') AS has_not;

-- while one is rebuilt the live states count, also where the rebuild has failed
SELECT es_rebuild_projection('awaited');
SELECT es_run_projection('awaited', 0);
SELECT es_wait_projection('awaited', 'awaited-3', 3, '1h');
SELECT es_run_projection('awaited') >= 0 AS ran;
SELECT es_wait_projection('awaited', 'awaited-3', 4, '1h');
CREATE FUNCTION awaited_note(event es_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT es_run_projection('awaited_notes') >= 0 AS ran;
CREATE OR REPLACE FUNCTION awaited_reset() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'cannot reset'; END$$;
SET client_min_messages = error;
SELECT es_rebuild_projection('awaited_notes');
SELECT es_run_projection('awaited_notes') >= 0 AS ran;
RESET client_min_messages;
SELECT status FROM es_projections WHERE projection = 'awaited_notes';
SELECT es_wait_projection('awaited_notes', 'awaited-3', 4, '1h');

-- refused
SELECT statement, pg_temp.outcome(statement) FROM unnest(ARRAY[
	$$SELECT es_wait_projection(NULL, 'awaited-1', 1, '0')$$,
	$$SELECT es_wait_projection('awaited', NULL, 1, '0')$$,
	$$SELECT es_wait_projection('awaited', 'awaited-1', NULL, '0')$$,
	$$SELECT es_wait_projection('awaited', 'awaited-1', 1, NULL)$$,
	$$SELECT es_wait_projection('none', 'awaited-1', 1, '0')$$,
	$$SELECT es_wait_projection('awaited', '', 1, '0')$$,
	$$SELECT es_wait_projection('awaited', 'awaited-1', 0, '0')$$,
	$$SELECT es_wait_projection('awaited', 'awaited-1', -1, '0')$$,
	$$SELECT es_wait_projection('awaited', 'awaited-1', 1, '-1s')$$,
	$$SELECT es_wait_projection('awaited', NULL, '0')$$,
	$$SELECT es_wait_projection('awaited', 1, NULL)$$]) statement;
SELECT es_wait_projection('awaited', 'awaited-1', 0, '0');

-- an event that is hidden, by a deletion or up to the stream's end, is no less taken in
SELECT es_drop_projection('awaited_notes');
SELECT es_append('awaited-4', 'A'), es_append('awaited-4', 'B'), es_append('awaited-5', 'A'), es_append('awaited-5', 'B');
SELECT es_delete_stream('awaited-4'), es_truncate_stream('awaited-5', 3);
SELECT es_run_projection('awaited') >= 0 AS ran;
CREATE VIEW pg_temp.hidden AS SELECT p.projection, stream, v, es_wait_projection(p.projection, stream, v, CASE WHEN there THEN '1h' ELSE '10ms' END::interval)
	FROM unnest('{awaited,awaited_inline}'::text[]) p (projection),
		(VALUES ('awaited-4', 1, true), ('awaited-4', 2, true), ('awaited-4', 3, true), ('awaited-4', 4, false), ('awaited-5', 1, true), ('awaited-5', 2, true), ('awaited-5', 3, false)) e (stream, v, there);
SELECT * FROM pg_temp.hidden ORDER BY projection, stream, v;
-- nor after it was removed
SELECT count(*) >= 0 AS scavenged FROM es_scavenge();
SELECT stream, version, type FROM es_events WHERE stream IN ('awaited-4', 'awaited-5');
SELECT * FROM pg_temp.hidden ORDER BY projection, stream, v;
-- one that is hidden and not taken in yet
BEGIN;
SELECT es_append('awaited-6', 'A'), es_append('awaited-7', 'A');
SELECT es_delete_stream('awaited-6'), es_truncate_stream('awaited-7', 2);
SELECT projection, es_wait_projection(projection, 'awaited-6', 1, '10ms'), es_wait_projection(projection, 'awaited-7', 1, '10ms') FROM unnest('{awaited,awaited_inline}'::text[]) projection;
ROLLBACK;

SELECT es_drop_projection(p) FROM unnest('{awaited,awaited_inline}'::text[]) p;
DROP FUNCTION awaited_note(es_event), awaited_reset();
