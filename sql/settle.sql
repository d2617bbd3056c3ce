--
-- The settled position and waiting for it.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;

-- with no append in flight it is the last position ever given out, at once
SELECT es_append('settle_a-1', 'A');
SELECT es_settled_position() = es_last_position() AS settled;
BEGIN;
SELECT es_append('settle_a-1', 'undone'), es_append('settle_a-2', 'undone');
ROLLBACK;
SELECT es_settled_position() = es_last_position() AS settled,
	es_settled_position() = (SELECT last_value FROM eventstore.position_seq) AS last_given;
DO $$
BEGIN
	FOR n IN 1..100 LOOP
		BEGIN
			PERFORM es_append('settle_a-1', 'undone');
			RAISE EXCEPTION 'undo';
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT es_settled_position() = es_last_position() AS settled,
	es_settled_position() = (SELECT last_value FROM eventstore.position_seq) AS last_given;
SELECT es_stream_version('settle_a-1');

-- it never goes back, and does not depend on the snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_settled_position() AS before \gset
SELECT es_append('settle_a-1', 'B');
SELECT es_settled_position() = :before AS own_append_in_flight;
COMMIT;
SELECT es_settled_position() - :before AS settled;
-- a prepared statement is no cached answer
PREPARE settled AS SELECT es_settled_position() - $1;
EXECUTE settled(:before);
SELECT es_append('settle_a-1', 'C');
EXECUTE settled(:before);

--
-- es_wait
--
SELECT es_settled_position() AS settled \gset
-- already past: at once, whatever the timeout
SELECT es_wait(:settled - 1, '1h') = :settled AS at_once;
SELECT es_wait(-1, '1h') = :settled AS at_once;
-- not yet: the settled position when the timeout ends
SELECT es_wait(:settled, '0') = :settled AS timed_out;
SELECT es_wait(:settled, '20ms') = :settled AS timed_out;
SELECT es_wait(9223372036854775807, '1ms') = :settled AS timed_out;
-- timeouts are at most eventstore.max_wait
SHOW eventstore.max_wait;
SET eventstore.max_wait = '50ms';
SELECT clock_timestamp() AS begun \gset
SELECT es_wait(:settled, '1 year') = :settled AS timed_out;
SELECT clock_timestamp() - :'begun' BETWEEN '50ms' AND '9s' AS clamped;
SELECT es_wait(:settled, '100000 years') = :settled AS timed_out;
RESET eventstore.max_wait;
-- one's own append does not settle while one waits for it
SET eventstore.max_wait = '20ms';
BEGIN;
SELECT es_append('settle_a-1', 'D');
SELECT es_wait(:settled, '1h') = :settled AS timed_out;
COMMIT;
RESET eventstore.max_wait;
SELECT es_wait(:settled, '1h') = :settled + 1 AS at_once;
-- bad arguments
SELECT pg_temp.outcome(statement), statement FROM unnest(ARRAY[
	$$SELECT es_wait(NULL, '1s')$$,
	$$SELECT es_wait(1, NULL)$$,
	$$SELECT es_wait(1, '-1s')$$,
	$$SELECT es_wait(1, '-1 month 1 day')$$,
	$$CALL es_wait_for(NULL, '1s')$$,
	$$CALL es_wait_for(1, NULL)$$,
	$$CALL es_wait_for(1, '-1s')$$,
	$$SET eventstore.max_wait = '-1s'$$
	]) statement;
-- a wait can be interrupted, and leaves the session usable
SET statement_timeout = '50ms';
SELECT es_wait(9223372036854775806, '9s');
\echo :SQLSTATE
CALL es_wait_for(9223372036854775806, '9s');
\echo :SQLSTATE
RESET statement_timeout;
SELECT es_settled_position() = :settled + 1 AS usable;

--
-- es_wait_for: in and out of a transaction block
--
SELECT es_settled_position() AS settled \gset

CALL es_wait_for(:settled - 1, '1h', NULL) \gset waited_
SELECT :waited_settled = :settled AS at_once;
-- not bounded by eventstore.max_wait
SET eventstore.max_wait = '10ms';
SELECT clock_timestamp() AS begun \gset
CALL es_wait_for(:settled, '100ms') \gset waited_
SELECT :waited_settled = :settled AS timed_out, clock_timestamp() - :'begun' >= '100ms' AS as_long_as_told;
-- in a block it is
BEGIN;
CALL es_wait_for(:settled, '1h') \gset waited_
SELECT :waited_settled = :settled AS timed_out;
SELECT txid_current_if_assigned() IS NULL AS no_xid;
COMMIT;
RESET eventstore.max_wait;
DO $$
DECLARE
	settled bigint;
BEGIN
	CALL es_wait_for(0, '1h', settled);
	RAISE NOTICE 'settled: %', settled = es_settled_position();
END
$$;
CREATE FUNCTION pg_temp.wait_in_function() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	settled bigint;
BEGIN
	CALL es_wait_for(0, '1h', settled);
	RETURN settled = es_settled_position();
END
$$;
SELECT pg_temp.wait_in_function();

--
-- es_settle writes the mark of hot standbys
--
SELECT es_settle() = es_settled_position() AS marked;
SELECT es_settle() = es_settle() AS again;
SELECT es_append('settle_a-1', 'E');
SELECT es_settle() = es_last_position() AS moved;
-- not by a reader, and not from inside an append
BEGIN READ ONLY;
SELECT es_settled_position() = es_last_position() AS readable;
SELECT es_settle();
\echo :SQLSTATE
ROLLBACK;

--
-- the sequence must hand out every position once, in order
--
ALTER SEQUENCE eventstore.position_seq CACHE 50;
\c -
\set VERBOSITY sqlstate
SELECT es_append('settle_sequence-1', 'A');
SELECT es_settled_position();
\set VERBOSITY default
ALTER SEQUENCE eventstore.position_seq CACHE 1;
SELECT es_append('settle_sequence-1', 'A');
