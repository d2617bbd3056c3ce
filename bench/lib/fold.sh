# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# fold.sh: accounts for the workloads that fold, in the store and in the bare
# table bench.accounts; lib/fold.sql has the reducers.

# the number of keys that makes a state of 1 KB, and of 20 KB
declare -A keys_of=(["1 KB"]=16 ["20 KB"]=440)

# make_accounts ALIVE TOGETHER KIND...: in a fresh database; a kind is
# "CATEGORY STREAMS LENGTH KEYS"
make_accounts() {
	local alive=$1 together=$2 kind
	shift 2
	fresh_database
	sql -f "$bench/lib/fold.sql" >/dev/null
	for kind; do
		sql -c "INSERT INTO bench.kinds VALUES ('${kind// /\', \'}')"
	done
	sql -c "SET synchronous_commit = off" -c "CALL bench.make_accounts($alive, $together)"
	acked[eventstore]=$((acked[eventstore] + $(sql -c "SELECT sum(streams * length) FROM bench.kinds")))
	bare_table accounts two
	sql -c "INSERT INTO bench.accounts SELECT * FROM eventstore.events WHERE type <> 'Primed' ORDER BY position"
	acked[accounts]=$((acked[eventstore] - 1))
	sql -c "VACUUM (FREEZE, ANALYZE) eventstore.events" -c "VACUUM (FREEZE, ANALYZE) eventstore.streams" \
		-c "VACUUM (FREEZE, ANALYZE) bench.accounts"
}

# streams_of_length LENGTH EVENTS: how many make up about so many events
streams_of_length() { echo $(($2 > $1 ? $2 / $1 : 1)); }

# first_id CATEGORY: of its stream 1
first_id() { sql -c "SELECT stream_id FROM eventstore.streams WHERE name = '$1-1'"; }

# account_script NAME CATEGORY: a stream of the category, chosen at random; its
# ids follow each other
account_script() {
	script "$1" <<-SQL
	\\set s random(1, $(sql -c "SELECT streams FROM bench.kinds WHERE category = '$2'"))
	\\set id :s + $(first_id "$2") - 1
	$(cat)
	SQL
}

# digest QUERY: of the text of all its rows, in order
digest() { sql -c "SELECT md5(string_agg(q::text, '' ORDER BY q::text)) FROM ($1) q"; }
