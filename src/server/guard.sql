/* ---- guard: what keeps the store's tables append-only ---- */

CREATE FUNCTION eventstore.guard_rows() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_store_guard_rows';
COMMENT ON FUNCTION eventstore.guard_rows() IS 'row trigger: UPDATE and DELETE of stored rows are VE002';

CREATE FUNCTION eventstore.guard_statement() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_store_guard_statement';
COMMENT ON FUNCTION eventstore.guard_statement() IS 'statement trigger: TRUNCATE is VE002, INSERT and COPY are for the store''s owner and superusers';

CREATE FUNCTION eventstore.guard_own() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_store_guard_own';
COMMENT ON FUNCTION eventstore.guard_own() IS 'row trigger: what logical replication brings to a table of the server''s own is left out';

/*
 * What scavenging removes a subscriber loses, too. Each segment has a key for that, its index on
 * positions; what is published by the root goes by the root's, which can have no index.
 */
ALTER TABLE eventstore.events REPLICA IDENTITY FULL;

/*
 * On each table that there is by now; each segment, and each table of states, gets its
 * own (segment/maker.c, segment/statetable.c).
 * A subscriber has to find the rows that change: without a key it needs all of
 * their columns. The search_path is the script's, as event triggers of others may expect.
 */
DO $$
DECLARE
	relation pg_catalog.regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_catalog.pg_class c
		 WHERE c.relnamespace OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}')
		 ORDER BY c.oid
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE UPDATE OR DELETE ON %s
			FOR EACH ROW EXECUTE FUNCTION eventstore.guard_rows()', relation);
		EXECUTE pg_catalog.format('CREATE TRIGGER guard_statement BEFORE INSERT OR TRUNCATE ON %s
			FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard_statement()', relation);
		EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER guard_rows', relation);
		EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER guard_statement', relation);
		IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) relation AND c.relkind OPERATOR(pg_catalog.=) 'r')
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) relation AND i.indisprimary)
		THEN
			EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', relation);
		END IF;
	END LOOP;
END
$$;

/*
 * Feeds of a publisher are not those of a subscriber, which may have its own, of the same names; nor are
 * segments that were detached there detached here, and when their last events were recorded it finds out itself.
 */
CREATE TRIGGER guard_own BEFORE INSERT OR UPDATE OR DELETE ON eventstore.feeds
	FOR EACH ROW EXECUTE FUNCTION eventstore.guard_own();
CREATE TRIGGER guard_own BEFORE INSERT OR UPDATE OR DELETE ON eventstore.feed_definitions
	FOR EACH ROW EXECUTE FUNCTION eventstore.guard_own();
CREATE TRIGGER guard_own BEFORE INSERT OR UPDATE OR DELETE ON eventstore.detached_segments
	FOR EACH ROW EXECUTE FUNCTION eventstore.guard_own();
CREATE TRIGGER guard_own BEFORE INSERT OR UPDATE OR DELETE ON eventstore.segment_times
	FOR EACH ROW EXECUTE FUNCTION eventstore.guard_own();
ALTER TABLE eventstore.feeds ENABLE ALWAYS TRIGGER guard_own;
ALTER TABLE eventstore.feed_definitions ENABLE ALWAYS TRIGGER guard_own;
ALTER TABLE eventstore.detached_segments ENABLE ALWAYS TRIGGER guard_own;
ALTER TABLE eventstore.segment_times ENABLE ALWAYS TRIGGER guard_own;
