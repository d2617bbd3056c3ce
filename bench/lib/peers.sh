# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# peers.sh: other ways to append, each in a schema or database of its own on
# the same server; servers.sh has the peers outside of it. A peer that cannot be
# had here is left out, with a note.

# install_peers: the npm packages, once
install_peers() {
	local name complete=1
	while IFS= read -r name; do
		[ -d "$bench/peers/node_modules/$name" ] || complete=''
	done < <(sed -n '/"dependencies"/,$s/^\t*"\(.*\)": ".*/\1/p' "$bench/peers/package.json")
	if [ -z "$complete" ]; then
		if ! command -v npm >/dev/null; then
			echo "npm is not installed (apt-get install nodejs npm, or tools/setup bench)"
			return 1
		fi
		npm install --silent --no-package-lock --no-audit --no-fund --prefix "$bench/peers" >"$work/npm.log" 2>&1 || {
			echo "npm install --prefix bench/peers failed: $(tail -n 1 "$work/npm.log")"
			return 1
		}
	fi
}

package_version() { sed -n 's/^ *"version": *"\(.*\)".*/\1/p' "$bench/peers/node_modules/$1/package.json" | head -n 1; }

hand_setup() {
	sql -f "$bench/peers/hand.sql"
	sql -c "SELECT count(hand.append('account-' || s, 'Opened', bench.data(s), bench.metadata(s)))
		FROM generate_series(1, $streams) s" >/dev/null
	acked[hand]=$streams
}

check_hand() {
	expect "rows of the plpgsql append" "${acked[hand]}" "$(sql -c 'SELECT count(*) FROM hand.events')"
}

# peer_database NAME: no peer shares a database with the store
peer_database() {
	"$bin/psql" -X -q -d postgres -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)"
	[ "${2:-}" = drop ] || "$bin/psql" -X -q -d postgres -c "CREATE DATABASE $1"
}

messagedb_setup() {
	local package=$bench/peers/node_modules/@eventide/message-db
	peer_database bench_messagedb drop
	PATH="$bin:$PATH" DATABASE_NAME=bench_messagedb bash "$package/database/install.sh" >"$work/messagedb.log" 2>&1 || {
		tail -n 1 "$work/messagedb.log"
		return 1
	}
	database=bench_messagedb sql -c "SET search_path = message_store, public" -c "
		SELECT count(write_message(gen_random_uuid()::text, 'account-' || s, 'Opened', '$data', '$metadata'))
		FROM generate_series(1, $streams) s" -c "
		SELECT count(write_message(gen_random_uuid()::text, 'account' || s % 16 || '-' || s, 'Opened', '$data', '$metadata'))
		FROM generate_series(1, $streams) s" >/dev/null
}

# messagedb_rate SCRIPT
messagedb_rate() { database=bench_messagedb search_path=message_store,public pgbench_rate messagedb 1 "$1"; }

check_messagedb() {
	expect "rows of message-db" "${acked[messagedb]}" \
		"$(database=bench_messagedb sql -c 'SELECT count(*) FROM message_store.messages')"
}

emmett_setup() {
	local node
	node=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
	if [ "$node" -lt 20 ]; then
		echo "emmett needs Node.js 20 or later"
		return 1
	fi
	peer_database bench_emmett
	emmett 0 1 >"$work/emmett.log" 2>&1 || {
		grep -m 1 . "$work/emmett.log"
		return 1
	}
}

# emmett SECONDS BATCH
emmett() {
	BENCH_DATA=$data BENCH_METADATA=$metadata PGOPTIONS="-c synchronous_commit=$sync" \
		node "$bench/peers/emmett.mjs" bench_emmett "$clients" "$1" "$streams" "$2" $((seed * 1000 + round))
}

# emmett_rate BATCH: through its own client
emmett_rate() {
	local out
	out=$(emmett "$seconds" "$1" 2>"$work/emmett.log") || { tail -n 3 "$work/emmett.log" >&2; return 1; }
	measured=$(printf '%.1f' "${out% *}")
	acked[emmett]=$((acked[emmett] + ${out#* }))
}

# emmett_function_rate EVENTS SCRIPT: its SQL function alone
emmett_function_rate() { database=bench_emmett pgbench_rate emmett "$1" "$2"; }

check_emmett() {
	expect "rows of emmett" "${acked[emmett]}" \
		"$(database=bench_emmett sql -c 'SELECT count(*) FROM emt_messages')"
}

# npm_peers_setup: message-db and emmett, where they can be had: sets
# have_messagedb and have_emmett
npm_peers_setup() {
	local reason
	have_messagedb='' have_emmett=''
	if ! reason=$(install_peers); then
		note "message-db and emmett left out: $reason"
		return
	fi
	if reason=$(try_setup messagedb_setup); then
		have_messagedb=1
		acked[messagedb]=$((streams * 2))
		note "message-db $(package_version @eventide/message-db)"
	else
		note "message-db left out: $reason"
	fi
	if reason=$(try_setup emmett_setup); then
		have_emmett=1
		acked[emmett]=$streams
		note "emmett $(package_version @event-driven-io/emmett-postgresql), Node.js $(node --version)"
	else
		note "emmett left out: $reason"
	fi
}

# try_setup COMMAND: what it printed last is the reason if it fails
try_setup() {
	local out
	out=$("$1" 2>&1) || { tail -n 1 <<<"$out"; return 1; }
}

# npm_peers_end: checks them and drops their databases
npm_peers_end() {
	if [ -n "$have_messagedb" ]; then check_messagedb; peer_database bench_messagedb drop; fi
	if [ -n "$have_emmett" ]; then check_emmett; peer_database bench_emmett drop; fi
}

# peer_scripts CHOICE: pgbench scripts of all peers; CHOICE sets s
peer_scripts() {
	script hand <<-SQL
	$1
	SELECT hand.append('account-' || :s, 'Deposited', :data, :metadata);
	SQL
	script messagedb <<-SQL
	$1
	SELECT write_message(gen_random_uuid()::text, 'account-' || :s, 'Deposited', :data, :metadata);
	SQL
	script messagedb16 <<-SQL
	$1
	\\set k :s % 16
	SELECT write_message(gen_random_uuid()::text, 'account' || :k || '-' || :s, 'Deposited', :data, :metadata);
	SQL
	# chr(58) is a colon, which pgbench would take for a variable
	script emmett <<-SQL
	$1
	SELECT * FROM emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY[:data]::jsonb[], ARRAY[:metadata]::jsonb[],
		ARRAY['1'], ARRAY['Deposited'], ARRAY['E'], 'account-' || :s, 'account', NULL, 'emt' || chr(58) || 'default');
	SQL
}
