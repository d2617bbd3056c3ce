# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# decide.sh: decisions by tags: the scripts of pgbench, the clients in C and in
# Node.js, the logs that are filled with tagged events.

build_decide() {
	gcc -O2 -Wall -o "$work/decide" "$bench/peers/decide.c" -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq
}

# decide_database: an empty store with the functions of lib/decide.sql
decide_database() {
	fresh_database
	sql -f "$bench/lib/decide.sql"
}

# --- scripts

# boundary_script NAME COLUMNS: a script in a boundary of the client's own, a new one
# each 100 events; COLUMNS are fetched with each, of a row with stream and tag. "after"
# is the last position in it.
boundary_script() {
	script "$1" <<-SQL
	\\if :v % 100 = 0
	\\set b :v / 100
	\\set after 0
	SELECT tag, $2 FROM (SELECT 'own-' || :run || '-' || :client_id AS stream, 'own-' || :run || '-' || :client_id || '-' || :b AS tag) x \\gset
	\\endif
	\\set v :v + 1
	$(cat)
	SQL
}

# new_tag_script NAME BASE: each event has a new tag, and nothing may have it
new_tag_script() {
	{ sed '/^\\set v/,$d' "$work/$2.sql"; cat <<-'SQL'; cat; } | script "$1"
	\set v :v + 1
	SELECT :tag || '-' || :v AS new \gset
	SQL
}

# decide_scripts: a conditional append, and the same event without a condition
decide_scripts() {
	boundary_script append_if "bench.decided(stream, tag) AS events, ARRAY[tag]::text AS tags" <<-'SQL'
	SELECT es_append_if(:events, :after, tags => :tags) AS after \gset
	SQL
	boundary_script append_many "bench.decided(stream, tag) AS events" <<-'SQL'
	SELECT position FROM es_append_many(:events);
	SQL
	boundary_script append_tagged "stream, bench.decided_metadata(tag) AS tagged" <<-'SQL'
	SELECT es_append(:stream, 'Deposited', :data, :tagged);
	SQL
	boundary_script append_plain "stream" <<-'SQL'
	SELECT es_append(:stream, 'Deposited', :data, :metadata);
	SQL
	new_tag_script append_if_new append_if <<-'SQL'
	SELECT es_append_if(replace(:events, :tag, :new)::jsonb, 0, tags => ARRAY[:new]);
	SQL
	new_tag_script append_tagged_new append_tagged <<-'SQL'
	SELECT es_append(:stream, 'Deposited', :data, replace(:tagged, :tag, :new)::jsonb);
	SQL
}

# hand_decide_scripts: peers/decide.sql, by each of its functions
hand_decide_scripts() {
	local function
	for function in tagged.append_if tagged.append_if_locked gin.append_if; do
		boundary_script "$function" "ARRAY[tag]::text AS tags, bench.decided_metadata(tag) AS tagged" <<-SQL
		SELECT $function('Deposited', :data, :tagged, :tags, :after, :tag) AS after \\gset
		SQL
	done
}

# dcb_scripts: what the client of dcb-es sends: a lock for type and tag, shared ones
# for the type and for all, and the condition
dcb_scripts() {
	boundary_script dcb "hashtextextended(tag, 0) AS leaf, jsonb_build_object('data', :data::jsonb, 'metadata', :metadata::jsonb)::text AS payload" <<-'SQL'
	SELECT events_append(ARRAY[:leaf]::bigint[], ARRAY[1, 2]::bigint[], ARRAY['Deposited'], ARRAY[:tag], ARRAY[:payload],
		ARRAY[0], ARRAY['Deposited'], ARRAY[:tag], ARRAY[:after]::bigint[]) AS after \gset
	SQL
}

# --- sides

# serializable_rate TARGET SCRIPT: pgbench tries again what could not be serialized
serializable_rate() {
	isolation=serializable pgbench_run "$1" 1 "$2" -T "$seconds" --max-tries=0 || return 1
	measured=$tps
}

# in_database NAME COMMAND...: in another than the workload's
in_database() {
	local database=$1
	shift
	"$@"
}

# program_rate TARGET MODE: by peers/decide.c; leaves its figures in "figures"
program_rate() {
	local out
	run_number=$((run_number + 1))
	out=$(BENCH_DATA=$data BENCH_METADATA=$metadata PGOPTIONS="-c synchronous_commit=$sync" \
		"$work/decide" "dbname=$database" "$2" "$clients" "$seconds" "$2-$run_number") || return 1
	read -r -a figures <<<"$out"
	measured=${figures[0]}
	acked[$1]=$((acked[$1] + figures[1]))
}

# node_decide STORE MODE CLIENTS SECONDS
node_decide() {
	BENCH_DATA=$data BENCH_METADATA=$metadata PGOPTIONS="-c synchronous_commit=$sync" \
		node "$bench/peers/decide.mjs" "$1" "$database" "$2" "$3" "$4" "node-$run_number" 2>"$work/decide.log"
}

