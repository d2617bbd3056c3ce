# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_seal() of a log of --events events, and of the next 1,000; es_verify() of all, by one process and by two; es_proof().
#
# Beside the first seal the same leaves made by SQL alone: jsonb_build_array's text and its SHA-256, which any way of
# sealing has to make, without the tree. Each round fills a new store.

# clocked STATEMENT...: runs them in a session; leaves the last one's ms
clocked() { ms=$(sql '-c\timing on' "${@/#/-c}" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1); }

evidence_round() {
	local lsn leaves="sha256('\\x00' || convert_to(jsonb_build_array(position, stream, version, type, type_version, data, metadata, event_id, recorded_at)::text, 'UTF8'))"
	fresh_database
	sql -c "SELECT count(es_append_batch('account-' || s, bench.batch(1, 100))) FROM generate_series(1, $((events / 100))) s" >/dev/null
	acked[eventstore]=$((acked[eventstore] + events))
	sql -c 'VACUUM (FREEZE, ANALYZE) eventstore.events' -c CHECKPOINT
	calm
	lsn=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
	clocked 'SELECT es_seal()'
	take "seal of $events events" ms 'es_seal()' "$ms"
	take 'WAL of a seal' 'bytes an event' 'es_seal()' "$(sql -c "SELECT round((pg_current_wal_insert_lsn() - '$lsn') / (SELECT max(size) FROM es_seals), 1)")"
	take 'digests that are kept' 'bytes an event' 'es_seal()' "$(sql -c "SELECT round(pg_total_relation_size('eventstore.seal_tiles')::numeric / (SELECT max(size) FROM es_seals), 1)")"
	clocked "SELECT count($leaves) FROM es_events"
	take "seal of $events events" ms 'leaves alone, by SQL' "$ms"
	sql -c "SELECT count(es_append('next-' || s, 'Next', bench.data(s))) FROM generate_series(1, 1000) s" >/dev/null
	acked[eventstore]=$((acked[eventstore] + 1000))
	clocked 'SELECT es_seal()'
	take 'seal of the next 1,000' ms 'es_seal()' "$ms"
	clocked 'SET max_parallel_workers_per_gather = 0' 'SELECT * FROM es_verify()'
	take 'verify all' ms 'one process' "$ms"
	clocked 'SET max_parallel_workers_per_gather = 1' 'SELECT * FROM es_verify()'
	take 'verify all' ms 'two processes' "$ms"
	clocked "SELECT count(es_proof(1 + (n * 7919) % $events)) FROM generate_series(1, 1000) n"
	take 'a proof' ms 'es_proof()' "$(awk "BEGIN { print $ms / 1000 }")"
	expect 'problems that es_verify finds' 0 "$(sql -c 'SELECT count(*) FROM es_verify()')"
}

for ((round = 1; round <= rounds; round++)); do
	echo "  round $round"
	evidence_round
done
report_taken
