/*
 * from_marten.sql
 *		Brings the events that Marten keeps in mt_events and mt_streams into an eventstore: ids, types, data,
 *		metadata, versions, times, and sequence numbers as positions.
 *
 * Run it by psql as a superuser in a database that has the extension; it makes a procedure that lasts as
 * long as the session.  Then, with the schema that has Marten's tables:
 *
 *		CALL pg_temp.import_marten('public');
 *
 * Marten takes sequence numbers before the transaction that writes the events, so nothing in the database tells
 * of one that is still to come.  While writers go on a call therefore ends before the first number that is missing after
 * Marten's own high water mark, which its daemon writes.  It may be called again, and brings what has come since.
 * The last call, with writers stopped, is told so and goes to the end.
 *
 * With rich appends a later version of a stream can have an earlier number.  Here positions follow
 * versions: such a stream's events have its numbers in the order of their versions.
 *
 *		keep_positions	each event gets its sequence number; false: the store's next positions; calls begin after
 *						from_position, or, if that is NULL, after the last event that the store has
 *		writers_stopped	nobody writes any more: what is missing stays missing
 *		until_position	the last number to bring: the caller knows that no earlier one is still to come
 *		archived		false: events of archived streams stay away
 *		tenant			the only tenant to bring; NULL: all
 *		renumber		streams that lack events, deleted or compacted ones, close up; else they are refused
 *		compare_earlier	false: a call does not look whether the store has all from before where it goes on, so that the
 *						last one, with writers stopped, need not read it all
 *		only_check		stores nothing, and tells what would be refused
 */
\ir import_events.sql

/* A stream's name here; make another function of this name before the call to have others. */
CREATE OR REPLACE FUNCTION pg_temp.marten_stream_name(stream_id text, is_guid boolean, stream_type text, tenant_id text, is_archived boolean)
	RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN is_guid THEN pg_catalog.replace(COALESCE(stream_type, 'stream'), '-', '_') OPERATOR(pg_catalog.||) '-' ELSE '' END
		OPERATOR(pg_catalog.||) stream_id
		OPERATOR(pg_catalog.||) CASE WHEN tenant_id OPERATOR(pg_catalog.<>) '*DEFAULT*' THEN '@' OPERATOR(pg_catalog.||) tenant_id ELSE '' END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.import_marten(source regnamespace, keep_positions boolean DEFAULT true, writers_stopped boolean DEFAULT false,
		until_position bigint DEFAULT NULL, archived boolean DEFAULT true, tenant text DEFAULT NULL, renumber boolean DEFAULT false,
		batch_size int DEFAULT 10000, from_position bigint DEFAULT NULL, compare_earlier boolean DEFAULT true, only_check boolean DEFAULT false)
	LANGUAGE plpgsql AS $$
DECLARE
	_path text := pg_catalog.current_setting('search_path');
	_until bigint := until_position;
	_moved bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM pg_temp.import_events_require(keep_positions, batch_size, from_position, compare_earlier);
	IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = source AND c.relkind = 'S' AND c.relname LIKE 'mt\_events\_sequence\_%')
		AND (tenant IS NULL OR keep_positions) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = pg_catalog.format('tenants in %s have sequences of their own', source),
			HINT = 'Import each tenant by itself, with tenant => its name and keep_positions => false.';
	END IF;
	IF _until IS NULL AND NOT writers_stopped THEN
		_until := pg_temp.marten_end(source, COALESCE(from_position, 0), tenant);
	END IF;
	CALL pg_temp.import_marten_view(source, archived, tenant);
	SELECT pg_catalog.count(*) INTO _moved FROM pg_temp.import_moved m WHERE m.global_position <= _until OR _until IS NULL;
	CALL pg_temp.import_events(pg_catalog.format('%s.mt_events', source), keep_positions, renumber, batch_size, from_position, _until,
		compare_earlier, only_check);
	IF _moved > 0 THEN
		RAISE NOTICE '% events have the number of another one of their stream, so that positions follow versions', _moved;
	END IF;
	PERFORM pg_catalog.set_config('search_path', _path, true);
END
$$;

