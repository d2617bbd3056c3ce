-- What is defined, how far consumers are behind and who holds them up, as views show it.
\set VERBOSITY terse
SELECT es_settled_position() AS start \gset

-- ---- lags count to the last position given out ----

CREATE FUNCTION listing_handler(event es_event) RETURNS void LANGUAGE plpgsql
	AS $$BEGIN IF event.type = 'Bad' THEN RAISE 'bad event'; END IF; END$$;
CREATE FUNCTION listing_reset() RETURNS void LANGUAGE sql AS '';
SELECT es_subscribe('listing_all', :start), es_subscribe('listing_some', :start, categories => '{listing_a}', types => '{Wanted,Else}', partitions => 2, max_attempts => NULL),
	es_subscribe('listing_other', :start, categories => '{listing_b}');
SELECT es_create_projection('listing_states', 'count', category => 'listing_a', key => '$.data.k');
SELECT es_create_projection('listing_inline', 'merge', 'inline');
SELECT es_create_handler_projection('listing_handler', 'listing_handler(es_event)', categories => '{listing_a,listing_b}', types => '{Wanted,Bad}', reset => 'listing_reset()');
SELECT count(es_run_projection(projection)) FROM es_projections WHERE mode = 'async' AND projection LIKE 'listing%';
SELECT count(*) FROM es_poll('listing_all');
SELECT subscription, partition, member, lag, parked, categories, types, max_attempts, lag_time FROM es_subscriptions WHERE subscription LIKE 'listing%' ORDER BY 1, 2;

SELECT es_append('listing_a-1', 'Unwanted', '{"k": 1}');
SELECT subscription, partition, lag, lag_time > '0' AS behind FROM es_subscriptions WHERE subscription LIKE 'listing%' ORDER BY 1, 2;
SELECT es_append('listing_a-1', 'Wanted', '{"k": 1}');
SELECT pg_sleep(0.01);
-- an event of one's own partition, category and type
SELECT subscription, count(*) AS partitions, count(lag_time) AS waiting, bool_and(lag_time >= '10ms' AND lag_time < '1 hour') AS age FROM es_subscriptions WHERE subscription LIKE 'listing%' GROUP BY 1 ORDER BY 1;
-- the oldest one counts
SELECT es_append_many(format('[{"stream": "listing_a-%s", "type": "Wanted"}]', n)::jsonb) IS NULL AS appended FROM generate_series(2, 9) n;
SELECT DISTINCT clock_timestamp() - s.lag_time - e.recorded_at < '100ms' AS oldest
	FROM es_subscriptions s, es_events e WHERE s.subscription = 'listing_all' AND e.position = :start + 1;
-- nothing is left
SELECT count(es_run_projection(projection)) FROM es_projections WHERE mode = 'async' AND projection LIKE 'listing%';
SELECT bool_and(es_wait_projection(projection, es_last_position(), '10s')) FROM es_projections WHERE projection LIKE 'listing%';
SELECT count(es_ack('listing_all', partition, position)) FROM es_poll('listing_all');
SELECT projection, lag, lag_time FROM es_projections WHERE projection LIKE 'listing%' ORDER BY 1;
SELECT lag, lag_time FROM es_subscriptions WHERE subscription = 'listing_all';
-- this transaction's own events are given out; they can be taken in once it has ended
BEGIN;
SELECT es_append('listing_b-1', 'Mine');
SELECT subscription, lag, lag_time FROM es_subscriptions WHERE subscription = 'listing_all';
SELECT projection, mode, lag >= 0 AS lag, lag_time FROM es_projections WHERE projection IN ('listing_states', 'listing_inline') ORDER BY 1;
ROLLBACK;
-- an event that is to come again is not taken in, one that is parked, or was let go, is dealt with
SELECT es_append('listing_b-1', 'First') AS one, es_append('listing_b-1', 'Second') AS two \gset
SELECT max(position) AS at, count(*) FROM es_poll('listing_other') \gset
SELECT es_nack('listing_other', 0, :at - 1, 'not now'), es_ack('listing_other', 0, :at);
SELECT lag, parked, lag_time > '0' AS behind FROM es_subscriptions WHERE subscription = 'listing_other';
SELECT es_rewind('listing_other', :start);
SELECT es_alter_subscription('listing_other', NULL, NULL, 1);
SELECT count(*) FROM es_poll('listing_other');
SELECT es_nack('listing_other', 0, :at - 1, 'never'), es_nack('listing_other', 0, :at, NULL);
SELECT lag > 0 AS behind, parked, max_attempts, lag_time FROM es_subscriptions WHERE subscription = 'listing_other';

-- ---- parked events ----

