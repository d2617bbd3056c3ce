-- Forgetting a person: what is about him is in a stream of his own, which is deleted and
-- scavenged; then it is nowhere in the database any more. The manual has this as a recipe.

SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_forgetting;
\c regress_es_forgetting
SET client_min_messages = warning;
CREATE EXTENSION eventstore;

-- read models: by person, a table, and one whose states several persons share
CREATE TABLE directory (person text PRIMARY KEY, name text);
CREATE FUNCTION list_person(e es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF e.type = '$stream-deleted' THEN
		DELETE FROM public.directory WHERE person = e.stream;
	ELSIF e.data ? 'name' THEN
		INSERT INTO public.directory VALUES (e.stream, e.data->>'name') ON CONFLICT (person) DO UPDATE SET name = EXCLUDED.name;
	END IF;
END $$;
SELECT es_register_reducer_ops('person', '*', '"merge"');
SELECT es_register_reducer_ops('town', 'Moved', '{"append": {"names": "$.data.name"}}');
SELECT es_create_projection('people', 'person', 'inline', 'person'),
	es_create_projection('towns', 'town', 'inline', 'person', '{"Moved": "$.data.town"}'),
	es_create_handler_projection('directory', 'list_person(es_event)', 'inline', '{person}');

-- an order refers to the person by his stream and says nothing else of him
SELECT es_append('person-17', 'Registered', '{"name": "Ada Example", "mail": "ada@example.org"}') AS version;
SELECT es_append('person-17', 'Moved', '{"name": "Ada Example", "town": "Ulm"}') AS version;
SELECT es_append('person-18', 'Moved', '{"name": "Bob Example", "town": "Ulm"}') AS version;
SELECT es_append('order-1', 'OrderPlaced', '{"by": "person-17", "total": 12}') AS version;
SELECT es_snapshot('person-17');

-- where something of Ada is
CREATE VIEW places AS
	SELECT 'log' AS place FROM eventstore.events t WHERE t::text ~ 'Ada|ada@'
	UNION ALL SELECT 'snapshots' FROM eventstore.snapshots t WHERE t::text ~ 'Ada|ada@'
	UNION ALL SELECT 'states' FROM eventstore.projection_states t WHERE t::text ~ 'Ada|ada@'
	UNION ALL SELECT 'directory' FROM directory t WHERE t::text ~ 'Ada|ada@';
SELECT place, count(*) FROM places GROUP BY 1 ORDER BY 1;

-- 1. delete: hidden at once, from the read models by person, too
SELECT es_delete_stream('person-17');
SELECT count(*) FROM es_read('person-17');
SELECT key, state FROM es_projection('people');
SELECT * FROM directory;

-- 2. scavenge: the events leave the log, the snapshots leave with them
SELECT category, events FROM es_scavenge();
SELECT place, count(*) FROM places GROUP BY 1 ORDER BY 1;

-- 3. make anew what several persons share
SELECT es_rebuild_projection('towns');
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM es_projections WHERE rebuild_position IS NOT NULL) OR EXISTS (SELECT FROM eventstore.projection_progress WHERE litter) LOOP
		PERFORM es_run_projection('towns');
	END LOOP;
END $$;
SELECT key, state FROM es_projection('towns');
SELECT count(*) FROM places;

-- what stays is that there was somebody
SELECT stream, version, type, data FROM es_read_all();
SELECT es_append('person-17', 'Registered', '{"name": "Ada Example"}');
\c :regression_database
DROP DATABASE regress_es_forgetting (FORCE);
