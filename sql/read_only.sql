-- In a READ ONLY transaction whatever changes something is 25006, and what only tells goes on.
SET client_min_messages = warning;
SELECT es_append('ro-1', 'Made', '{"n": 1, "id": "p"}'), es_append('ro-1', 'Made', '{"n": 2, "id": "p"}');
SELECT es_subscribe('ro_s', 0, '{ro}', max_attempts => 1);
SELECT count(es_nack('ro_s', partition, position, 'no')) FROM es_poll('ro_s');
SELECT es_register_reducer_ops('ro', '*', '{"inc": {"n": "$.data.n"}}'), es_snapshot_every('ro', 1), es_create_reducer('ro_unused');
SELECT es_create_projection('ro_p', 'ro', category => 'ro');
SELECT es_register_schema('RoSchema', '{"type": "object"}');

-- state(call): its SQLSTATE, 00000 if it raised nothing.
CREATE FUNCTION state(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE call;
	RETURN '00000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;

BEGIN READ ONLY;
SELECT state(c), c FROM unnest(ARRAY[
	$$SELECT es_append('ro-2', 'Made')$$,
	$$SELECT es_try_append('ro-2', 'Made')$$,
	$$SELECT * FROM es_append_batch('ro-2', '[{"type": "Made"}]')$$,
	$$SELECT * FROM es_append_many('[{"stream": "ro-2", "type": "Made"}]')$$,
	$$SELECT es_append_if('[{"stream": "ro-2", "type": "Made"}]', 0, tags => '{nothing}')$$,
	$$INSERT INTO es_events (stream, type) VALUES ('ro-2', 'Made')$$,
	$$SELECT * FROM es_poll('ro_s')$$,
	$$SELECT es_ack('ro_s', 0, 1)$$,
	$$SELECT es_nack('ro_s', 0, 1, 'no')$$,
	$$SELECT es_subscribe('ro_other')$$,
	$$SELECT es_alter_subscription('ro_s', '{ro}', NULL, 3)$$,
	$$SELECT es_rewind('ro_s', 0)$$,
	$$SELECT es_replay_parked('ro_s')$$,
	$$SELECT es_discard_parked('ro_s', (SELECT min(position) FROM es_parked('ro_s')))$$,
	$$SELECT es_unsubscribe('ro_s')$$,
	$$SELECT es_register_reducer_ops('ro', 'Other', '{"inc": {"m": 1}}')$$,
	$$SELECT es_create_reducer('ro_other')$$,
	$$SELECT es_drop_reducer('ro_unused')$$,
	$$SELECT es_snapshot_every('ro', 2)$$,
	$$SELECT es_snapshot('ro-1', 'ro')$$,
	$$SELECT es_drop_snapshots('ro')$$,
	$$SELECT es_create_projection('ro_q', 'ro', category => 'ro')$$,
	$$SELECT es_run_projection('ro_p')$$,
	$$SELECT es_rebuild_projection('ro_p')$$,
	$$SELECT es_projection_view('ro_p', 'ro_view')$$,
	$$SELECT es_drop_projection('ro_p')$$,
	$$SELECT es_grant(current_user::text::regrole, 'read', 'ro')$$,
	$$SELECT es_revoke(current_user::text::regrole, 'read', 'ro')$$,
	$$SELECT es_register_schema('RoSchema', '{"type": "object", "properties": {"n": {"type": "integer"}}}', 'none')$$,
	$$SELECT es_drop_schema('RoSchema', 1)$$,
	$$SELECT es_set_retention('ro', max_count => 1)$$,
	$$SELECT es_truncate_stream('ro-1', 1)$$,
	$$SELECT es_delete_stream('ro-1')$$,
	$$SELECT * FROM es_scavenge()$$,
	$$SELECT es_detach_segments('-infinity')$$,
	$$SELECT es_index_type('Made')$$,
	$$SELECT es_settle()$$,
	$$SELECT es_seal()$$,
	$$SELECT * FROM es_read('ro-1')$$,
	$$SELECT * FROM es_read_all()$$,
	$$SELECT es_replay('ro-1', 'ro')$$,
	$$SELECT * FROM es_replay_category('ro')$$,
	$$SELECT es_stream_version('ro-1')$$,
	$$SELECT * FROM es_projection('ro_p')$$,
	$$SELECT * FROM es_parked('ro_s')$$,
	$$SELECT * FROM es_verify()$$,
	$$SELECT * FROM es_doctor()$$,
	$$SELECT * FROM es_metrics()$$]) WITH ORDINALITY AS t(c, n) ORDER BY n;
ROLLBACK;
SELECT es_drop_projection('ro_p'), es_unsubscribe('ro_s'), es_drop_reducer('ro'), es_drop_reducer('ro_unused'), es_drop_schema('RoSchema', 1);
DROP FUNCTION state(text);
