# shellcheck shell=bash disable=SC2154
#
# background.sh: sessions beside what is measured, and waiting for what comes about.

# within SECONDS COMMAND...: tries a command until it succeeds
within() {
	local tries=$(($1 * 10))
	shift
	for ((; tries > 0; tries--)); do
		if "$@"; then return; fi
		sleep 0.1
	done
	return 1
}

quietly() { "$@" >/dev/null 2>&1; }

is_true() { [ "$(sql -c "$1")" = t ]; }

# comes_true QUERY: within two minutes
comes_true() { within 120 is_true "$1"; }

background_sessions="FROM pg_stat_activity WHERE application_name = 'bench_background'"

# background SCRIPT CLIENTS OPTION...: runs a script until end_background
background() {
	local name=$1 count=$2
	shift 2
	PGAPPNAME=bench_background "$bin/pgbench" -n -f "$work/$name.sql" -c "$count" -j 1 -T 3600 "$@" "$database" \
		>"$work/background.log" 2>&1 &
	background_pid=$!
}

# background_waits CLIENTS: until each has begun its statement and is not on a processor
background_waits() {
	comes_true "SELECT count(*) = $1 $background_sessions AND state = 'active' AND wait_event_type IN ('Extension', 'Timeout')" ||
		{ fail "$1 sessions do not wait: $(tail -n 1 "$work/background.log")"; return 1; }
}

end_background() {
	if ! kill -0 "$background_pid" 2>/dev/null || grep -q error "$work/background.log"; then
		fail "sessions in the background failed: $(grep -m 1 error "$work/background.log" || true)"
	fi
	kill "$background_pid" 2>/dev/null || true
	wait "$background_pid" 2>/dev/null || true
	sql -c "SELECT count(pg_terminate_backend(pid)) $background_sessions" >/dev/null
	comes_true "SELECT count(*) = 0 $background_sessions" || fail "sessions in the background do not end"
}
