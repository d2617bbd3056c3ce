--
-- What is remembered of streams' newest events outlives no rollback, and says what the tables say.
--
\set VERBOSITY terse

-- committed, and gone on from
SELECT es_append('tip_a-1', 'T'), es_append('tip_a-1', 'T');
SELECT es_append('tip_a-1', 'T');

-- rolled back: as a whole, to a savepoint, in a handler; what was before stays
BEGIN;
SELECT es_append('tip_a-1', 'T');
ROLLBACK;
SELECT es_append('tip_a-1', 'T') AS four;
BEGIN;
SELECT es_append('tip_a-1', 'T') AS five;
SAVEPOINT s;
SELECT es_append('tip_a-1', 'T') AS six;
ROLLBACK TO s;
COMMIT;
SELECT es_append('tip_a-1', 'T') AS six;
BEGIN;
SAVEPOINT s;
SELECT es_append('tip_a-1', 'T') AS seven;
ROLLBACK TO s;
COMMIT;
SELECT es_append('tip_a-1', 'T') AS seven;
DO $$
BEGIN
	PERFORM es_append('tip_a-1', 'T');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
SELECT es_append('tip_a-1', 'T', '{}', '{}', 7) AS eight;
BEGIN;
SAVEPOINT s;
SELECT es_append('tip_new-1', 'T');
ROLLBACK TO s;
COMMIT;
SELECT es_append('tip_new-1', 'T', '{}', '{}', 0);

-- many in one transaction, some of which is rolled back
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM es_append('tip_many-' || i, 'T');
	END LOOP;
	BEGIN
		FOR i IN 250 .. 300 LOOP
			PERFORM es_append('tip_many-' || i, 'T');
		END LOOP;
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
	FOR i IN 290 .. 310 LOOP
		PERFORM es_append('tip_many-' || i, 'T');
	END LOOP;
END $$;
SELECT v, count(*) FROM (SELECT es_append('tip_many-' || i, 'T') AS v FROM generate_series(1, 310) i OFFSET 0) x GROUP BY v ORDER BY v;

-- a time ahead of the clock
INSERT INTO es_events (stream, type, recorded_at) VALUES ('tip_ahead-1', 'T', '2199-01-01 00:00:00+00');
SELECT es_append('tip_ahead-1', 'T'), es_append_batch('tip_ahead-1', '[{"type": "T"}, {"type": "T"}]');
SELECT es_append('tip_ahead-1', 'T');
SELECT count(*) FROM es_events WHERE stream = 'tip_ahead-1' AND recorded_at = '2199-01-01 00:00:00+00';
INSERT INTO es_events (stream, type, recorded_at) VALUES ('tip_ahead-1', 'T', '2198-01-01 00:00:00+00');

-- tables that are written anew
SELECT es_append('tip_a-1', 'T');
VACUUM FULL eventstore.events_0;
SELECT es_append('tip_a-1', 'T');
VACUUM FULL eventstore.streams;
SELECT es_append('tip_a-1', 'T'), es_append('tip_many-77', 'T');
REINDEX TABLE eventstore.events_0;
SELECT es_append('tip_a-1', 'T'), es_append('tip_many-77', 'T');

-- the newest event hidden, the stream deleted
SELECT es_truncate_stream('tip_a-1', 13);
SELECT es_append('tip_a-1', 'T', '{}', '{}', 12), es_append('tip_a-1', 'T');
SELECT es_delete_stream('tip_a-1');
SELECT es_append('tip_a-1', 'T');

SELECT stream, count(*), min(version), max(version) FROM es_events
	WHERE stream ~ '^tip_(a|new|ahead)' GROUP BY stream ORDER BY stream;
