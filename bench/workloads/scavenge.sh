# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_scavenge() of half a log, beside 8 writers and 4 followers: time, room, WAL, and what these wait for it; the worker's pace.
#
# Each round fills a new store with --events events in streams of 100, in ten
# segments, all sealed. Streams of the first 11 % are hidden as a whole, so a segment
# is left empty; one in a hundred of the others is deleted, the rest truncated at half. Then
# peers/beside.c has es_scavenge() run beside its clients, and the same clients once more
# without, for as long. SCAVENGE_APPENDS and SCAVENGE_PAGES are events, and pages of 1,000
# events, a second of each client.

beside=$work/beside
gcc -O2 -Wall -o "$beside" "$bench/peers/beside.c" -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq
appends=${SCAVENGE_APPENDS:-50} pages=${SCAVENGE_PAGES:-10}
streams=$((events / 100)) whole=$((events / 100 * 11 / 100)) half=50
probes=250			# looks at locks a second
deleted=$((streams / 100 - whole / 100))
removed_expected=$((1 + whole * 100 + deleted * 100 + (streams - whole - deleted) * half))

# fill: the streams, as many at a time as make a tenth of the log, ten events of one together
fill() {
	local part
	sql -c "CREATE TABLE bench.batch10 AS SELECT bench.batch(1, 10) AS batch"
	for ((part = 0; part < 10; part++)); do
		sql -c "SELECT count(es_append_batch('account-' || s, batch)) FROM bench.batch10,
			(SELECT s, part FROM generate_series($((streams / 10 * part)) + 1, $((streams / 10 * (part + 1)))) s, generate_series(1, 10) part
			ORDER BY part > 1, hashint8(s * 1000 + part), s OFFSET 0) x" >/dev/null
	done
}

# hide: what is to be removed; the event of prime-1 is in the segment that is to be left empty
hide() {
	sql -c "SELECT es_truncate_stream('prime-1', 2)" \
		-c "SELECT count(es_truncate_stream('account-' || s, 101)) FROM generate_series(1, $whole) s" \
		-c "SELECT count(es_truncate_stream('account-' || s, $half + 1)) FROM generate_series($whole + 1, $streams) s WHERE s % 100 <> 0" \
		-c "SELECT count(es_delete_stream('account-' || s)) FROM generate_series($whole + 1, $streams) s WHERE s % 100 = 0" >/dev/null
}

segments_size() {
	sql -c "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass"
}

# Looks who has a segment, or the log, for himself.
script probe <<'SQL'
INSERT INTO bench.probe SELECT clock_timestamp(), relation, granted FROM pg_locks
WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation = ANY (:segments::oid[]);
SQL

