--
-- What a session forgets when a pool gives it to another client.
--
SELECT es_append('discard-1', 'A'), es_append('discard-1', 'B');
SELECT es_last_position() = es_position('discard-1', 2) AS mine;

-- it is for es_last_position() what it is for lastval()
CREATE SEQUENCE discard_seq;
SELECT nextval('discard_seq');
DISCARD PLANS;
DISCARD TEMP;
SELECT lastval(), es_last_position() = es_position('discard-1', 2) AS mine;
DISCARD SEQUENCES;
SELECT es_last_position();
SELECT lastval();
SELECT es_append('discard-1', 'C');
SELECT es_last_position() = es_position('discard-1', 3) AS mine;
DISCARD ALL;
SELECT es_last_position();

-- one that is refused changes nothing; a rollback brings nothing back
SELECT es_append('discard-1', 'D');
BEGIN;
DISCARD ALL;
ROLLBACK;
SELECT es_last_position() = es_position('discard-1', 4) AS mine;
BEGIN;
SELECT es_append('discard-1', 'E');
DISCARD SEQUENCES;
SELECT es_last_position();
ROLLBACK;
SELECT es_last_position();

-- in a function or a block, and among other statements
SELECT es_append('discard-1', 'E');
DO $$
BEGIN
	DISCARD SEQUENCES;
	ASSERT es_last_position() IS NULL;
	PERFORM es_append('discard-1', 'F');
	ASSERT es_last_position() = es_position('discard-1', 6);
END
$$;
RESET ALL\; CLOSE ALL\; UNLISTEN *\; DISCARD TEMP\; DISCARD SEQUENCES;
SELECT es_last_position();

-- what is a setting goes as settings do; and all goes on as before
SET eventstore.max_wait = '1ms';
SELECT es_subscribe('discard', NULL, '{discard}'), es_create_projection('discard', 'count', 'inline', 'discard');
SELECT es_append('discard-1', 'G');
SELECT type FROM es_poll('discard', member => 'ann', lease => '1h');
DISCARD ALL;
SHOW eventstore.max_wait;
SELECT es_append('discard-1', 'H', expected_version => 7);
SELECT version FROM es_projection('discard');
CALL es_poll_wait('discard', '10s', member => 'ann');
SELECT string_agg(type, ' ' ORDER BY position) FROM es_poll('discard', member => 'ann', lease => '1h');
SELECT es_ack('discard', 0, es_last_position(), 'ann');
CALL es_poll_wait('discard', '0', member => 'ann');
SELECT es_unsubscribe('discard'), es_drop_projection('discard');
DROP SEQUENCE discard_seq;
