/* ---- mirror: the publisher's segments, made on a logical subscriber ---- */

CREATE FUNCTION eventstore.before_subscribe() RETURNS event_trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_mirror_before_subscribe';
COMMENT ON FUNCTION eventstore.before_subscribe() IS 'event trigger: makes the segments that the publisher has';

CREATE FUNCTION eventstore.after_subscription() RETURNS event_trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_mirror_after_subscription';
COMMENT ON FUNCTION eventstore.after_subscription() IS
	'event trigger: fetches the publisher''s rows of eventstore.segments, leaves tables of states to the rows of their projections; lets what was a logical subscriber go on by itself';

CREATE EVENT TRIGGER eventstore_before_subscribe ON ddl_command_start
	WHEN TAG IN ('CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION')
	EXECUTE FUNCTION eventstore.before_subscribe();
COMMENT ON EVENT TRIGGER eventstore_before_subscribe IS 'makes the segments that the publisher of a subscription has';
ALTER EVENT TRIGGER eventstore_before_subscribe ENABLE ALWAYS;

CREATE EVENT TRIGGER eventstore_after_subscription ON ddl_command_end
	WHEN TAG IN ('CREATE SUBSCRIPTION', 'DROP SUBSCRIPTION')
	EXECUTE FUNCTION eventstore.after_subscription();
COMMENT ON EVENT TRIGGER eventstore_after_subscription IS 'gives a logical subscriber the publisher''s rows of segments; lets what was a logical subscriber go on by itself';
ALTER EVENT TRIGGER eventstore_after_subscription ENABLE ALWAYS;

CREATE EVENT TRIGGER eventstore_after_refresh ON ddl_command_end
	WHEN TAG IN ('ALTER SUBSCRIPTION')
	EXECUTE FUNCTION eventstore.after_subscription();
COMMENT ON EVENT TRIGGER eventstore_after_refresh IS 'tables of states are subscribed to with the rows of their projections';
ALTER EVENT TRIGGER eventstore_after_refresh ENABLE ALWAYS;

CREATE FUNCTION eventstore.segment_once() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_mirror_segment_once';
COMMENT ON FUNCTION eventstore.segment_once() IS 'row trigger: on a logical subscriber, passes over the row of a segment that is there';
CREATE TRIGGER segment_once BEFORE INSERT ON eventstore.segments
	FOR EACH ROW EXECUTE FUNCTION eventstore.segment_once();
ALTER TABLE eventstore.segments ENABLE ALWAYS TRIGGER segment_once;

CREATE FUNCTION eventstore.mirror_segment() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_mirror_segment';
COMMENT ON FUNCTION eventstore.mirror_segment() IS 'row trigger: on a logical subscriber, makes a segment''s table and subscribes to it';
CREATE TRIGGER mirror_segment AFTER INSERT ON eventstore.segments
	FOR EACH ROW EXECUTE FUNCTION eventstore.mirror_segment();
ALTER TABLE eventstore.segments ENABLE ALWAYS TRIGGER mirror_segment;

/* The segment size changes what sessions keep of all segments. */
CREATE FUNCTION eventstore.forget_segments() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_mirror_forget';
COMMENT ON FUNCTION eventstore.forget_segments() IS 'row trigger: sessions forget what they keep of segments';
CREATE TRIGGER forget_segments AFTER INSERT OR UPDATE OR DELETE ON eventstore.config
	FOR EACH ROW EXECUTE FUNCTION eventstore.forget_segments();
ALTER TABLE eventstore.config ENABLE ALWAYS TRIGGER forget_segments;