SELECT position - :at AS position, partition, attempts, reason, parked_at <= clock_timestamp() AS parked, stream, version, type FROM es_parked('listing_other');
SELECT es_discard_parked('listing_other', :at);
SELECT position - :at AS position, type FROM es_parked('listing_other');
SELECT parked, lag_time FROM es_subscriptions WHERE subscription = 'listing_other';
-- it does not come back before the checkpoint has passed it, nor afterwards
SELECT count(*) FROM eventstore.subscription_failures JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'listing_other';
SELECT es_replay_parked('listing_other', :at), es_replay_parked('listing_other');
SELECT type, attempt FROM es_poll('listing_other');
SELECT es_append('listing_b-1', 'Third') > 0 AS appended;
SELECT type, attempt, es_ack('listing_other', partition, position) FROM es_poll('listing_other');
SELECT parked, lag FROM es_subscriptions WHERE subscription = 'listing_other';
SELECT count(*) FROM eventstore.subscription_failures JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'listing_other';
-- past the checkpoint it goes at once
SELECT es_rewind('listing_other', :at - 2);
SELECT count(*) FROM es_poll('listing_other', 1);
SELECT es_nack('listing_other', 0, :at - 1, 'again');
SELECT type, es_ack('listing_other', partition, position) FROM es_poll('listing_other');
SELECT type FROM es_parked('listing_other');
SELECT es_discard_parked('listing_other', :at - 1);
SELECT count(*) FROM es_parked('listing_other');
SELECT count(*) FROM eventstore.subscription_failures JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'listing_other';
-- a rewind brings what was let go
SELECT es_rewind('listing_other', :at - 2);
SELECT type FROM es_poll('listing_other');
-- mistakes
\set VERBOSITY sqlstate
SELECT es_discard_parked('listing_other', :at);
\set VERBOSITY terse
SELECT es_discard_parked('listing_other', -1);
SELECT es_discard_parked('listing_other', NULL);
SELECT es_discard_parked(NULL, 1);
SELECT es_discard_parked('listing_none', 1);
SELECT es_parked('listing_none');
-- an event in a segment that is not there has no name
BEGIN;
SELECT es_rewind('listing_other', :at - 2);
SELECT count(*) FROM es_poll('listing_other', 1);
SELECT es_nack('listing_other', 0, :at - 1, 'again');
SELECT 'events_' || segment AS segment FROM es_segments WHERE :at BETWEEN first_position AND last_position \gset
ALTER TABLE eventstore.events DETACH PARTITION eventstore.:segment;
SELECT partition, reason, stream, version, type FROM es_parked('listing_other');
SELECT count(*) AS subscriptions, count(lag_time) AS waiting FROM es_subscriptions WHERE subscription LIKE 'listing%';
SELECT count(*) AS projections, count(lag_time) AS waiting FROM es_projections WHERE projection LIKE 'listing%';
ROLLBACK;

-- ---- what a subscription is of ----

SELECT es_settled_position() AS start \gset
SELECT es_subscribe('listing_alter', :start, categories => '{listing_c}', types => '{A}');
SELECT es_append_batch('listing_c-1', '[{"type": "A"}, {"type": "B"}, {"type": "A"}, {"type": "C"}]');
-- fewer: what was delivered may be acknowledged, what was not passes by the new filter
SELECT position - :start AS position, type FROM es_poll('listing_alter');
SELECT es_alter_subscription('listing_alter', NULL, '{C}', NULL);
SELECT categories, types, max_attempts FROM es_subscriptions WHERE subscription = 'listing_alter';
SELECT es_ack('listing_alter', 0, :start + 1);
SELECT position - :start AS position, type FROM es_poll('listing_alter');
SELECT position - :start AS position FROM es_subscriptions WHERE subscription = 'listing_alter';
\set VERBOSITY sqlstate
SELECT es_nack('listing_alter', 0, :start + 3, 'not of it any more');
\set VERBOSITY terse
-- more: who would acknowledge events that he was not delivered loses the partition
SELECT es_rewind('listing_alter', :start);
SELECT es_alter_subscription('listing_alter', NULL, '{A}', NULL);
SELECT count(*) FROM es_poll('listing_alter');
SELECT es_alter_subscription('listing_alter', NULL, '{A,B}', NULL);
SELECT es_ack('listing_alter', 0, :start + 3);
SELECT position - :start AS position, type, attempt FROM es_poll('listing_alter');
-- more, but none among those delivered
SELECT es_alter_subscription('listing_alter', NULL, '{A,B,C}', NULL);
SELECT es_ack('listing_alter', 0, :start + 3);
SELECT position - :start AS position, type FROM es_poll('listing_alter');
-- all
SELECT es_alter_subscription('listing_alter', '{}', '{}', 0);
SELECT categories, types, max_attempts FROM es_subscriptions WHERE subscription = 'listing_alter';
SELECT es_append('listing_d-1', 'D');
SELECT position - :start AS position, type FROM es_poll('listing_alter');
SELECT es_nack('listing_alter', 0, :start + 5, 'later');
-- what was to come again and does not pass any more is forgotten, what is parked stays
SELECT count(*) FROM eventstore.subscription_failures JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'listing_alter';
SELECT es_alter_subscription('listing_alter', '{listing_c}', NULL, 1);
SELECT count(*) FROM eventstore.subscription_failures JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'listing_alter';
SELECT es_rewind('listing_alter', :start);
SELECT count(*) FROM es_poll('listing_alter');
SELECT es_nack('listing_alter', 0, :start + 1, 'parked');
SELECT es_alter_subscription('listing_alter', NULL, '{C}', NULL);
SELECT position - :start AS position, type FROM es_parked('listing_alter');
SELECT position - :start AS position, type FROM es_poll('listing_alter');
SELECT es_ack('listing_alter', 0, :start + 4), es_replay_parked('listing_alter');
SELECT position - :start AS position, type FROM es_poll('listing_alter');
-- a rollback undoes it
BEGIN;
SELECT es_alter_subscription('listing_alter', NULL, '{X}', 9);
SELECT types, max_attempts FROM es_subscriptions WHERE subscription = 'listing_alter';
ROLLBACK;
SELECT types, max_attempts FROM es_subscriptions WHERE subscription = 'listing_alter';
-- mistakes
SELECT es_alter_subscription('listing_none', NULL, NULL, NULL);
SELECT es_alter_subscription(NULL, NULL, NULL, NULL);
SELECT es_alter_subscription('listing_alter', NULL, NULL, -1);
SELECT es_alter_subscription('listing_alter', '{NULL}', NULL, NULL);
SELECT es_alter_subscription('listing_alter', NULL, '{""}', NULL);
SELECT es_alter_subscription('listing_alter', '{listing_c,a-b}', NULL, NULL);

