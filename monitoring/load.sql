-- load.sql: what the shop of sample.sql does, for `make monitor`.
CREATE TABLE broken (yes boolean);
CREATE FUNCTION mail_sent(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM broken) THEN
		RAISE 'the mail server does not answer';
	END IF;
END$$;
SELECT es_create_handler_projection('mails', 'mail_sent(es_event)', 'async', '{order}');

-- shop_work(kind, order): one thing that a shop does, of each kind as many as of a hundred.
-- What is refused is refused, as it would be to a program.
CREATE FUNCTION shop_work(kind int, ordered int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	stream text := 'order-' || ordered;
	seen bigint;
BEGIN
	IF kind <= 40 THEN
		PERFORM es_append(stream, 'OrderPlaced', jsonb_build_object('total', kind));
	ELSIF kind <= 48 THEN	-- read, decide, append
		SELECT version INTO seen FROM es_replay(stream, 'order');
		PERFORM es_append(stream, 'ItemAdded', '{"sku": "A1"}', expected_version => coalesce(seen, 0) - (random() < 0.1)::int);
	ELSIF kind <= 52 THEN
		PERFORM es_append_batch('visit-' || ordered % 40, (SELECT jsonb_agg('{"type": "Seen"}'::jsonb) FROM generate_series(1, 2 + ordered % 30)));
	ELSIF kind <= 54 THEN
		PERFORM es_append('customer-' || ordered, 'Registered', '{"email": "ann@example.org"}');
	ELSIF kind <= 56 THEN	-- the same again
		PERFORM es_append('visit-0', 'Seen', event_id => md5(stream)::uuid);
	ELSIF kind <= 59 THEN
		PERFORM es_append_if(jsonb_build_array(jsonb_build_object('stream', 'seat-' || ordered, 'type', 'SeatTaken', 'tags', jsonb_build_array('seat:' || ordered))),
			CASE WHEN random() < 0.3 THEN 0 ELSE es_settled_position() END, tags => ARRAY['seat:' || ordered]);
	ELSIF kind <= 60 THEN
		PERFORM es_append(stream, 'OrderPlaced', '{"total": 0}');
	ELSIF kind <= 75 THEN
		PERFORM count(*) FROM es_read(stream);
	ELSIF kind <= 80 THEN
		PERFORM count(*) FROM es_read_all(es_settled_position() - 500, 500);
	ELSE
		PERFORM FROM es_replay(stream, 'order');
	END IF;
EXCEPTION WHEN OTHERS THEN
	NULL;
END$$;

-- shop_consume(subscription): takes what there is; some of it cannot be delivered
CREATE FUNCTION shop_consume(consumed text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	batch record;
BEGIN
	FOR batch IN SELECT partition, max(position) AS position FROM es_poll(consumed, 200) GROUP BY partition LOOP
		IF consumed = 'mail' AND random() < 0.01 THEN
			PERFORM es_nack(consumed, batch.partition, batch.position, 'no such address');
		ELSE
			PERFORM es_ack(consumed, batch.partition, batch.position);
		END IF;
	END LOOP;
END$$;
