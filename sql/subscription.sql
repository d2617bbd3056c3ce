--
-- Subscriptions: consumers inside the database.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SET eventstore.retry_delay = '1ms';

-- a consumer of one category, from the beginning; positions are shown as seen from here
SELECT es_settled_position() AS start \gset
SELECT es_subscribe('mailer', categories => '{subscription_order}');
SELECT es_append('subscription_order-1', 'Placed', '{"total": 5}'), es_append('subscription_other-1', 'Noise'),
	es_append('subscription_order-2', 'Placed', '{"total": 7}'), es_append('subscription_order-1', 'Paid');

-- it gets what follows its last acknowledgement, the same again until it acknowledges
SELECT position - :start AS position, stream, version, type, data, partition, attempt FROM es_poll('mailer', 2);
SELECT position - :start AS position, stream, version, type, data, partition, attempt FROM es_poll('mailer', 2);

-- its work and the acknowledgement are one transaction: exactly once
CREATE TEMP TABLE mail (stream text, version bigint);
BEGIN;
WITH delivery AS MATERIALIZED (
	SELECT * FROM es_poll('mailer', 2)
), work AS (
	INSERT INTO mail SELECT stream, version FROM delivery
)
SELECT es_ack('mailer', partition, max(position)) FROM delivery GROUP BY partition;
ROLLBACK;
SELECT count(*) FROM mail;
SELECT position - :start AS position, attempt FROM es_poll('mailer', 2);
BEGIN;
WITH delivery AS MATERIALIZED (
	SELECT * FROM es_poll('mailer', 2)
), work AS (
	INSERT INTO mail SELECT stream, version FROM delivery
)
SELECT es_ack('mailer', partition, max(position)) FROM delivery GROUP BY partition;
COMMIT;
SELECT * FROM mail ORDER BY stream;
SELECT stream, version, type FROM es_poll('mailer');
SELECT es_ack('mailer', 0, :start + 4);
SELECT count(*) FROM es_poll('mailer');

-- the checkpoint moves on past what the filter leaves out
SELECT es_append('subscription_other-1', 'Noise') FROM generate_series(1, 3);
SELECT position - :start AS position, lag > 0 AS behind FROM es_subscriptions WHERE subscription = 'mailer';
SELECT count(*) FROM es_poll('mailer');
SELECT position - :start AS position, lag, member, parked FROM es_subscriptions WHERE subscription = 'mailer';

-- an event refused is delivered again, with what else is open; in the end it is parked
SELECT es_append('subscription_order-3', 'Bad'), es_append('subscription_order-4', 'Good');
SELECT stream, attempt FROM es_poll('mailer');
SELECT es_nack('mailer', 0, :start + 8, 'no address');
SELECT es_nack('mailer', 0, :start + 8, 'said already');
SELECT stream, attempt FROM es_poll('mailer', wait => '10s');
SELECT es_nack('mailer', 0, :start + 8, 'no address');
SELECT stream, attempt FROM es_poll('mailer', wait => '10s');
SELECT es_nack('mailer', 0, :start + 8, 'no address');
SELECT stream, attempt FROM es_poll('mailer', wait => '10s');
SELECT es_nack('mailer', 0, :start + 8, 'no address');
SELECT stream, attempt FROM es_poll('mailer', wait => '10s');
SELECT es_nack('mailer', 0, :start + 8, 'gave up');
SELECT stream, attempt FROM es_poll('mailer');
SELECT position - :start AS position, partition, attempts, reason, parked_at IS NOT NULL AS parked FROM es_parked('mailer');
SELECT es_ack('mailer', 0, :start + 9);
SELECT position - :start AS position, parked FROM es_subscriptions WHERE subscription = 'mailer';

-- and comes back when somebody has seen to it
SELECT es_replay_parked('mailer', :start + 9);
SELECT es_replay_parked('mailer');
SELECT es_append('subscription_order-5', 'Good');
SELECT position - :start AS position, stream, attempt FROM es_poll('mailer');
SELECT es_ack('mailer', 0, :start + 10);
SELECT count(*) FROM es_poll('mailer');
SELECT count(*) FROM es_parked('mailer');

