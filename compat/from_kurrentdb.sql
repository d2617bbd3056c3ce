/*
 * from_kurrentdb.sql
 *		Brings the events of KurrentDB, which was EventStoreDB, into an eventstore from a file of JSON lines:
 *		ids, types, data, metadata, revisions as versions, and times.
 *
 * export_kurrentdb.mjs writes such a file; doc/migrating.md has the format.  Run this by psql as a superuser in
 * a database that has the extension; it makes a table to copy the file into, and a procedure, which last as long as the session:
 *
 *		\copy kurrentdb_lines (line) FROM 'events.jsonl' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
 *		CALL pg_temp.import_kurrentdb();
 *
 * Events come in the order of the log there and get the store's next positions: those there are offsets of
 * bytes.  pg_temp.imported_position(commit position) translates what consumers have noted.  Streams and types whose names
 * begin with "$", links and metadata of streams among them, stay away.
 *
 *		from_position	begin after this commit position; NULL: after the last event that the store has
 *		only_check		stores nothing, and tells what would be refused
 *		renumber		streams of which the first events are gone ($maxCount, $maxAge, $tb) close up; else they are refused
 */
\ir import_events.sql

CREATE TEMP TABLE IF NOT EXISTS kurrentdb_lines (n bigint GENERATED ALWAYS AS IDENTITY, line jsonb);

CREATE OR REPLACE PROCEDURE pg_temp.import_kurrentdb(from_position bigint DEFAULT NULL, renumber boolean DEFAULT false, batch_size int DEFAULT 10000,
		only_check boolean DEFAULT false)
	LANGUAGE plpgsql AS $$
DECLARE
	_path text := pg_catalog.current_setting('search_path');
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM pg_temp.import_events_require(false, batch_size, from_position, true);
	CALL pg_temp.import_kurrentdb_read();
	CREATE OR REPLACE TEMP VIEW import_source AS
		SELECT e.global_position, e.stream, e.version, e.type, e.data, e.metadata, e.event_id, e.recorded_at, NULL::text AS fault
		FROM pg_temp.kurrentdb_events e;
	CALL pg_temp.import_events('the file', false, renumber, batch_size, from_position, only_check => only_check, whole => false);
	PERFORM pg_catalog.set_config('search_path', _path, true);
END
$$;

