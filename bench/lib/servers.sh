# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# servers.sh: peers that are servers of their own, Redis and NATS. Each case gets
# new ones, in work/redis and work/nats, with one event in each stream.

nats_program=${NATS_SERVER:-$(PATH=$PATH:/usr/sbin command -v nats-server || true)}
nats_port='' redis_requests=''
declare -A cores		# "load generator + server" by peer, clients and sync

# servers_setup: sets have_redis and have_nats
servers_setup() {
	local reason
	have_redis='' have_nats='' have_nats_client='' nats_durably=''
	if reason=$(try_setup redis_setup); then
		have_redis=1
		note "$(redis-server --version | sed 's/^Redis server v=\([^ ]*\).*/Redis \1/'), driven by its redis-benchmark"
	else
		note "Redis left out: $reason"
	fi
	if reason=$(try_setup nats_setup); then
		have_nats=1
		nats_choose_durably
		note "$("$nats_program" --version | sed 's/^nats-server: v/nats-server /'), Node.js $(node --version)"
		[ -n "$nats_durably" ] || note "NATS left out beside synchronous_commit on: before 2.10 it cannot be told to write to disk first, and files have no attribute S here"
		if reason=$(install_peers); then
			have_nats_client=1
			note "NATS client $(package_version @nats-io/jetstream)"
		else
			note "NATS client left out: $reason"
		fi
	else
		note "NATS left out: $reason"
	fi
}

# start_servers SYNC NAME...: for one case, those that can be had
start_servers() {
	local sync_=$1
	shift
	if [[ " $* " = *" redis "* ]] && [ -n "$have_redis" ]; then
		redis_start "$sync_" || { fail "Redis does not start: $(tail -n 1 "$work/redis/log")"; have_redis=''; }
	fi
	if [[ " $* " = *" nats "* ]] && nats_can "$sync_"; then
		nats_start "$sync_" || { fail "NATS does not start: $(tail -n 1 "$work/nats/log")"; have_nats=''; }
	fi
}

# stop_servers: once it is checked that they have what they acknowledged
stop_servers() {
	if [ -n "$have_redis" ] && [ -f "$work/redis/daemon.pid" ]; then
		expect "events and streams in Redis" "${acked[redis]} $streams" "$(redis_count)"
	fi
	if [ -n "$have_nats" ] && [ -f "$work/nats/daemon.pid" ]; then
		expect "events and subjects in NATS" "${acked[nats]} $streams" "$(nats_run count 1 0)"
	fi
	stop_daemons
	rm -rf "$work/redis" "$work/nats"
}

# server_folder NAME: the empty folder of a server
server_folder() {
	rm -rf "${work:?}/$1"
	as_server mkdir "$work/$1"
}

# calm_server NAME: what it wrote is on disk before the next side's turn
calm_server() { find "$work/$1" -type f -exec sync {} + 2>/dev/null || true; }

# server_ticks NAME: processor time used so far, in hundredths of a second
server_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$(cat "$work/$1/daemon.pid")/stat"; }

# note_cores PEER CLIENT TICKS SECONDS
note_cores() { cores["$1, $clients, $sync"]=$(awk "BEGIN { printf \"%.2f + %.2f\", $2, $3 / 100 / $4 }"); }

# report_cores: whether it was the load generator that set the limit
report_cores() {
	local peer mode count list
	for peer in "Redis" "NATS" "NATS, its client" "NATS, expected version"; do
		list=''
		for mode in off on; do
			for count in $(tr " " "\n" <<<"$client_counts 8" | sort -nu); do
				[ -z "${cores["$peer, $count, $mode"]:-}" ] ||
					list+="; $mode, $(plural "$count" client) ${cores["$peer, $count, $mode"]}"
			done
		done
		[ -z "$list" ] || note "cores of $(nproc) used by load generator + server, last round, $peer: ${list#; }"
	done
}

# --- Redis

redis() { redis-cli -s "$work/redis/socket" "$@"; }

redis_setup() {
	if ! command -v redis-server >/dev/null || ! command -v redis-benchmark >/dev/null; then
		echo "redis-server is not installed (apt-get install redis-server, or tools/setup bench)"
		return 1
	fi
}

# redis_how SYNC: its appendfsync
redis_how() { if [ "$1" = on ]; then echo always; else echo everysec; fi; }

# redis_start SYNC: no snapshot and no rewriting of its log falls into a
# measurement, as no checkpoint does
redis_start() {
	server_folder redis
	redis_requests=''
	as_server tee "$work/redis/redis.conf" >/dev/null <<-END
	port 0
	unixsocket $work/redis/socket
	dir $work/redis
	save ""
	appendonly yes
	appendfsync $(redis_how "$1")
	auto-aof-rewrite-percentage 0
	END
	start_daemon "$work/redis" redis-server redis.conf
	within 10 quietly redis ping || return 1
	# the keys are those that redis-benchmark makes of a random number
	awk -v n="$streams" -v d="$data" -v m="$metadata" "BEGIN { for (i = 0; i < n; i++)
		printf \"XADD account-%012d * type Opened data '%s' metadata '%s'\\n\", i, d, m }" | redis --pipe >/dev/null || return 1
	acked[redis]=$streams
}