# beside STATEMENT: leaves seconds, result, appends_ms, pages_ms, followers, wal (bytes), waits and longest_wait
# (of clients, for locks; ms)
run_beside() {
	local offset lsn out segments
	segments=$(sql -c "SELECT array_agg(inhrelid) || 'eventstore.events'::regclass::oid FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass")
	sql -c 'DROP TABLE IF EXISTS bench.probe' -c 'CREATE UNLOGGED TABLE bench.probe (at timestamptz, relation oid, granted boolean)'
	sql -c CHECKPOINT
	calm
	offset=$(stat -c %s "$work/server.log")
	lsn=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
	background probe 1 -M prepared -R $probes -D segments="$segments"
	out=$(BENCH_DATA=$data BENCH_METADATA=$metadata "$beside" "dbname=$database" 8 "$appends" 4 "$pages" "$streams" "$whole" "$half" "$1" \
		2>>"$work/beside.log") || return 1
	wal=$(sql -c "SELECT pg_current_wal_insert_lsn() - '$lsn'")
	end_background
	{
		read -r seconds_taken result
		read -r -a appends_ms
		read -r -a pages_ms
		mapfile -t followers
	} <<<"$out"
	read -r waits longest_wait < <(tail -c +$((offset + 1)) "$work/server.log" | awk -F'|' '
		$1 != "client backend" || $2 != "bench" { next }
		/still waiting for/ { n++ }
		match($0, /after [0-9.]+ ms/) { ms = substr($0, RSTART + 6) + 0; if (ms > longest) longest = ms }
		END { print n + 0, longest + 0 }')
	acked[eventstore]=$((acked[eventstore] + appends_ms[0]))
}

# take_clients SIDE: the figures of a run
take_clients() {
	take 'append, median' ms "$1" "${appends_ms[1]}"
	take 'append, 99.9th percentile' ms "$1" "${appends_ms[2]}"
	take 'append, longest' ms "$1" "${appends_ms[3]}"
	take 'page of 1,000, median' ms "$1" "${pages_ms[1]}"
	take 'page of 1,000, 99.9th percentile' ms "$1" "${pages_ms[2]}"
	take 'page of 1,000, longest' ms "$1" "${pages_ms[3]}"
	take 'longest wait for a lock' ms "$1" "$longest_wait"
	note "round $round, $1: ${appends_ms[0]} appends, ${appends_ms[4]} of more than 50 ms; ${pages_ms[0]} pages, ${pages_ms[4]};" \
		"waits for locks of 10 ms and more: $waits"
}

# check_followers: each saw what is not hidden, all of it
check_followers() {
	local line from last seen
	for line in "${followers[@]}"; do
		read -r from last seen <<<"$line"
		expect "events from $from to $last that a follower saw, and the sum of their positions" \
			"$(sql -c "SELECT count(*) || ' ' || sum(position) FROM es_events WHERE position > $from AND position <= $last
				AND stream LIKE 'account-%' AND substr(stream, 9)::bigint > $whole AND substr(stream, 9)::bigint % 100 <> 0 AND version > $half")" "$seen"
	done
}

scavenge_round() {
	local before after removed
	fresh_database $((events / 10))
	fill
	sql -c 'SELECT es_scavenge()' >/dev/null		# seals what the worker has not
	expect "segments that are not sealed" 0 "$(sql -c "SELECT count(*) FROM es_segments WHERE state = 'full'")"
	hide
	before=$(segments_size)
	run_beside 'SELECT sum(events), sum(bytes) FROM es_scavenge()' || { fail "round $round: es_scavenge() beside clients"; return; }
	after=$(segments_size)
	removed=${result% *}
	expect 'events removed' "$removed_expected" "$removed"
	take 'es_scavenge()' s 'beside clients' "$seconds_taken"
	take 'events removed' events/s 'beside clients' "$(awk "BEGIN { print $removed / $seconds_taken }")"
	take 'size of all segments' MB 'after' "$((after / 1048576))"
	take 'size of all segments' MB 'before' "$((before / 1048576))"
	take_clients 'beside es_scavenge()'
	take_locks
	check_followers
	local wal_with=$wal
	run_beside "SELECT pg_sleep($seconds_taken)" || { fail "round $round: clients alone"; return; }
	take_clients 'without'
	check_followers
	take 'WAL, less that of the clients' 'bytes an event' 'of what is removed' "$(awk "BEGIN { print ($wal_with - $wal) / $removed }")"
	expect 'events in the store' "$((acked[eventstore] + streams * 100 + deleted - removed))" "$(sql -c 'SELECT count(*) FROM eventstore.events')"
}

# take_locks: for how long segments were locked against everybody, as far as looks tell
take_locks() {
	local seen
	seen=$(sql -F ' ' -c "SELECT round(coalesce(sum(looks), 0) * 1000.0 / $probes / 10, 1), round(coalesce(max(ms), 0) + 1000.0 / $probes, 1) FROM (
		SELECT count(*) AS looks, extract(epoch FROM max(at) - min(at)) * 1000 AS ms FROM (
			SELECT relation, at, count(*) FILTER (WHERE later) OVER (PARTITION BY relation ORDER BY at) AS nth FROM (
				SELECT relation, at, at > lag(at) OVER (PARTITION BY relation ORDER BY at) + interval '20 ms' AS later
				FROM bench.probe WHERE granted) l) n
		GROUP BY relation, nth) s")
	take 'segment locked against all, mean' ms 'beside clients' "${seen% *}"
	take 'segment locked against all, longest' ms 'beside clients' "${seen#* }"
}

# pace: events a second that the worker removes of what is hidden now; a rule of retention has it come by at once
pace() {
	local rate=10000 kept hidden start end
	kept=$((streams - whole - deleted))
	[ $((rate * seconds)) -le $((kept / 2 * half / 2)) ] || rate=$((kept / 2 * half / 2 / seconds))
	set_parameter eventstore.scavenge_rate $rate
	hidden=$(sql -c "SELECT $half / 2 * count(es_truncate_stream('account-' || s, $half + $half / 2 + 1)) FROM (
		SELECT s FROM generate_series($whole + 1, $streams) s WHERE s % 100 <> 0 LIMIT $((rate * seconds / (half / 2)))) s")
	sql -c "SELECT es_set_retention('none', max_count => 1)" >/dev/null
	comes_true "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger'" ||
		{ fail "round $round: the worker does not scavenge"; return; }
	start=${EPOCHREALTIME/./}
	comes_true "SELECT NOT EXISTS (SELECT FROM eventstore.streams WHERE has_hidden)" || fail "round $round: the worker does not remove what is hidden"
	end=${EPOCHREALTIME/./}
	take "pace of the worker, eventstore.scavenge_rate = $rate" events/s 'removed' "$(awk "BEGIN { printf \"%.1f\", $hidden * 1000000 / ($end - $start) }")"
	set_parameter eventstore.scavenge_rate 0
	comes_true "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger'" || fail "round $round: the worker goes on"
}

[ "$preload" = off ] || set_parameter eventstore.scavenge_rate 0
set_parameter deadlock_timeout 10ms
set_parameter log_line_prefix '%b|%a|%m '
set_parameter log_lock_waits on
warm_wal
for ((round = 1; round <= rounds; round++)); do
	echo "  round $round"
	scavenge_round
	[ "$preload" = off ] || pace
done
report_taken
for name in min_wal_size log_lock_waits log_line_prefix deadlock_timeout; do
	reset_parameter $name
done
[ "$preload" = off ] || reset_parameter eventstore.scavenge_rate
streams=10000