/* The number up to which all are there, beyond Marten's high water mark or the position that is told. */
CREATE OR REPLACE FUNCTION pg_temp.marten_end(source regnamespace, told bigint, tenant text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	_by_tenant boolean := EXISTS (SELECT FROM pg_catalog.pg_class c
		WHERE c.relnamespace = source AND c.relkind = 'S' AND c.relname LIKE 'mt\_events\_sequence\_%');
	_from bigint := told;
	_until bigint;
BEGIN
	IF NOT _by_tenant AND to_regclass(pg_catalog.format('%s.mt_event_progression', source)) IS NOT NULL THEN
		EXECUTE pg_catalog.format('SELECT GREATEST($1, pg_catalog.max(p.last_seq_id)) FROM %s.mt_event_progression p WHERE p.name = %L',
			source, 'HighWaterMark') INTO _from USING told;
	END IF;
	EXECUTE pg_catalog.format('SELECT pg_catalog.max(s.seq_id) FROM (
			SELECT e.seq_id, e.seq_id - pg_catalog.row_number() OVER (ORDER BY e.seq_id) AS run FROM %s.mt_events e
			WHERE e.seq_id > $1 AND (NOT $2 OR e.tenant_id = $3)) s
		WHERE s.run = $1', source) INTO _until USING _from, _by_tenant, tenant;
	RETURN COALESCE(_until, _from);
END
$$;

/* Makes the view, and the table of events whose number is another one of their stream here. */
CREATE OR REPLACE PROCEDURE pg_temp.import_marten_view(source regnamespace, archived boolean, tenant text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	_guid boolean;
	_columns text[];
	_which text;
	_rest text;
	_events text;
BEGIN
	SELECT pg_catalog.array_agg(a.attname::text), pg_catalog.bool_or(a.attname = 'stream_id' AND a.atttypid = 'uuid'::regtype) INTO _columns, _guid
		FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = pg_catalog.format('%s.mt_events', source)::regclass AND a.attnum > 0 AND NOT a.attisdropped;

	/* what marks numbers of failed transactions is no event */
	_which := pg_catalog.format($q$NOT (e.type = 'tombstone' AND (e.stream_id::text = 'mt_tombstone'
			OR COALESCE(e.mt_dotnet_type ~ '^(Marten\.Events|JasperFx\.Events)(\.\w+)*\.Tombstone,', false)))
		AND (%L OR NOT COALESCE(e.is_archived, false)) AND (%L IS NULL OR e.tenant_id = %2$L)$q$, archived, tenant);

	IF to_regclass('pg_temp.import_moved') IS NULL THEN
		CREATE TEMP TABLE import_moved (seq_id bigint PRIMARY KEY, global_position bigint NOT NULL UNIQUE);
	ELSE
		DELETE FROM pg_temp.import_moved;
	END IF;
	EXECUTE pg_catalog.format($q$
		WITH back AS (
			SELECT DISTINCT s.stream_id, s.tenant_id FROM (
				SELECT e.stream_id, e.tenant_id, e.version < pg_catalog.lag(e.version) OVER (PARTITION BY e.stream_id, e.tenant_id ORDER BY e.seq_id) AS back
				FROM %1$s.mt_events e WHERE %2$s) s
			WHERE s.back),
		numbered AS (
			SELECT e.stream_id, e.tenant_id, e.seq_id,
				pg_catalog.row_number() OVER (PARTITION BY e.stream_id, e.tenant_id ORDER BY e.seq_id) AS by_number,
				pg_catalog.row_number() OVER (PARTITION BY e.stream_id, e.tenant_id ORDER BY e.version) AS by_version
			FROM %1$s.mt_events e JOIN back b ON b.stream_id = e.stream_id AND b.tenant_id IS NOT DISTINCT FROM e.tenant_id WHERE %2$s)
		INSERT INTO pg_temp.import_moved
		SELECT v.seq_id, n.seq_id FROM numbered v
		JOIN numbered n ON n.stream_id = v.stream_id AND n.tenant_id IS NOT DISTINCT FROM v.tenant_id AND n.by_number = v.by_version
		WHERE v.seq_id <> n.seq_id $q$, source, _which);
	ANALYZE pg_temp.import_moved;

	_rest := pg_catalog.format($q$ AS global_position, pg_temp.marten_stream_name(e.stream_id::text, %L, %s, e.tenant_id::text, e.is_archived) AS stream,
			e.version::bigint AS version, e.type::text AS type, e.data,
			%s || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('dotnet_type', e.mt_dotnet_type, 'tenant_id', NULLIF(e.tenant_id, '*DEFAULT*')%s)) AS metadata,
			e.id AS event_id, e."timestamp" AS recorded_at, %s AS fault FROM $q$,
		_guid,
		CASE WHEN _guid THEN pg_catalog.format('(SELECT s.type::text FROM %s.mt_streams s WHERE s.id = e.stream_id AND s.tenant_id = e.tenant_id LIMIT 1)', source)
			ELSE 'NULL' END,
		CASE WHEN 'headers' = ANY (_columns) THEN $q$CASE WHEN e.headers <> 'null' THEN e.headers ELSE '{}' END$q$ ELSE $q$'{}'::jsonb$q$ END,
		(SELECT pg_catalog.string_agg(pg_catalog.format(', %L, e.%I', c, c), '' ORDER BY c) FROM pg_catalog.unnest(_columns) c
			WHERE c IN ('correlation_id', 'causation_id', 'user_name')),
		CASE WHEN 'bdata' = ANY (_columns) THEN $q$CASE WHEN e.bdata IS NOT NULL THEN 'data must be JSON' END$q$ ELSE 'NULL::text' END);
	_events := pg_catalog.format('%s.mt_events e', source);
	EXECUTE 'CREATE OR REPLACE TEMP VIEW import_source AS SELECT e.seq_id' || _rest || _events || ' WHERE ' || _which
		|| CASE WHEN EXISTS (SELECT FROM pg_temp.import_moved) THEN
			' AND NOT EXISTS (SELECT FROM pg_temp.import_moved v WHERE v.seq_id = e.seq_id) UNION ALL SELECT v.global_position' || _rest
			|| 'pg_temp.import_moved v JOIN ' || _events || ' ON e.seq_id = v.seq_id WHERE ' || _which
		ELSE '' END;
END
$$;
