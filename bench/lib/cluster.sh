# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# cluster.sh: the private server, its settings, the database of a workload, and
# the bare tables beside the store.

database=bench
export PGAPPNAME=bench PGOPTIONS="-c client_min_messages=warning"

# sql [psql option...]: runs statements in the workload's database
sql() { "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$database" "$@"; }

# start_cluster: a quarter of the memory as shared buffers, at most 2 GB; no
# checkpoint and no autovacuum falls into a measurement by chance.
start_cluster() {
	local memory buffers
	[ -x "$("$PG_CONFIG" --bindir)/pgbench" ] || die "pgbench is missing: install postgresql-contrib"
	memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
	buffers=$((memory / 4 < 2048 ? memory / 4 : 2048))
	open_workshop bench
	create_server \
		"shared_preload_libraries = '$([ "$preload" = off ] || echo eventstore)'" \
		"shared_buffers = ${buffers}MB" \
		"max_connections = 1100" \
		"wal_level = replica" \
		"max_wal_size = 64GB" \
		"checkpoint_timeout = 1d" \
		"autovacuum = off" \
		"jit = off" \
		"eventstore.master_key_command = 'printf %064d 1'" \
		"${extra_settings[@]}"
	start_server
}

# print_settings: what the server runs with, other than defaults
print_settings() {
	"$bin/psql" -X -A -t -F ' = ' -d postgres -c "
		SELECT name, current_setting(name) FROM pg_settings
		WHERE source = 'configuration file' AND name !~ '^(lc_|unix_|port|log_|default_text|DateStyle|TimeZone|listen)'
		ORDER BY name"
}

describe_machine() {
	local cpu memory
	cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
	memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo)
	echo "$(nproc) cores (${cpu:-unknown}), $memory memory, Linux $(uname -r)"
}

describe_versions() {
	echo "$("$bin/postgres" --version | sed 's/^postgres (PostgreSQL)/PostgreSQL/'), eventstore $(describe_extension)"
}

# describe_extension: its version, and the commit that its sources are of
describe_extension() {
	local version commit
	version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$top/eventstore.control")
	commit=$(git -C "$top" log -1 --format=%h -- src 2>/dev/null || true)
	[ -z "$(git -C "$top" status --porcelain -- src 2>/dev/null)" ] || commit="$commit and changes"
	echo "$version${commit:+ (sources of $commit)}"
}

print_machine() {
	echo "Machine:  $(describe_machine); load $(cut -d' ' -f1 /proc/loadavg)"
	echo "Versions: $(describe_versions)"
	echo "Settings:"
	print_settings | sed 's/^/  /'
}

# fresh_database [SIZE]: an empty store in a new database, with segments of SIZE
# positions, and what bench/lib/data.sql makes. The first append makes the first
# segment, which the bare tables copy.
fresh_database() {
	"$bin/psql" -X -q -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" \
		-c "CREATE DATABASE $database"
	sql -c 'CREATE EXTENSION eventstore' -v seed="$seed" -f "$bench/lib/data.sql" >/dev/null
	[ -z "${1:-}" ] || sql -c "SELECT es_set_segment_size($1)" >/dev/null
	sql -c "SELECT es_append('prime-1', 'Primed')" >/dev/null
	data=$(sql -c 'SELECT bench.data(1)')
	metadata=$(sql -c 'SELECT bench.metadata(1)')
	acked=([eventstore]=1)
	run_number=0
}

# bare_table NAME two|segment: a table with the log's columns and two unique
# indexes, or all of a segment's
bare_table() { sql -c "CALL bench.make_bare('$1', '$2' = 'segment')"; }

# prime_streams TABLE...: one event in each of the streams, so that no
# measurement creates one
prime_streams() {
	local name
	sql -c "SELECT count(es_append('account-' || s, 'Opened', bench.data(s), bench.metadata(s)))
		FROM generate_series(1, $streams) s" >/dev/null
	acked[eventstore]=$((acked[eventstore] + streams))
	for name in "$@"; do
		sql -c "INSERT INTO bench.$name (stream_id, version, stream, type, data, metadata)
			SELECT s, 1, 'account-' || s, 'Opened', bench.data(s), bench.metadata(s)
			FROM generate_series(1, $streams) s"
		acked["$name"]=$streams
	done
}

# set_parameter NAME VALUE
set_parameter() { sql -d postgres -c "ALTER SYSTEM SET $1 = '$2'" -c 'SELECT pg_reload_conf()' >/dev/null; }
reset_parameter() { sql -d postgres -c "ALTER SYSTEM RESET $1" -c 'SELECT pg_reload_conf()' >/dev/null; }

# warm_wal: files for more WAL than a run writes, which checkpoints then recycle, as on a
# server that has run for a while: making new ones holds up every commit
warm_wal() {
	set_parameter min_wal_size 24GB
	sql -d postgres -c "SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1000000))) FROM generate_series(1, $events / 500)" \
		-c CHECKPOINT >/dev/null
}

# calm: everything written so far is on disk, and the next measurement finds no
# work of the last one. A transaction that writes no WAL would not flush.
calm() { sql -c 'SET synchronous_commit = on' -c "SELECT pg_logical_emit_message(true, 'bench', '')" >/dev/null; }