-- acknowledgements out of order change nothing; a refusal is not lost by a later acknowledgement
SELECT es_rewind('mailer', :start);
SELECT es_poll('mailer', 3) IS NOT NULL AS delivered;
SELECT es_ack('mailer', 0, :start + 3), es_ack('mailer', 0, :start + 1);
SELECT position - :start AS position FROM es_subscriptions WHERE subscription = 'mailer';
SELECT es_nack('mailer', 0, :start + 4, 'later'), es_ack('mailer', 0, :start + 4);
SELECT position - :start AS position, stream, attempt FROM es_poll('mailer', 1, '10s');
SELECT es_ack('mailer', 0, :start + 4);

-- members share the partitions; whoever lost one is told so
SELECT es_subscribe('workers', :start, '{subscription_order}', partitions => 4);
SELECT string_agg(stream, ' ' ORDER BY position) FROM es_poll('workers', member => 'ann');
SELECT count(*) FROM es_poll('workers', member => 'bob');
SELECT count(es_ack('workers', partition, max, 'ann')) FROM (SELECT partition, max(position) FROM es_poll('workers', member => 'ann') GROUP BY partition) p;
SELECT count(*) FROM es_poll('workers', member => 'ann');
SELECT es_append('subscription_order-' || n, 'More') IS NOT NULL AS appended FROM generate_series(1, 20) n;
SELECT count(*) > 0 AS some, count(DISTINCT partition) AS partitions FROM es_poll('workers', member => 'bob');
SELECT count(*) > 0 AS some, count(DISTINCT partition) AS partitions FROM es_poll('workers', member => 'ann');
SELECT member, count(*) FROM es_subscriptions WHERE subscription = 'workers' GROUP BY member ORDER BY member;
SELECT pg_temp.outcome(format('SELECT es_ack(''workers'', %s, 0, ''bob'')', partition)) AS outcome
FROM es_subscriptions WHERE subscription = 'workers' AND member = 'ann';

-- from now on; rewound to now
SELECT es_subscribe('late', NULL, '{subscription_order}');
SELECT count(*) FROM es_poll('late');
SELECT es_append('subscription_order-1', 'Late');
SELECT type FROM es_poll('late');
SELECT es_rewind('late', NULL);
SELECT count(*) FROM es_poll('late');

-- types; nothing passes an empty list; no limit, and none
SELECT es_subscribe('typed', :start, types => '{Paid}'), es_subscribe('nothing', :start, '{}');
SELECT stream, type FROM es_poll('typed', NULL);
SELECT count(*) FROM es_poll('typed', 0);
SELECT count(*) FROM es_poll('nothing');
SELECT position >= :start + 10 AS moved_on FROM es_subscriptions WHERE subscription = 'nothing';

-- waiting: ready tells whether a poll would deliver something
CALL es_poll_wait('typed', '0');
SELECT es_ack('typed', 0, max(position)) FROM es_poll('typed');
CALL es_poll_wait('typed', '0');
SELECT es_append('subscription_order-9', 'Paid');
CALL es_poll_wait('typed', '10s');
SELECT es_ack('typed', 0, max(position)) FROM es_poll('typed');
CALL es_poll_wait('typed', '10ms');

