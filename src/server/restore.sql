/* ---- restore: data that is put into the store's tables directly ---- */

CREATE FUNCTION eventstore.guard_restore() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'es_restore_guard';
COMMENT ON FUNCTION eventstore.guard_restore() IS 'statement trigger: rows that would make half a store, or two in one, are 55000';

/* On the log, and on what tells of events in it; each segment, and each table of states, gets its own. */
DO $$
DECLARE
	name pg_catalog.text;
BEGIN
	FOREACH name IN ARRAY '{events,streams,segments,detached_segments,seals,seal_tiles,scavenged,snapshots,retention_skips,projection_states,projection_skips,subscription_failures}'::pg_catalog.text[]
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER guard_restore AFTER INSERT ON eventstore.%I
			FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard_restore()', name);
		EXECUTE pg_catalog.format('ALTER TABLE eventstore.%I ENABLE ALWAYS TRIGGER guard_restore', name);
	END LOOP;
END
$$;