# redis_benchmark REQUESTS: prints requests a second; on stderr what it cost
redis_benchmark() {
	local TIMEFORMAT='%U %S'
	time redis-benchmark -s "$work/redis/socket" -c "$clients" -n "$1" -r "$streams" --csv \
		XADD account-__rand_int__ '*' type Deposited data "$data" metadata "$metadata" 2>>"$work/redis.log" |
		awk -F'","' 'END { print $(NF - 6) }'
}

# redis_requests_at RATE SECONDS
redis_requests_at() { redis_requests=$(awk "BEGIN { printf \"%d\", $1 * $2 + $clients }"); }

# redis_some: redis_requests of them; sets rate
redis_some() {
	rate=$(redis_benchmark "$redis_requests" 2>"$work/redis.times") || return 1
	acked[redis]=$((acked[redis] + redis_requests))
}

# redis_rate: it takes a number of requests, not of seconds: as many as the last
# round would have managed, and two short runs tell before the first
redis_rate() {
	local rate ticks
	if [ -z "$redis_requests" ]; then
		redis_requests=$((clients * 50))
		redis_some && redis_requests_at "$rate" "$seconds / 10" && redis_some || return 1
		redis_requests_at "$rate" "$seconds"
	fi
	ticks=$(server_ticks redis)
	redis_some || return 1
	measured=$(printf '%.1f' "$rate")
	note_cores Redis "$(awk "{ print (\$1 + \$2) * $rate / $redis_requests }" "$work/redis.times")" \
		"$(($(server_ticks redis) - ticks))" "$(awk "BEGIN { print $redis_requests / $rate }")"
	redis_requests_at "$rate" "$seconds"
	calm_server redis
}

redis_count() {
	redis EVAL 'local n, keys = 0, redis.call("KEYS", "account-*")
		for _, key in ipairs(keys) do n = n + redis.call("XLEN", key) end
		return n .. " " .. #keys' 0
}

# --- NATS

nats_setup() {
	local node
	if [ -z "$nats_program" ]; then
		echo "nats-server is not installed (apt-get install nats-server, or tools/setup bench)"
		return 1
	fi
	if ! as_server "$nats_program" --version >/dev/null 2>&1; then
		echo "$nats_program cannot be run"
		return 1
	fi
	node=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
	if [ "$node" -lt 18 ]; then
		echo "its load generator needs Node.js 18 or later (apt-get install nodejs, or tools/setup bench)"
		return 1
	fi
}

# nats_choose_durably: how it writes to disk before it acknowledges. Before 2.10
# it has no setting for that, but files can have an attribute with the same effect.
nats_choose_durably() {
	local probe=$work/nats-probe
	server_folder nats-probe
	nats_conf "$probe" "sync_interval: always" | as_server tee "$probe/nats.conf" >/dev/null
	if as_server "$nats_program" -t -c "$probe/nats.conf" >/dev/null 2>&1; then
		nats_durably="sync_interval: always"
	elif as_server chattr +S "$probe" 2>/dev/null; then
		nats_durably="chattr +S"
	fi
	rm -rf "$probe"
}

# nats_can SYNC
nats_can() { [ -n "$have_nats" ] && { [ "$1" = off ] || [ -n "$nats_durably" ]; }; }

# nats_how SYNC: for the names of sides
nats_how() { if [ "$1" = on ]; then echo "$nats_durably"; else echo "default sync"; fi; }

# nats_conf FOLDER SETTING: it chooses a port, and says it in a file
nats_conf() {
	cat <<-END
	listen: "127.0.0.1:-1"
	ports_file_dir: "$1"
	jetstream {
		store_dir: "$1/store"
		$2
	}
	END
}

# nats_start SYNC
nats_start() {
	local folder=$work/nats how=''
	server_folder nats
	[ "$1" = off ] || how=$nats_durably
	if [ "$how" = "chattr +S" ]; then
		as_server mkdir "$folder/store"
		as_server chattr +S "$folder/store"
		how=''
	fi
	nats_conf "$folder" "$how" | as_server tee "$folder/nats.conf" >/dev/null
	start_daemon "$folder" "$nats_program" -c nats.conf
	within 10 nats_find_port && nats_run setup 8 0 || return 1
	acked[nats]=$streams
}

nats_find_port() {
	nats_port=$(sed -n 's/.*"nats": *\["nats:[^"]*:\([0-9]*\)".*/\1/p' "$work"/nats/*.ports 2>/dev/null)
	[ -n "$nats_port" ]
}

# nats_run MODE CLIENTS SECONDS
nats_run() {
	BENCH_DATA=$data BENCH_METADATA=$metadata \
		node "$bench/peers/nats.mjs" "$nats_port" "$1" "$2" "$3" "$streams" $((seed * 1000 + round))
}

# nats_rate MODE PEER
nats_rate() {
	local out ticks rate n used
	ticks=$(server_ticks nats)
	out=$(nats_run "$1" "$clients" "$seconds" 2>"$work/nats.log") || { tail -n 3 "$work/nats.log" >&2; return 1; }
	read -r rate n used <<<"$out"
	acked[nats]=$((acked[nats] + n))
	measured=$(printf '%.1f' "$rate")
	note_cores "$2" "$used" "$(($(server_ticks nats) - ticks))" "$(awk "BEGIN { print $n / $rate }")"
	calm_server nats
}
