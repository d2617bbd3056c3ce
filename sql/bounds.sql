-- Arguments at the ends of their ranges, empty lists, and a category without a name.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
SELECT es_append('bounds-1', 'T');

-- no event has one of no types, and each has all of no tags
SELECT es_append_if('[{"stream": "bounds-1", "type": "T"}]', 0, types => '{}') > 0 AS appended;
SELECT es_append_if('[{"stream": "bounds-1", "type": "T"}]', 0, tags => '{}');
SELECT count(*) = (SELECT count(*) FROM es_events) AS everything FROM es_read_tagged('{}', max_count => NULL);

-- a stream whose name begins with the hyphen
SELECT es_append('-bounds', 'T');
SELECT stream FROM es_read_all(stream_prefix => '-bounds');
SELECT stream FROM es_read_all(stream_prefix => '-bounds', backwards => true);
SELECT (es_replay('-bounds', 'count')).version;
SELECT es_replay('-bounds');
SELECT es_read_category('');

-- the last position there can be
SELECT es_subscribe('bounds', 9223372036854775807);
SELECT count(*) FROM es_poll('bounds');
SELECT lag FROM es_subscriptions WHERE subscription = 'bounds';
SELECT es_rewind('bounds', 9223372036854775807);
SELECT es_ack('bounds', 0, 9223372036854775807);
SELECT count(*) FROM es_poll('bounds', lease => '1000000 years');
SELECT es_unsubscribe('bounds');
SELECT es_proof(0);
SELECT es_proof(9223372036854775807);

-- versions
SELECT count(*) FROM es_read('bounds-1', 9223372036854775807);
SELECT count(*) FROM es_read('bounds-1', -9223372036854775808, backwards => true);
SELECT count(*) FROM es_replay_steps('bounds-1', 'count', from_version => 9223372036854775807);