-- ---- projections ----

SELECT projection, mode, status, error, error_position, rebuild_position, reducer, handler, category, key, creator = current_user AS mine, attempts, failed_since, next_retry, categories, types, reset
	FROM es_projections WHERE projection LIKE 'listing%' ORDER BY 1;
-- what it shows can be pasted back
SELECT projection, handler::regprocedure, reset::regprocedure FROM es_projections WHERE projection = 'listing_handler';
-- a failure: since when, how often, when it is tried again
SET client_min_messages = error;	-- there are WARNINGs, which name positions
SELECT es_append('listing_a-1', 'Bad');
SELECT es_run_projection('listing_handler') >= 0 AS ran;
SELECT failed_since AS since FROM es_projections WHERE projection = 'listing_handler' \gset
SELECT status, split_part(error, E'\n', 1) AS error, attempts > 0 AS attempts, failed_since <= clock_timestamp() AS failed, next_retry > failed_since AS next, lag_time > '0' AS behind FROM es_projections WHERE projection = 'listing_handler';
SELECT es_run_projection('listing_handler') >= 0 AS ran;
SELECT attempts > 1 AS attempts, failed_since = :'since' AS the_first, next_retry > failed_since AS next FROM es_projections WHERE projection = 'listing_handler';
SELECT es_skip_event('listing_handler', error_position) FROM es_projections WHERE projection = 'listing_handler';
SELECT es_run_projection('listing_handler') >= 0 AS ran;
SELECT es_wait_projection('listing_handler', es_last_position(), '10s');
SELECT status, error, attempts, failed_since, next_retry, lag, lag_time FROM es_projections WHERE projection = 'listing_handler';
SELECT es_append('listing_a-1', 'Bad');
SELECT es_run_projection('listing_handler') >= 0 AS ran;
SELECT failed_since > :'since' AS anew FROM es_projections WHERE projection = 'listing_handler';
RESET client_min_messages;

-- ---- reducers, upcasters, snapshots ----

