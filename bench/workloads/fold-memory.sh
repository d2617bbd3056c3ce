# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Memory of its own that a backend takes at most: es_replay_category over streams of one event, against GROUP BY.
#
# The high-water mark of the backend's resident memory without the shared part,
# from /proc, at the end of a second run in the same session. Workers are looked
# at while they run, each 20 ms or so; theirs is added to the backend's.

make_accounts 1000 1 "orders $events 1 4"

script ops0 <<'SQL'
SET max_parallel_workers_per_gather = 0;
SELECT count(state) FROM es_replay_category('orders', 'bench_ops');
SQL
sed 's/gather = 0/gather = 1/' "$work/ops0.sql" | script ops1
script sorted <<'SQL'
SET max_parallel_workers_per_gather = 0;
SELECT count(state) FROM (SELECT stream, bench.concat(data ORDER BY version) AS state FROM bench.accounts GROUP BY stream) s;
SQL
script scan <<'SQL'
SET max_parallel_workers_per_gather = 0;
SELECT count(data) FROM bench.accounts;
SQL

# own_kilobytes FIELD [FILE]: of a process's status, without what is shared or mapped
own_kilobytes() {
	awk -v field="$1:" '{ kb[$1] = $2 } END { print kb[field] - (field == "VmHWM:" ? kb["RssShmem:"] + kb["RssFile:"] : 0) }' "$2" 2>/dev/null
}

# watch_workers FILE: keeps in it the most that the workers had together
watch_workers() {
	local most=0 now kb pid
	while sleep 0.02; do
		now=0
		while read -r pid; do
			kb=$(own_kilobytes RssAnon "/proc/$pid/status" || true)
			now=$((now + ${kb:-0}))
		done < <(sql -c "SELECT pid FROM pg_stat_activity WHERE leader_pid <> pid")
		[ "$now" -le "$most" ] || { most=$now; echo "$most" >"$1"; }
	done
}

# memory_of SCRIPT
memory_of() {
	local own watcher=''
	echo 0 >"$work/workers.kb"
	if [ "$1" = ops1 ]; then
		watch_workers "$work/workers.kb" 2>/dev/null &
		watcher=$!
	fi
	{
		cat "$work/$1.sql" "$work/$1.sql"
		echo 'SELECT pg_backend_pid() AS pid \gset'
		echo '\setenv BACKEND_PID :pid'
		echo "\\! cat /proc/\$BACKEND_PID/status >$work/status"
	} | sql -f - >"$work/counts" || return 1
	[ "$(sort -u "$work/counts")" = "$events" ] || { fail "$1 did not see $events states"; return 1; }
	[ -z "$watcher" ] || { kill "$watcher"; wait "$watcher" 2>/dev/null || true; }
	own=$(own_kilobytes VmHWM "$work/status")
	measured=$(awk "BEGIN { printf \"%.1f\", ($own + $(cat "$work/workers.kb")) / 1024 }")
}

begin_case "$events streams of 1" MB
side "es_replay_category, ops, no worker" memory_of ops0
side "es_replay_category, ops, 1 worker, with the worker's" memory_of ops1
side "GROUP BY, ORDER BY in the aggregate" memory_of sorted
side "the scan alone" memory_of scan
measure_case

check_store
check_bare accounts gapfree