/* Whether a text in the form of a time is one: not every month has 30 days. */
CREATE OR REPLACE FUNCTION pg_temp.kurrentdb_is_time(created text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN created::pg_catalog.timestamptz IS NOT NULL;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format OR invalid_time_zone_displacement_value THEN
	RETURN false;
END
$$;

/* Makes a table of events out of the lines, and a view of the streams that were deleted. */
CREATE OR REPLACE PROCEDURE pg_temp.import_kurrentdb_read() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	_fault text;
	_detail text;
BEGIN
	/* streams that were deleted there, of which the log may have events until it is scavenged */
	CREATE OR REPLACE TEMP VIEW kurrentdb_deleted AS
		SELECT e.stream FROM (
			SELECT DISTINCT ON (e.stream) e.stream, e.deleted FROM (
				SELECT l.n, CASE WHEN e.event ->> 'type' = '$metadata' THEN pg_catalog.substr(e.event ->> 'streamId', 3) ELSE e.event ->> 'streamId' END AS stream,
					e.event ->> 'type' = '$streamDeleted' OR pg_catalog.jsonb_typeof(e.event #> '{data,$tb}') = 'number'
						AND (e.event #>> '{data,$tb}')::numeric > 9223372036854770000 AS deleted
				FROM pg_temp.kurrentdb_lines l, LATERAL (SELECT COALESCE(l.line -> 'event', l.line) AS event) e
				WHERE e.event ->> 'type' IN ('$streamDeleted', '$metadata')) e
			ORDER BY e.stream, e.n DESC) e
		WHERE e.deleted;

	/* a link that leads nowhere any more has no event; what begins with "$" stays away, whatever it has */
	SELECT pg_catalog.min(f.fault) FILTER (WHERE f.rank = 1), pg_catalog.string_agg(pg_catalog.format('%s: %s lines, the first is line %s.', f.fault, f.n, f.first), E'\n' ORDER BY f.rank)
		INTO _fault, _detail
		FROM (SELECT f.fault, pg_catalog.count(*) AS n, pg_catalog.min(f.n) AS first, pg_catalog.row_number() OVER (ORDER BY pg_catalog.min(f.n)) AS rank
			FROM (SELECT l.n, CASE
					WHEN NOT COALESCE(e.event ?& '{streamId,id,type,revision,created}' AND pg_catalog.jsonb_typeof(e.event -> 'streamId') = 'string'
							AND pg_catalog.jsonb_typeof(e.event -> 'type') = 'string' AND COALESCE(e.event #> '{position,commit}', l.line -> 'commitPosition') IS NOT NULL, false)
						THEN 'lines must be events'
					WHEN e.event ->> 'streamId' LIKE '$%' OR e.event ->> 'type' LIKE '$%' THEN NULL
					/* here, since an index has them */
					WHEN pg_catalog.octet_length(e.event ->> 'streamId') > 512 THEN 'names of streams must be 1 to 512 bytes long, without control characters'
					WHEN COALESCE(e.event ->> 'id' !~ '^[[:xdigit:]]{8}(-[[:xdigit:]]{4}){3}-[[:xdigit:]]{12}$', true) THEN 'ids must be UUIDs'
					WHEN COALESCE(e.event ->> 'revision' !~ '^\d{1,18}$', true) OR COALESCE(e.event #>> '{position,commit}', l.line ->> 'commitPosition') !~ '^\d{1,18}$'
						THEN 'revisions and commit positions must be whole numbers'
					WHEN COALESCE(e.event ->> 'created' !~ '^\d{4,6}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$', true)
							OR e.event ->> 'created' !~ '^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?Z$'
								AND NOT pg_temp.kurrentdb_is_time(e.event ->> 'created')
						THEN 'times must be as ISO 8601 has them, with their zone'
				END AS fault
				FROM pg_temp.kurrentdb_lines l, LATERAL (SELECT COALESCE(l.line -> 'event', l.line) AS event) e
				WHERE l.line IS NOT NULL AND NOT (l.line ? 'link' AND NOT l.line ? 'event')) f
			WHERE f.fault IS NOT NULL GROUP BY 1) f;
	IF _fault IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format('cannot import the file: %s', _fault), DETAIL = _detail,
			HINT = 'An event has the members streamId, id, type, revision, created and position.commit. Mend the file, TRUNCATE pg_temp.kurrentdb_lines and copy it again.';
	END IF;
	IF to_regclass('pg_temp.kurrentdb_events') IS NULL THEN
		CREATE TEMP TABLE kurrentdb_events (global_position bigint NOT NULL, version bigint NOT NULL, recorded_at timestamptz NOT NULL,
			event_id uuid NOT NULL, stream text NOT NULL, type text NOT NULL, data jsonb NOT NULL, metadata jsonb NOT NULL);
		CREATE UNIQUE INDEX ON pg_temp.kurrentdb_events (stream, version, event_id);
		CREATE INDEX ON pg_temp.kurrentdb_events (global_position);
	ELSE
		TRUNCATE pg_temp.kurrentdb_events;
	END IF;
	INSERT INTO pg_temp.kurrentdb_events
		SELECT COALESCE(e.event #>> '{position,commit}', l.line ->> 'commitPosition')::bigint, (e.event ->> 'revision')::bigint + 1,
			(e.event ->> 'created')::timestamptz, (e.event ->> 'id')::uuid, e.event ->> 'streamId', e.event ->> 'type', COALESCE(e.event -> 'data', 'null'),
			COALESCE(NULLIF(e.event -> 'metadata', 'null'), '{}')
				|| CASE WHEN e.event -> 'isJson' = 'false' THEN '{"content_type": "application/octet-stream"}'::jsonb ELSE '{}' END
		FROM pg_temp.kurrentdb_lines l, LATERAL (SELECT COALESCE(l.line -> 'event', l.line) AS event) e
		WHERE e.event ->> 'streamId' NOT LIKE '$%' AND e.event ->> 'type' NOT LIKE '$%'
		ON CONFLICT DO NOTHING;
	ANALYZE pg_temp.kurrentdb_events;
END
$$;
