-- The order application's store: what an order is, a read model, a worker's
-- subscription and the table it writes. For an empty database, by a superuser.
CREATE EXTENSION eventstore;

-- An order's state. es_replay folds it for commands, the projection for queries.
SELECT es_create_reducer('order');
SELECT es_register_reducer_ops('order', 'OrderPlaced', '["merge", {"set": {"status": "placed"}}]');
SELECT es_register_reducer_ops('order', 'OrderPaid', '{"set": {"status": "paid"}}');
SELECT es_register_reducer_ops('order', 'OrderShipped', '["merge", {"set": {"status": "shipped"}}]');
SELECT es_register_reducer_ops('order', 'OrderCancelled', '["merge", {"set": {"status": "cancelled"}}]');

-- The read model, a view with an index for the question that is asked.
SELECT es_create_projection('orders', 'order', category => 'order');
SELECT es_projection_view('orders', 'order_list');
SELECT es_index_projection('orders', '((state ->> ''customer''))');

-- The worker: a mail for each event of an order.
SELECT es_subscribe('mailer', categories => '{order}', partitions => 4, max_attempts => 3);
CREATE TABLE mail (
    event_id uuid PRIMARY KEY,
    recipient text NOT NULL CHECK (recipient LIKE '%_@_%'),
    subject text NOT NULL
);