# node_rate TARGET STORE MODE
node_rate() {
	local out
	run_number=$((run_number + 1))
	out=$(node_decide "$2" "$3" "$clients" "$seconds") || { grep -m 2 -i error "$work/decide.log" >&2; return 1; }
	measured=$(printf '%.1f' "${out% *}")
	acked[$1]=$((acked[$1] + ${out#* }))
}

# procedure_rate TARGET: decisions by plpgsql, without a client between
procedure_rate() {
	local out
	run_number=$((run_number + 1))
	out=$(PGOPTIONS="-c synchronous_commit=$sync" sql -F ' ' -c "CALL bench.decisions('call-$run_number', $seconds)") || return 1
	measured=$(printf '%.1f' "${out#* }")
	acked[$1]=$((acked[$1] + ${out% *}))
}

# hot_rate TARGET MODE CLIENTS: successful appends a second in one boundary
hot_rate() {
	local clients=$3
	program_rate "$1" "$2" || return 1
	hot_notes["$2 $3"]="$(plural "$3" client), synchronous_commit $sync: ${figures[2]} of $((figures[1] + figures[2])) attempts met another's append;\
 fewest successes of a client ${figures[3]}, most attempts for one ${figures[4]}"
	# by hand there is a client that starves, now and then; the note tells
	[ "${figures[3]}" -gt 0 ] || [ "$2" = hand ] || fail "$case_name: a client had no success"
}

# hand_setup_decide: the tables of peers/decide.sql
hand_setup_decide() {
	sql -f "$bench/peers/decide.sql" -c "CALL tagged.prime($streams)"
	acked[tagged]=$streams acked[gin]=$streams
}

check_hand_decide() {
	expect "rows by hand, btree" "${acked[tagged]} ${acked[tagged]}" \
		"$(sql -F ' ' -c 'SELECT (SELECT count(*) FROM tagged.events), (SELECT count(*) FROM tagged.tags)')"
	expect "rows by hand, GIN" "${acked[gin]}" "$(sql -c 'SELECT count(*) FROM gin.events')"
}

# --- peers from npm

dcb_setup() {
	peer_database bench_dcb
	in_database bench_dcb node_decide dcb-es setup 1 0 || { tail -n 3 "$work/decide.log" | grep -m 1 . ; return 1; }
	in_database bench_dcb sql -c "INSERT INTO events (type, tags, payload)
		SELECT 'Opened', ARRAY['account-' || i], '{\"data\": $data, \"metadata\": $metadata}' FROM generate_series(1, $streams) i" -c ANALYZE
}

ricofritzsche_setup() {
	peer_database bench_ricofritzsche
	in_database bench_ricofritzsche node_decide ricofritzsche setup 1 0 || { tail -n 3 "$work/decide.log" | grep -m 1 . ; return 1; }
	in_database bench_ricofritzsche sql -c "INSERT INTO events (event_type, payload)
		SELECT 'Opened', ('{\"data\": $data, \"metadata\": $metadata, \"tags\": [\"account-' || i || '\"]}')::jsonb FROM generate_series(1, $streams) i" -c ANALYZE
}

# decide_peers_setup: sets have_node, have_dcb and have_ricofritzsche
decide_peers_setup() {
	local reason name
	have_node='' have_dcb='' have_ricofritzsche=''
	if ! reason=$(install_peers); then
		note "clients in Node.js left out: $reason"
		return
	fi
	have_node=1
	note "Node.js $(node --version), pg $(package_version pg)"
	for name in dcb ricofritzsche; do
		if reason=$(try_setup ${name}_setup); then
			declare -g "have_$name=1"
			acked["$name"]=$streams
		else
			note "$name left out: $reason"
		fi
	done
	[ -z "$have_dcb" ] || note "dcb-es: @dcb-es/event-store-postgres $(package_version @dcb-es/event-store-postgres)"
	[ -z "$have_ricofritzsche" ] || note "ricofritzsche: @ricofritzsche/eventstore $(package_version @ricofritzsche/eventstore)"
}

# decide_peers_end: checks them and drops their databases
decide_peers_end() {
	local name have
	for name in dcb ricofritzsche; do
		have=have_$name
		[ -n "${!have}" ] || continue
		expect "rows of $name" "${acked[$name]}" "$(in_database bench_$name sql -c 'SELECT count(*) FROM events')"
		peer_database bench_$name drop
	done
}

# --- filled logs

# fill_tagged EVENTS: by as many sessions as there are cores; notes what the tags take
fill_tagged() {
	local parts part started=$SECONDS tags pids=()
	parts=$(nproc)
	for ((part = 0; part < parts; part++)); do
		PGOPTIONS="-c synchronous_commit=off" sql -c "CALL bench.fill_tagged($1, $part, $parts)" &
		pids+=($!)
	done
	for part in "${pids[@]}"; do
		wait "$part" || return 1
	done
	acked[eventstore]=$((acked[eventstore] + $1 / 1000 * 1000))
	sql -c 'VACUUM (FREEZE, ANALYZE) eventstore.events' -c 'VACUUM (FREEZE, ANALYZE) eventstore.streams'
	tags=$(($1 / 1000 * 1000 * 2 + 10))
	note "$1 events filled in with $tags tags, $((SECONDS - started)) s; indexes by tag $(sql -c "
		SELECT pg_size_pretty(bytes) || ', ' || round(bytes / $tags, 1) FROM (SELECT sum(pg_relation_size(c.oid)) AS bytes
			FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'eventstore_tags' AND c.relkind = 'i') i") bytes a tag"
}
