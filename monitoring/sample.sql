-- sample.sql: a small shop with one of everything that es_metrics() tells of, for
-- make-queries, the test and `make monitor`.  The event store is there, and empty;
-- wal_level is logical.
SELECT es_register_schema('OrderPlaced', '{"type": "object", "required": ["total"], "properties": {"total": {"type": "integer", "minimum": 1}}}');
SELECT es_register_reducer_ops('order', '*', '{"inc": {"events": 1, "total": "$.data.total"}}');
SELECT es_snapshot_every('order', 20);
SELECT es_create_projection('orders', 'order', 'async', 'order');
SELECT es_create_projection('last', 'last', 'inline', 'order');
SELECT es_subscribe('mail', categories => '{order}', partitions => 2, max_attempts => 1);
SELECT es_subscribe('audit');
SELECT es_set_retention('visit', max_count => 100);
SELECT es_protect('customer', '{$.data.email}', '$.stream');
SELECT es_append('customer-1', 'Registered', '{"email": "ann@example.org"}');
SELECT count(es_append('order-' || n % 20, 'OrderPlaced', jsonb_build_object('total', n))) FROM generate_series(1, 100) n;
SELECT es_seal();
SELECT slot_name FROM es_create_feed('search');
