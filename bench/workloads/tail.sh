# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# How long appends take at half and at 80 % of the highest rate, by 8 clients in an open loop; and beside a checkpoint, new segments, seals, a scavenge, projections.
#
# The highest rate is each side's own, measured before in the same round. What runs beside begins after a
# second, and again when it has ended; the load there is a half and a fifth of the highest rate: on two cores
# a half leaves no core to what runs beside. TAIL_PARTS chooses among alone and beside (both), TAIL_SHARES
# among the loads (50 and 20).

clients=8
tail_parts=" ${TAIL_PARTS:-alone beside} "
tail_shares=${TAIL_SHARES:-50 20}

# highest_rate TARGET SCRIPT: leaves it in "measured"
highest_rate() {
	calm
	pgbench_rate "$1" 1 "$2"
}

# ---- alone ----

# tail_side NAME TARGET SCRIPT: one side at both rates
tail_side() {
	local share highest
	highest_rate "$2" "$3" || { fail "$1: the highest rate"; return; }
	highest=$measured
	take "synchronous_commit $sync, highest rate" events/s "$1" "$highest"
	for share in 50 80; do
		calm
		open_loop "$2" "$3" "$(awk "BEGIN { printf \"%d\", $highest * $share / 100 }")" "$seconds" ||
			{ fail "$1: an open loop at $share %"; continue; }
		take_tail "synchronous_commit $sync, $share %" "$1"
	done
}

# alone: es_append and what else appends, with synchronous_commit off and on
alone() {
	fresh_database
	bare_table bare2 two
	prime_streams bare2
	round=0
	hand_setup
	npm_peers_setup
	insert_script bare2 bare2 "$any_stream"
	peer_scripts "$own_stream"
	for ((round = 1; round <= rounds; round++)); do
		echo "  round $round"
		for sync in off on; do
			sql -c CHECKPOINT
			tail_side "es_append" eventstore eventstore
			tail_side "bare INSERT, 2 unique indexes" bare2 bare2
			tail_side "plpgsql by hand" hand hand
			[ -z "$have_messagedb" ] || database=bench_messagedb search_path=message_store,public tail_side "message-db, 16 categories" messagedb messagedb16
		done
	done
	check_store
	check_bare bare2
	check_hand
	npm_peers_end
}

# ---- beside ----

# A statement each, of a store that has --events events in segments of a tenth of them; {N} is another number
# each time. Where new segments are made, the store has one event a stream.
beside_names=("nothing" "a query that computes" "CHECKPOINT" "new segments, each 2,000 events" "es_seal() of all" "es_scavenge() of half" "es_run_projection() of all" "VACUUM (FREEZE)" "es_verify()")
beside_statements=("" "SELECT sum(sqrt(n)) FROM generate_series(1, 10000000) n" "CHECKPOINT" "" "SELECT es_seal()" "SELECT * FROM es_scavenge()"
	"SELECT es_create_projection('p{N}', reducer => 'kept', key => '\$.stream') IS NULL OR es_run_projection('p{N}') IS NULL" "VACUUM (FREEZE) eventstore.events" "SELECT count(*) FROM es_verify()")

# keep_running STATEMENT FILE: runs it until the file is there, a line for each time
keep_running() {
	local n=0 statement
	sleep 1
	while [ ! -e "$2" ]; do
		n=$((n + 1))
		statement=${1//\{N\}/$n}
		sql -c "$statement" >/dev/null || return 1
		echo "$n" >"$2.count"
	done
}

# beside_side N SHARE: the load beside one of them, in a store of its own
beside_side() {
	local name=${beside_names[$1]} share=$2 statement=${beside_statements[$1]} each=$((events / streams)) size=$((events / 10)) highest pid
	[[ "$name" != new* ]] || each=1 size=2000
	fresh_database $size
	sql -c "SELECT es_register_reducer_ops('kept', '*', '{\"inc\": {\"n\": 1}}')" \
		-c "SELECT count(es_append_batch('account-' || s, bench.batch(1, $each))) FROM generate_series(1, $streams) s" >/dev/null
	acked[eventstore]=$((acked[eventstore] + each * streams))
	[[ "$name" != es_scavenge* ]] ||
		sql -c 'SELECT count(*) FROM es_scavenge()' -c "SELECT count(es_truncate_stream('account-' || s, $((each / 2 + 1)))) FROM generate_series(1, $streams) s" >/dev/null
	sql -c CHECKPOINT
	highest_rate eventstore eventstore || { fail "$name: the highest rate"; return; }
	highest=${measured%.*}
	rm -f "$work/beside" "$work/beside.count"
	if [ -n "$statement" ]; then
		keep_running "$statement" "$work/beside" &
		pid=$!
	fi
	calm
	open_loop eventstore eventstore $((highest * share / 100)) $((seconds + 2)) || { fail "$name: an open loop"; return; }
	touch "$work/beside"
	if [ -n "$statement" ]; then
		wait $pid || fail "$name failed"
		[ "$round" -lt "$rounds" ] || note "$name, beside $share %: ran $(cat "$work/beside.count") times, of which the last ended after the load or with it"
	fi
	take_tail "synchronous_commit $sync, $share %, beside" "$name"
	[[ "$name" == es_scavenge* ]] || check_store
}

# beside: es_append while something else runs
beside() {
	sync=on
	local share i
	for share in $tail_shares; do
		for ((round = 1; round <= rounds; round++)); do
			for i in "${!beside_names[@]}"; do
				beside_side "$i" "$share"
			done
		done
	done
}

append_script eventstore "$any_stream"
warm_wal
[[ "$tail_parts" != *" alone "* ]] || alone
[[ "$tail_parts" != *" beside "* ]] || beside
reset_parameter min_wal_size
report_taken
