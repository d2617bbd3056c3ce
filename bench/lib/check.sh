# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# check.sh: that what was measured is right: everything acknowledged is there,
# and versions have no gap.

# expect WHAT EXPECTED ACTUAL
expect() {
	if [ "$2" = "$3" ]; then
		echo "  check: $1: $3"
	else
		fail "$1: expected $2, found $3"
	fi
}

# expect_same WHAT DIGEST DIGEST: equal, and of something
expect_same() {
	if [ -n "$2" ] && [ "$2" = "$3" ]; then
		echo "  check: $1: the same"
	else
		fail "$1: not the same"
	fi
}

# check_store: rows, versions from 1 without gap, positions given out once and
# settled to the last
check_store() {
	expect "events in the store" "${acked[eventstore]}" "$(sql -c 'SELECT count(*) FROM eventstore.events')"
	expect "streams with a gap" 0 "$(count_gaps eventstore.events)"
	expect "settled up to the last position" t \
		"$(sql -c 'SELECT es_settled_position() = last_value FROM eventstore.position_seq')"
}

# count_gaps TABLE: streams whose versions are not 1 to n, each once
count_gaps() {
	sql -c "SELECT count(*) FROM (SELECT FROM $1 GROUP BY stream_id
		HAVING min(version) <> 1 OR max(version) <> count(DISTINCT version) OR count(*) <> count(DISTINCT version)) s"
}

# check_bare NAME [gapfree]
check_bare() {
	expect "rows of $1" "${acked[$1]:-0}" "$(sql -c "SELECT count(*) FROM bench.$1")"
	if [ "${2:-}" = gapfree ]; then
		expect "streams with a gap of $1" 0 "$(count_gaps "bench.$1")"
	fi
}

# bytes_of SCHEMA: of all its tables with their indexes
bytes_of() {
	sql -c "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = '$1'::regnamespace AND relkind IN ('r', 'S')"
}