-- for a member, whichever session polled as it, and whichever member this one polled as
SELECT es_subscribe('named', NULL, '{subscription_named}'), es_append('subscription_named-1', 'A');
SELECT type FROM es_poll('named', member => 'ann', lease => '1h');
CALL es_poll_wait('named', '10s', member => 'ann');
CALL es_poll_wait('named', '10ms');
CALL es_poll_wait('named', '10ms', NULL, 'bob');
SELECT es_ack('named', 0, max(position), 'ann') FROM es_poll('named', member => 'ann', lease => '1h');
CALL es_poll_wait('named', '10ms', member => 'ann');
SELECT es_append('subscription_named-1', 'B');
CALL es_poll_wait('named', '10ms', member => 'bob');
CALL es_poll_wait('named', '10s', member => 'ann');
SELECT es_nack('named', 0, max(position), 'no', 'ann') FROM es_poll('named', member => 'ann', lease => '1h');
CALL es_poll_wait('named', '10s', member => 'ann');
CALL es_poll_wait('named', '0', member => '');
CALL es_poll_wait('named', '0', member => repeat('m', 513));
CALL es_poll_wait('named', NULL, member => 'ann');
CALL es_poll_wait('named', '-1s', member => 'ann');
CALL es_poll_wait(NULL, '1s', member => 'ann');

-- what others have of the share of one that they do not know is a reason to poll, once: then they know
SELECT es_subscribe('split', NULL, '{subscription_split}', partitions => 2);
SELECT count(es_append('subscription_split-' || n, 'A')) FROM generate_series(1, 20) n;
SELECT count(DISTINCT partition) FROM es_poll('split', member => 'ann', lease => '1h');
CALL es_poll_wait('split', '10s', member => 'bob');
SELECT count(*) FROM es_poll('split', member => 'bob', lease => '1h');
CALL es_poll_wait('split', '10ms', member => 'bob');
-- what comes up in a partition that is to be given up, too
SELECT count(es_ack('split', partition, p.position, 'ann')) FROM (SELECT partition, max(position) AS position FROM es_poll('split', member => 'ann', lease => '1h') GROUP BY 1) p;
CALL es_poll_wait('split', '10ms', member => 'ann');
SELECT count(es_append('subscription_split-' || n, 'A')) FROM generate_series(1, 20) n;
CALL es_poll_wait('split', '10s', member => 'ann');
SELECT count(DISTINCT partition) FROM es_poll('split', member => 'ann', lease => '1h');
CALL es_poll_wait('split', '10s', member => 'bob');
SELECT count(DISTINCT partition) FROM es_poll('split', member => 'bob', lease => '1h');

-- several calls in one statement, and in one transaction with appends: its own come after its commit
BEGIN;
SELECT es_append('subscription_order-9', 'Paid');
SELECT count(*) FROM es_poll('typed');
COMMIT;
SELECT count(*), (SELECT count(*) FROM es_poll('typed')) AS again FROM es_poll('typed');

-- errors
SELECT statement, pg_temp.outcome(statement) AS outcome FROM (VALUES
	($$SELECT es_subscribe('mailer')$$),
	($$SELECT es_subscribe(NULL)$$),
	($$SELECT es_subscribe('')$$),
	($$SELECT es_subscribe('x', -1)$$),
	($$SELECT es_subscribe('x', categories => '{a,NULL}')$$),
	($$SELECT es_subscribe('x', partitions => 0)$$),
	($$SELECT es_subscribe('x', partitions => 1001)$$),
	($$SELECT es_subscribe('x', partitions => NULL)$$),
	($$SELECT es_subscribe('x', max_attempts => 0)$$),
	($$SELECT es_unsubscribe('none')$$),
	($$SELECT es_rewind('none', 0)$$),
	($$SELECT es_rewind('mailer', -1)$$),
	($$SELECT es_poll('none')$$),
	($$SELECT es_poll(NULL)$$),
	($$SELECT es_poll('mailer', -1)$$),
	($$SELECT es_poll('mailer', wait => '-1s')$$),
	($$SELECT es_poll('mailer', wait => NULL)$$),
	($$SELECT es_poll('mailer', member => '')$$),
	($$SELECT es_poll('mailer', lease => '0')$$),
	($$SELECT es_ack('none', 0, 1)$$),
	($$SELECT es_ack('mailer', 1, 1)$$),
	($$SELECT es_ack('mailer', -1, 1)$$),
	($$SELECT es_ack('mailer', NULL, 1)$$),
	($$SELECT es_ack('mailer', 0, NULL)$$),
	($$SELECT es_ack('mailer', 0, 9223372036854775807)$$),
	($$SELECT es_ack('mailer', 0, 1, 'stranger')$$),
	($$SELECT es_nack('none', 0, 1, 'r')$$),
	($$SELECT es_nack('mailer', 0, 1, 'r')$$),
	($$SELECT es_nack('mailer', 0, 9223372036854775807, 'r')$$),
	($$SELECT es_nack('mailer', 0, 1, 'r', 'stranger')$$),
	($$SELECT es_parked('none')$$),
	($$SELECT es_replay_parked('none')$$),
	($$DELETE FROM eventstore.subscriptions$$),
	($$UPDATE eventstore.subscription_partitions SET position = 0$$),
	($$TRUNCATE eventstore.subscription_failures$$)
) s (statement);
SELECT es_ack('mailer', 0, 1, 'stranger');
CALL es_poll_wait('none', '0');

