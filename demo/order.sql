-- Act 1: the story of an order.

-- ok(condition, promise): one promise kept, or the demo ends here
CREATE FUNCTION pg_temp.ok(condition boolean, promise text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF condition IS NOT TRUE THEN
		RAISE EXCEPTION 'not kept: %', promise;
	END IF;
	RETURN 'ok: ' || promise;
END
$$;
\pset footer off
\set ON_ERROR_STOP on

\echo
\echo '--- What an order is: one handler for each type of event, in any language'
\set ECHO queries
CREATE FUNCTION order_placed(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN state || data || '{"status": "placed"}';

CREATE FUNCTION order_shipped(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN state || jsonb_build_object('status', 'shipped', 'shippedDate', data -> 'date');

CREATE FUNCTION order_delivered(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN state || jsonb_build_object('status', 'delivered', 'deliveredDate', data -> 'date');

\o /dev/null
SELECT es_register_reducer('order', 'OrderPlaced', 'order_placed(jsonb, jsonb)');
SELECT es_register_reducer('order', 'OrderShipped', 'order_shipped(jsonb, jsonb)');
SELECT es_register_reducer('order', 'OrderDelivered', 'order_delivered(jsonb, jsonb)');
\o
\set ECHO none

\echo
\echo '--- What happened to order 123; each writer says which version it has seen'
\set ECHO queries
SELECT es_append('order-123', 'OrderPlaced', '{"customer": "ann", "total": 120}', expected_version => 0);
SELECT es_append('order-123', 'OrderShipped', '{"date": "2026-03-02"}', expected_version => 1);
SELECT es_append('order-123', 'OrderDelivered', '{"date": "2026-03-05"}', expected_version => 2);
SELECT version, type, data FROM es_read('order-123');
\set ECHO none

\echo
\echo '--- A second writer that has seen version 1 only is refused'
\set ON_ERROR_STOP off
\set ECHO queries
SELECT es_append('order-123', 'OrderCancelled', expected_version => 1);
\set ECHO none
\set ON_ERROR_STOP on
\echo 'SQLSTATE' :LAST_ERROR_SQLSTATE
\pset tuples_only on
SELECT pg_temp.ok(:'LAST_ERROR_SQLSTATE' = 'VE001', 'a stale writer gets VE001');
\pset tuples_only off

\echo '--- The order, folded from its events'
\set ECHO queries
\pset expanded on
SELECT * FROM es_replay('order-123');
\pset expanded off
\set ECHO none
\pset tuples_only on
SELECT pg_temp.ok(
	state = '{"customer": "ann", "total": 120, "status": "delivered",
		"shippedDate": "2026-03-02", "deliveredDate": "2026-03-05"}' AND version = 3,
	'status, shippedDate and deliveredDate are there') FROM es_replay('order-123');
\pset tuples_only off

\echo '--- An event type that nobody has a handler for does no harm'
\set ECHO queries
SELECT es_append('order-123', 'OrderReviewed', '{"stars": 5}');
\pset expanded on
SELECT * FROM es_replay('order-123');
\pset expanded off
\set ECHO none
\pset tuples_only on
SELECT pg_temp.ok(a.state = b.state AND a.version = b.version + 1, 'the state is the same, one version on')
	FROM es_replay('order-123') a, es_replay('order-123', until_version => 3) b;
\pset tuples_only off

\echo '--- What happened stays as it was, for superusers too'
\set ON_ERROR_STOP off
\set ECHO queries
UPDATE es_events SET data = '{"total": 1}' WHERE stream = 'order-123' AND version = 1;
\set ECHO none
\echo 'SQLSTATE' :LAST_ERROR_SQLSTATE
\set view_state :LAST_ERROR_SQLSTATE
\set ECHO queries
UPDATE eventstore.events SET data = '{"total": 1}' WHERE stream = 'order-123' AND version = 1;
\set ECHO none
\set ON_ERROR_STOP on
\echo 'SQLSTATE' :LAST_ERROR_SQLSTATE
\pset tuples_only on
SELECT pg_temp.ok(:'view_state' = 'VE002' AND :'LAST_ERROR_SQLSTATE' = 'VE002', 'an UPDATE gets VE002');