CREATE SCHEMA "listing Schema";
CREATE TYPE "listing Schema"."The State" AS (n int);
CREATE FUNCTION "listing Schema"."On It"(state "listing Schema"."The State", data jsonb) RETURNS "listing Schema"."The State" LANGUAGE sql AS 'SELECT ROW(1)::"listing Schema"."The State"';
CREATE FUNCTION listing_upcast(data jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
SELECT es_create_reducer('listing_typed', '{"n": 0}', '"listing Schema"."The State"', 'error'), es_create_reducer('listing_empty', NULL);
SELECT es_register_reducer('listing_typed', 'A', '"listing Schema"."On It"("listing Schema"."The State", jsonb)'),
	es_register_reducer_ops('listing_ops', 'A', '{"inc": {"n": 1}}'), es_register_reducer_ops('listing_ops', '*', '"merge"'), es_snapshot_every('listing_ops', 100), es_snapshot_every('count', 1000);
SELECT * FROM es_reducers WHERE reducer LIKE 'listing%' OR reducer = 'count' ORDER BY reducer, event_type COLLATE "C";
-- both can be given back as they are shown
SELECT es_register_reducer(reducer, event_type, handler::regprocedure) FROM es_reducers WHERE reducer = 'listing_typed' AND ops IS NULL;
SELECT es_register_reducer_ops(reducer, event_type, handler::jsonb), es_register_reducer_ops(reducer, event_type, ops) FROM es_reducers WHERE reducer = 'listing_ops';
BEGIN;
SELECT es_register_upcaster('ListingA', 1, 'listing_upcast(jsonb)'), es_register_upcaster_ops('ListingA', 2, '[{"set": {"x": 1}}]');
SELECT * FROM es_upcasters WHERE type LIKE 'Listing%' ORDER BY 1, 2;
SELECT es_register_upcaster(type, from_version, handler::regprocedure) FROM es_upcasters WHERE type LIKE 'Listing%' AND ops IS NULL;
SELECT es_register_upcaster_ops(type, from_version, ops) FROM es_upcasters WHERE type LIKE 'Listing%' AND ops IS NOT NULL;
ROLLBACK;
-- snapshots: usable while the reducer is as it was
SELECT es_snapshot('listing_c-1', 'listing_ops'), es_snapshot('listing_a-1', 'count'), es_snapshot('listing_c-1', 'merge');
SELECT es_append('listing_e-1', 'A') AS appended, es_snapshot('listing_e-1', 'listing_typed') AS version;
SELECT stream, reducer, version, bytes > 0 AS bytes, usable FROM es_snapshots WHERE stream LIKE 'listing%' ORDER BY 1, 2;
SELECT es_register_reducer_ops('listing_ops', 'A', '{"inc": {"n": 2}}');
SELECT reducer, usable FROM es_snapshots WHERE stream LIKE 'listing%' ORDER BY 1;
-- whatever is gone
ALTER FUNCTION "listing Schema"."On It"("listing Schema"."The State", jsonb) RENAME TO "Was It";
SELECT reducer, usable FROM es_snapshots WHERE reducer = 'listing_typed';
DROP SCHEMA "listing Schema" CASCADE;
SELECT reducer, usable FROM es_snapshots WHERE reducer = 'listing_typed';
SELECT reducer, event_type, handler, state_type FROM es_reducers WHERE reducer = 'listing_typed';
SELECT es_drop_snapshots('listing_ops'), es_snapshot_every('count', NULL), es_drop_snapshots('count');
SELECT reducer, usable FROM es_snapshots WHERE stream LIKE 'listing%' ORDER BY 1;

-- ---- who holds the settled position back ----

SELECT count(*) FROM es_in_flight;
SELECT es_settled_position() AS start \gset
BEGIN;
SELECT count(*) FROM es_in_flight;
SAVEPOINT s;
SELECT es_append('listing_f-1', 'Open');
-- a position that a savepoint took is held to the end
ROLLBACK TO s;
SELECT pid = pg_backend_pid() AS me, gid, state, since = now() AS since, first_position - :start AS first_position, query LIKE 'SELECT pid%' AS query FROM es_in_flight;
SELECT es_append('listing_f-1', 'Open'), es_append('listing_f-2', 'Open');
SELECT first_position - :start AS first_position FROM es_in_flight;
COMMIT;
SELECT count(*) FROM es_in_flight;

-- ---- roles ----

CREATE ROLE listing_role;
SELECT es_grant('listing_role', 'read'), es_grant('listing_role', 'admin');
SET ROLE listing_role;
SELECT (SELECT count(*) FROM es_in_flight), (SELECT count(*) > 0 FROM es_subscriptions WHERE lag_time IS NOT NULL), (SELECT count(*) > 0 FROM es_projections WHERE lag_time IS NOT NULL),
	(SELECT count(*) > 0 FROM es_reducers), (SELECT count(*) >= 0 FROM es_upcasters), (SELECT count(*) > 0 FROM es_snapshots WHERE usable);
RESET ROLE;
DROP OWNED BY listing_role;
DROP ROLE listing_role;

SELECT count(es_unsubscribe(subscription)) FROM (SELECT DISTINCT subscription FROM es_subscriptions WHERE subscription LIKE 'listing%') s;
SELECT count(es_drop_projection(projection)) FROM es_projections WHERE projection LIKE 'listing%';
SELECT es_drop_snapshots('merge');
SELECT count(es_drop_reducer(reducer)) FROM (SELECT DISTINCT reducer FROM es_reducers WHERE reducer LIKE 'listing%') r;
DROP FUNCTION listing_handler(es_event), listing_reset();