-- a role needs 'read', and no right on the tables
CREATE ROLE subscription_consumer;
SELECT es_grant('subscription_consumer', 'read');
SET ROLE subscription_consumer;
SELECT count(*) >= 0 AS polled FROM es_poll('typed');
SELECT pg_temp.outcome('SELECT es_unsubscribe(''typed'')');
SELECT pg_temp.outcome('SELECT * FROM eventstore.subscriptions');
RESET ROLE;
DROP OWNED BY subscription_consumer;
DROP ROLE subscription_consumer;

-- a hostile search_path changes nothing
CREATE SCHEMA subscription_hostile;
CREATE FUNCTION subscription_hostile.eq(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR subscription_hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = subscription_hostile.eq);
SET search_path = subscription_hostile, public, pg_catalog;
SELECT es_rewind('typed', 0);
SELECT count(*) > 0 AS found FROM es_poll('typed');
SELECT count(*) > 0 AS listed FROM es_subscriptions;
RESET search_path;
DROP SCHEMA subscription_hostile CASCADE;

SELECT es_unsubscribe(s) FROM unnest('{mailer,workers,late,typed,nothing,named,split}'::text[]) s;
SELECT count(*) FROM es_subscriptions;
SELECT (SELECT count(*) FROM eventstore.subscription_partitions) + (SELECT count(*) FROM eventstore.subscription_members)
	+ (SELECT count(*) FROM eventstore.subscription_failures) AS left_behind;
RESET eventstore.retry_delay;

-- an event that is due again behind the checkpoint does not make its partition's others late
SELECT es_settled_position() AS start \gset
SELECT es_subscribe('behind', :start, partitions => 2);
SELECT es_append('behind-' || n % 4, 'B') IS NOT NULL AS appended FROM generate_series(1, 4) n;
SELECT count(*) FROM es_poll('behind', member => 'y', lease => '1us');
SELECT count(es_nack('behind', partition, max, 'again', 'y')), count(es_ack('behind', partition, max, 'y'))
FROM (SELECT partition, max(position) FROM es_poll('behind', member => 'y', lease => '1us') GROUP BY partition) p;
SELECT es_append('behind-' || n % 4, 'B') IS NOT NULL AS appended FROM generate_series(1, 8) n;
DO $$
BEGIN
	-- both partitions are due: else the first poll may find one of them only, and the second give that one again
	WHILE EXISTS (SELECT FROM eventstore.subscription_partitions WHERE retry_at > clock_timestamp()) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT count(*) AS all_that_is_open FROM (SELECT DISTINCT position FROM es_poll('behind', member => 'x', wait => '10s', lease => '1h')
	UNION SELECT DISTINCT position FROM es_poll('behind', member => 'x', wait => '10s', lease => '1h')) p;
SELECT es_unsubscribe('behind');

-- a wait in vain moves the checkpoint on, too
SELECT es_subscribe('waited', 0, '{subscription_never}');
SELECT count(*) FROM es_poll('waited', wait => '10ms');
SELECT lag FROM es_subscriptions WHERE subscription = 'waited';
SELECT es_unsubscribe('waited');
