-- Evidence: seals, what es_verify says, and proofs that are checked without any function of ours.
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_evidence;
\c regress_es_evidence
CREATE EXTENSION eventstore;
SELECT es_set_segment_size(500);

-- nothing yet
SELECT es_seal();
SELECT * FROM es_seals;
SELECT * FROM es_verify();
\set VERBOSITY terse
SELECT es_proof(1);
SELECT es_prove_consistency(1);
\set VERBOSITY default

-- events of all sorts: numbers, escapes, nesting, times
SELECT es_append('a-1', 'Plain', '{"n": 1, "b": [true, false, null], "s": "text"}', '{"who": "me"}');
SELECT es_append('a-1', 'Numbers', '[0, -0, 1.10, 1e3, 1.5e-7, 12345678901234567890.00000000000000000001, -1e20]');
SELECT es_append('a-1', E'Es"ca\\pes', to_jsonb(E'\b\f\n\r\t\x01\x1f"\\/ \u00e4\u20ac\U0001F600\x7f'::text));
SELECT es_append('a-"2\', 'Scalar', '"s"'), es_append('a-"2\', 'Scalar', '7'), es_append('a-"2\', 'Scalar', 'null'), es_append('a-"2\', 'Scalar', 'false');
SELECT es_append('empty', 'Empty', '{}'), es_append('empty', 'Empty', '[]'), es_append('empty', 'Empty', '{"": {"": []}}');
SELECT es_append('deep', 'Deep', (repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT es_append('long', 'Long', jsonb_build_object('t', repeat('long text ', 20000), 'u', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 2000) n)));
INSERT INTO es_events (stream, type, recorded_at) VALUES
	('old-1', 'Old', '0001-01-01 00:00:00+00'), ('old-2', 'Old', '1582-10-10 12:34:56.7+00'), ('old-3', 'Old', '1969-12-31 23:59:59.999999+00'),
	('old-4', 'Old', '2024-02-29 12:00:00.100+05:30'), ('old-5', 'Old', '9999-12-31 23:59:59.999999+00');
SET TimeZone = 'America/St_Johns';
SELECT es_seal();
SELECT position, size, root ~ '^[0-9a-f]{64}$' AS root, sealed_at > now() - interval '1 hour' AS sealed, chain ~ '^[0-9a-f]{64}$' AS chain FROM es_seals;

-- what is given out, made of what SQL gives alone
CREATE FUNCTION leaf(e es_event) RETURNS bytea LANGUAGE sql SET TimeZone = 'UTC' RETURN
	sha256('\x00' || convert_to(jsonb_build_array(e.position, e.stream, e.version, e.type, e.type_version, e.data, e.metadata, e.event_id, e.recorded_at)::text, 'UTF8'));
CREATE FUNCTION tree(leaves bytea[]) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	k int := 1;
BEGIN
	IF cardinality(leaves) = 1 THEN
		RETURN leaves[1];
	END IF;
	WHILE k * 2 < cardinality(leaves) LOOP
		k := k * 2;
	END LOOP;
	RETURN sha256('\x01' || tree(leaves[:k]) || tree(leaves[k + 1:]));
END $$;
CREATE FUNCTION root_of(proof jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	node bytea := decode(proof->>'leaf', 'hex');
	i bigint := (proof->>'index')::bigint;
	last bigint := (proof->>'size')::bigint - 1;
	p text;
BEGIN
	FOR p IN SELECT jsonb_array_elements_text(proof->'path') LOOP
		IF i % 2 = 1 OR i = last THEN
			node := sha256('\x01' || decode(p, 'hex') || node);
			WHILE i % 2 = 0 AND i > 0 LOOP
				i := i / 2;
				last := last / 2;
			END LOOP;
		ELSE
			node := sha256('\x01' || node || decode(p, 'hex'));
		END IF;
		i := i / 2;
		last := last / 2;
	END LOOP;
	RETURN encode(node, 'hex') || CASE WHEN last > 0 THEN ' and more' ELSE '' END;
END $$;
CREATE FUNCTION is_consistent(proof jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	fn bigint := (proof->>'first_size')::bigint - 1;
	sn bigint := (proof->>'second_size')::bigint - 1;
	path text[] := ARRAY(SELECT jsonb_array_elements_text(proof->'path'));
	first bytea;
	second bytea;
	p text;
BEGIN
	IF fn = sn THEN
		RETURN path = '{}' AND proof->>'first_root' = proof->>'second_root';
	END IF;
	IF ((fn + 1) & fn) = 0 THEN
		path := ARRAY[proof->>'first_root'] || path;
	END IF;
	WHILE fn % 2 = 1 LOOP
		fn := fn / 2;
		sn := sn / 2;
	END LOOP;
	first := decode(path[1], 'hex');
	second := first;
	FOREACH p IN ARRAY path[2:] LOOP
		IF sn = 0 THEN
			RETURN false;
		END IF;
		IF fn % 2 = 1 OR fn = sn THEN
			first := sha256('\x01' || decode(p, 'hex') || first);
			second := sha256('\x01' || decode(p, 'hex') || second);
			WHILE fn % 2 = 0 AND fn > 0 LOOP
				fn := fn / 2;
				sn := sn / 2;
			END LOOP;
		ELSE
			second := sha256('\x01' || second || decode(p, 'hex'));
		END IF;
		fn := fn / 2;
		sn := sn / 2;
	END LOOP;
	RETURN sn = 0 AND encode(first, 'hex') = proof->>'first_root' AND encode(second, 'hex') = proof->>'second_root';
END $$;
SELECT encode(tree(array_agg(leaf(e) ORDER BY position)), 'hex') = (SELECT root FROM es_seals) AS root, count(*) FROM es_events e;
SELECT bool_and(encode(leaf(e), 'hex') = es_proof(position)->>'leaf') AS leaves, bool_and(root_of(es_proof(position)) = (SELECT root FROM es_seals)) AS paths,
	(SELECT jsonb_object_agg(key, jsonb_typeof(value)) FROM jsonb_each(es_proof(1))) AS members FROM es_events e;
SELECT encode(sha256('\x02' || convert_to(jsonb_build_array(position, size, root, sealed_at AT TIME ZONE 'UTC' || '+00:00', NULL)::text, 'UTF8')), 'hex') <> chain AS spelled_otherwise,
	encode(sha256('\x02' || convert_to(format('[%s, %s, "%s", "%s+00:00", null]', position, size, root, rtrim(to_char(sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0')), 'UTF8')), 'hex') = chain AS chain FROM es_seals;
SELECT * FROM es_verify();
RESET TimeZone;

-- nothing new; what a transaction has appended is not settled; a rollback leaves holes, and no seal
SELECT es_seal(), (SELECT count(*) FROM es_seals);
BEGIN;
SELECT es_append('a-1', 'Own');
SELECT es_seal();
COMMIT;
SELECT es_seal();
BEGIN;
SELECT count(es_append('a-1', 'Never')) FROM generate_series(1, 3);
ROLLBACK;
BEGIN;
SELECT es_seal();
SELECT count(*) FROM es_seals;
ROLLBACK;
SELECT position, size FROM es_seals;
SELECT es_seal();
SELECT position, size FROM es_seals;

-- seals of many sizes, over segments; each event is proven by each, each two are consistent
DO $$
BEGIN
	FOR n IN 1 .. 40 LOOP
		PERFORM es_append_batch('b-' || n % 3, (SELECT jsonb_agg(jsonb_build_object('type', 'B', 'data', i)) FROM generate_series(1, n * n) i));
		IF n % 2 = 0 OR n < 8 THEN
			COMMIT;
			PERFORM es_seal();
		END IF;
	END LOOP;
END $$;
SELECT count(*), max(size), max(position) - max(size) AS holes, count(DISTINCT root) = count(DISTINCT size) AS roots FROM es_seals;
SELECT bool_and(root = encode(tree(ARRAY(SELECT leaf(e) FROM es_events e WHERE e.position <= s.position ORDER BY e.position)), 'hex')) AS roots FROM es_seals s WHERE size < 3000;
SELECT s.position IS NOT NULL AS sealed, bool_and(root_of(es_proof(e.position, s.position)) = s.root) AS paths, count(*) > 1000 AS many FROM es_seals s JOIN es_events e USING (position) GROUP BY 1;
SELECT bool_and(root_of(es_proof(e.position, s.position)) = s.root) AS paths, count(*) FROM es_seals s, es_events e WHERE e.position <= s.position AND (e.position + s.position) % 97 = 0;
SELECT bool_and(is_consistent(es_prove_consistency(a.position, b.position))) AS consistent, count(*) FROM es_seals a JOIN es_seals b ON a.position <= b.position;
SELECT bool_and(is_consistent(es_prove_consistency(position))) AS consistent FROM es_seals;
SELECT bool_or(is_consistent(es_prove_consistency(position) || jsonb_build_object('first_root', repeat('0', 64)))) AS consistent FROM es_seals;
SELECT * FROM es_verify();
SELECT * FROM es_verify(200, 300);
SELECT * FROM es_verify(to_position => 0);
SELECT * FROM es_verify(99999);

-- what cannot be proven
SELECT es_proof(20);
SELECT es_proof(999999);
SELECT es_proof(1, 2);
SELECT es_proof(500, (SELECT min(position) FROM es_seals));
\set VERBOSITY terse
SELECT es_proof(NULL);
SELECT es_proof(-1);
SELECT es_proof(0);
SELECT es_proof(1, -1);
SELECT es_prove_consistency(NULL);
SELECT es_prove_consistency(2);
SELECT es_prove_consistency((SELECT max(position) FROM es_seals), (SELECT min(position) FROM es_seals));
SELECT es_verify(NULL);
SELECT es_verify(-1);
SELECT es_verify(1, -1);
BEGIN READ ONLY;
SELECT es_seal();
ROLLBACK;

-- the tables are guarded like the log
UPDATE eventstore.seals SET size = 1;
DELETE FROM eventstore.seal_tiles;
TRUNCATE eventstore.scavenged;
DROP TABLE eventstore.seals;
INSERT INTO eventstore.seals SELECT 19, size, sealed_at, root, chain FROM eventstore.seals LIMIT 1;
\set VERBOSITY default

-- what scavenging has removed is as it should be, and can be proven still
CREATE TABLE proven AS SELECT position, encode(leaf(e), 'hex') AS leaf FROM es_events e WHERE stream IN ('b-1', 'empty');
SELECT es_truncate_stream('b-1', 50), es_delete_stream('empty');
SELECT category, events FROM es_scavenge() ORDER BY 1;
SELECT count(*) FROM eventstore.scavenged;
SELECT * FROM es_verify();
SELECT bool_and(es_proof(position)->>'leaf' = leaf) AS leaves, bool_and(root_of(es_proof(position)) = (SELECT root FROM es_seals ORDER BY position DESC LIMIT 1)) AS paths FROM proven;
SELECT es_seal() = es_settled_position() AS sealed;
SELECT * FROM es_verify();

-- segments that are away are named
SELECT count(*) FROM es_detach_segments('infinity');
\set VERBOSITY terse
SELECT * FROM es_verify();
SELECT * FROM es_verify(501, 600);
\set VERBOSITY default
SELECT es_attach_segment(s) FROM (SELECT 'eventstore.events_' || segment AS s FROM es_segments WHERE state = 'detached') s;
SELECT * FROM es_verify();

-- who may
CREATE ROLE regress_es_reads;
CREATE ROLE regress_es_admin;
CREATE ROLE regress_es_partly;
CREATE ROLE regress_es_nobody;
SELECT es_grant('regress_es_reads', 'read'), es_grant('regress_es_admin', 'admin'), es_grant('regress_es_partly', 'append', 'a');
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION outcomes() RETURNS TABLE(seals bigint, statement text, outcome text) LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM public.es_seals), s, public.outcome(s)
	FROM unnest('{SELECT es_seal(),SELECT es_verify(),SELECT es_proof(1),SELECT es_prove_consistency(17)}'::text[]) s
$$;
SET ROLE regress_es_reads;
SELECT seals > 0 AS seals, statement, outcome FROM outcomes();
SET ROLE regress_es_admin;
SELECT seals > 0 AS seals, statement, outcome FROM outcomes();
SET ROLE regress_es_partly;
SELECT seals > 0 AS seals, statement, outcome FROM outcomes();
SET ROLE regress_es_nobody;
SELECT seals > 0 AS seals, statement, outcome FROM outcomes();
RESET ROLE;
SELECT es_revoke('regress_es_reads', 'read'), es_revoke('regress_es_admin', 'admin'), es_revoke('regress_es_partly', 'append', 'a');
DROP ROLE regress_es_reads, regress_es_admin, regress_es_partly, regress_es_nobody;

-- what a superuser does to the tables, with the guards away
DO $$
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace AND relkind IN ('r', 'p') LOOP
		EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t);
	END LOOP;
END $$;
BEGIN;
UPDATE eventstore.events SET data = data || '{"n": 2}' WHERE position = 1;
UPDATE eventstore.events SET recorded_at = recorded_at + interval '1 us' WHERE position = 14;
DELETE FROM eventstore.events WHERE position IN (2, 700);
INSERT INTO eventstore.events SELECT (jsonb_populate_record(e, '{"position": 20, "version": 9999}')).* FROM eventstore.events e WHERE position = 3;
SELECT * FROM es_verify();
SELECT * FROM es_verify(3, 600);
ROLLBACK;
-- two events change places; one goes into a hole; the tail is cut
BEGIN;
CREATE TEMP TABLE two AS SELECT * FROM eventstore.events WHERE position IN (4, 700, 800);
DELETE FROM eventstore.events WHERE position IN (4, 700, 800);
UPDATE two SET position = CASE position WHEN 4 THEN 700 WHEN 700 THEN 4 ELSE 21 END;
INSERT INTO eventstore.events SELECT * FROM two;
DELETE FROM eventstore.events WHERE position > (SELECT max(position) - 3 FROM es_seals);
SELECT position, regexp_replace(problem, 'position \d{5}', 'position N') AS problem FROM es_verify() WHERE position < 10000
	UNION ALL SELECT position - (SELECT max(position) FROM es_seals), regexp_replace(problem, 'position \d{5}', 'position N') FROM es_verify() WHERE position > 10000;
ROLLBACK;
-- seals and digests
BEGIN;
UPDATE eventstore.seals SET root = sha256('forged') WHERE position = 17;
UPDATE eventstore.seals SET sealed_at = sealed_at + interval '1 day' WHERE position = 18;
UPDATE eventstore.seals SET size = 20 WHERE size = 19;
SELECT * FROM es_verify();
ROLLBACK;
BEGIN;
DELETE FROM eventstore.seals WHERE position = 18;
UPDATE eventstore.seals SET root = 'short' WHERE position = 17;
SELECT * FROM es_verify();
ROLLBACK;
BEGIN;
UPDATE eventstore.seal_tiles SET digests = set_byte(digests, 33, get_byte(digests, 33) # 1) WHERE (level, tile) = (0, 0);
SELECT * FROM es_verify(1, 5000);
UPDATE eventstore.seal_tiles SET digests = set_byte(digests, 0, get_byte(digests, 0) # 1) WHERE level = 1;
SELECT * FROM es_verify(1, 16);
UPDATE eventstore.seal_tiles SET digests = 'short' WHERE (level, tile) = (0, 1);
DELETE FROM eventstore.seal_tiles WHERE (level, tile) = (0, 3);
SELECT * FROM es_verify(200, 2000);
\set VERBOSITY terse
SELECT es_proof(400);
\set VERBOSITY default
ROLLBACK;
BEGIN;
DELETE FROM eventstore.seals WHERE position > 2000;
SELECT position > 2000 AS late, problem FROM es_verify();
SELECT es_seal();
ROLLBACK;
-- positions of digests that were forged do not keep events from being looked at, nor does a seal of
-- any position make it long
BEGIN;
UPDATE eventstore.events SET data = '{"forged": true}' WHERE position IN (300, 600, 1500);
UPDATE eventstore.seal_tiles SET after_position = 9223372036854775806 WHERE (level, tile) = (0, 1);
SELECT * FROM es_verify();
SELECT * FROM es_verify(257, 1400);
ROLLBACK;
BEGIN;
UPDATE eventstore.events SET data = '{"forged": true}' WHERE position = 300;
UPDATE eventstore.seal_tiles SET positions = '\xfcffffffffffffff7f01ffffffffffffffff7fff01' WHERE (level, tile) = (0, 0);
SELECT * FROM es_verify();
ROLLBACK;
BEGIN;
UPDATE eventstore.seals SET position = 9000000000000000000 WHERE position = (SELECT max(position) FROM eventstore.seals);
SELECT * FROM es_verify();
ROLLBACK;
-- a last seal that cannot be read hides no event; a digest too many above the leaves is found
BEGIN;
UPDATE eventstore.seals SET size = -1 WHERE position = (SELECT max(position) FROM eventstore.seals);
UPDATE eventstore.events SET data = '{"forged": true}' WHERE position = 600;
SELECT CASE WHEN position < 20000 THEN position END AS position, problem FROM es_verify();
ROLLBACK;
BEGIN;
UPDATE eventstore.seal_tiles SET digests = digests || sha256('forged') WHERE level = 1;
SELECT problem FROM es_verify();
ROLLBACK;
BEGIN;
INSERT INTO eventstore.seal_tiles VALUES (7, 0, 3, '', '');
SELECT problem FROM es_verify();
ROLLBACK;
-- what readers find an event by, and no leaf has: its stream's id, its category's key, the run that it is in
BEGIN;
UPDATE eventstore.events SET stream_id = stream_id + 1000000 WHERE position = 1;
UPDATE eventstore.events SET category_key = category_key + 1 WHERE position = 14;
UPDATE eventstore.events SET run_length = 0 WHERE position IN (SELECT position FROM eventstore.events WHERE position < 18 AND run_length = 1 ORDER BY position DESC LIMIT 1);
SELECT * FROM es_verify();
ROLLBACK;
BEGIN;
UPDATE eventstore.events SET run_length = run_length - 1 WHERE position = (SELECT min(position) FROM eventstore.events WHERE run_length > 1);
SELECT count(*), min(problem) FROM es_verify();
ROLLBACK;
BEGIN;
UPDATE eventstore.streams SET name = name || 'x' WHERE stream_id = (SELECT stream_id FROM eventstore.events WHERE position = 1);
SELECT count(*) = (SELECT count(*) FROM eventstore.events e WHERE stream_id = (SELECT stream_id FROM eventstore.events WHERE position = 1)) AS all_of_it, min(problem) FROM es_verify();
ROLLBACK;
-- a number of a tile that there is no room for is not gone up to
BEGIN;
UPDATE eventstore.seals SET size = 9000000000000000000 WHERE position = (SELECT max(position) FROM eventstore.seals);
UPDATE eventstore.seal_tiles SET tile = 30000000000000000 WHERE level = 0 AND tile = (SELECT max(tile) FROM eventstore.seal_tiles WHERE level = 0);
SELECT DISTINCT split_part(problem, ':', 1) AS problem FROM es_verify() ORDER BY 1;
UPDATE eventstore.seals SET size = -1 WHERE position = (SELECT max(position) FROM eventstore.seals);
SELECT DISTINCT split_part(problem, ':', 1) AS problem FROM es_verify() ORDER BY 1;
ROLLBACK;
-- an event that is said to be scavenged, of a stream that hides nothing; one that came back
BEGIN;
DELETE FROM eventstore.events WHERE position = 3;
INSERT INTO eventstore.scavenged VALUES (3, '\x000203');
SELECT * FROM es_verify();
INSERT INTO eventstore.events SELECT (jsonb_populate_record(e, '{"position": 8, "version": 9999}')).* FROM eventstore.events e WHERE position = 1;
SELECT * FROM es_verify(4, 100);
ROLLBACK;
SELECT * FROM es_verify();
\c :regression_database
DROP DATABASE regress_es_evidence;
