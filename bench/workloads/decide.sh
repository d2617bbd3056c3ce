# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Decisions by tags: es_append_if, the course subscriptions, a read by two tags, a hot boundary, a long log beside a short one.
#
# DECIDE_PARTS chooses among append, courses, hot, tags and long (all);
# DECIDE_EVENTS is the length of the long log (--events), DECIDE_SHORT that of the
# short one (10000).

decide_parts=" ${DECIDE_PARTS:-append courses hot tags long} "
long_events=$((${DECIDE_EVENTS:-$events} / 1000 * 1000))
short_events=$((${DECIDE_SHORT:-10000} / 1000 * 1000))
declare -A hot_notes
build_decide || { fail "peers/decide.c does not compile"; decide_parts=''; }

# wants PART...: whether one of them is chosen
wants() {
	local part
	for part in "$@"; do
		[[ $decide_parts != *" $part "* ]] || return 0
	done
	return 1
}

# --- one event in a boundary of the client's own

append_cases() {
	hand_decide_scripts
	dcb_scripts
	for sync in off on; do
		for clients in $client_counts; do
			begin_case "1 event in an own boundary, $(plural "$clients" client), synchronous_commit $sync" events/s
			side "es_append_if" pgbench_rate eventstore 1 append_if
			side "es_append_many, no condition" pgbench_rate eventstore 1 append_many
			side "es_append, the same tag" pgbench_rate eventstore 1 append_tagged
			side "es_append, no tag" pgbench_rate eventstore 1 append_plain
			side "by hand, btree, SERIALIZABLE" serializable_rate tagged tagged.append_if
			side "by hand, btree, a lock a tag" pgbench_rate tagged 1 tagged.append_if_locked
			side "by hand, GIN, SERIALIZABLE" serializable_rate gin gin.append_if
			if [ -n "$have_dcb" ]; then
				side "dcb-es, its function" in_database bench_dcb pgbench_rate dcb 1 dcb
			fi
			if [ -n "$have_node" ]; then
				side "es_append_if, client in Node.js" node_rate eventstore eventstore own
			fi
			if [ -n "$have_dcb" ]; then
				side "dcb-es, its client" in_database bench_dcb node_rate dcb dcb-es own
			fi
			if [ -n "$have_ricofritzsche" ]; then
				side "ricofritzsche, its client" in_database bench_ricofritzsche node_rate ricofritzsche ricofritzsche own
			fi
			measure_case
		done
	done
}

new_tag_cases() {
	clients=8 sync=off
	begin_case "1 event with a tag that nothing has, 8 clients, synchronous_commit off" events/s
	side "es_append_if" pgbench_rate eventstore 1 append_if_new
	side "es_append, the same tag" pgbench_rate eventstore 1 append_tagged_new
	measure_case
}

# --- course subscriptions, one session

courses_cases() {
	script courses <<-'SQL'
	SELECT bench.decision('pgbench-' || :run, :v);
	\set v :v + 1
	SQL
	clients=1
	for sync in off on; do
		begin_case "course subscriptions, 1 session, synchronous_commit $sync" decisions/s
		side "client in C: es_read_query, es_append_if" program_rate eventstore courses
		side "plpgsql function, called by pgbench" pgbench_rate eventstore 1 courses
		side "plpgsql in the server" procedure_rate eventstore
		if [ -n "$have_node" ]; then
			side "client in Node.js" node_rate eventstore eventstore courses
		fi
		if [ -n "$have_dcb" ]; then
			side "dcb-es, its client" in_database bench_dcb node_rate dcb dcb-es courses
		fi
		if [ -n "$have_ricofritzsche" ]; then
			side "ricofritzsche, its client" in_database bench_ricofritzsche node_rate ricofritzsche ricofritzsche courses
		fi
		measure_case
	done
	note "published, not measured here: 2,918 to 3,145 decisions/s by the Python library eventsourcing, its example with aggregates, on a laptop"
	expect "courses with more than 10 students, students in more than 10 courses" 0 "$(sql -c "
		SELECT count(*) FROM (SELECT FROM es_events e, jsonb_array_elements(metadata -> 'tags') tag
			WHERE type = 'Enrolled' GROUP BY tag HAVING count(*) > 10) x")"
	expect "students twice in a course" 0 "$(sql -c "
		SELECT count(*) - count(DISTINCT data) FROM es_events WHERE type = 'Enrolled'")"
}

# --- everybody decides on the same

hot_cases() {
	local name
	for sync in off on; do
		begin_case "one boundary for all, synchronous_commit $sync" "successes/s"
		side "8 clients" hot_rate eventstore hot 8
		side "1 client" hot_rate eventstore hot 1
		side "by hand, btree, a lock a tag, 8 clients" hot_rate tagged hand 8
		side "by hand, btree, a lock a tag, 1 client" hot_rate tagged hand 1
		measure_case
		for name in "hot 8" "hand 8"; do
			note "one boundary, last round, $([ "$name" = "hot 8" ] || echo "by hand, ")${hot_notes[$name]:-not measured}"
		done
	done
}

# --- filled logs

tags_script() {
	script "$1" <<-SQL
	SELECT position, stream, type, data, metadata FROM es_read_tagged('$2');
	SQL
}

tags_case() {
	local order
	tags_script rare_common '{rare, common}'
	tags_script common_rare '{common, rare}'
	tags_script rare '{rare}'
	script nothing <<-'SQL'
	SELECT 1;
	SQL
	for order in 'rare, common' 'common, rare' rare; do
		expect "events with the tags $order" 10 "$(sql -c "SELECT count(*) FROM es_read_tagged('{$order}')")"
	done
	clients=1
	begin_case "10 events by a rare tag and one of all $long_events, 1 client" "µs a call"
	side "es_read_tagged, rare first" pgbench_latency rare_common 1
	side "es_read_tagged, common first" pgbench_latency common_rare 1
	side "es_read_tagged, the rare one alone" pgbench_latency rare 1
	side "SELECT 1" pgbench_latency nothing 1
	measure_case
}

# long_case WHAT UNIT COMMAND...: in the long log and in the short one; TARGET in
# COMMAND is the log's name among "acked"
long_case() {
	begin_case "long log: $1" "$2"
	side "$long_events events" in_database bench_long "${@:3}"
	side "$short_events events" in_database bench_short "${@:3}"
	side_commands[0]=${side_commands[0]//TARGET/long}
	side_commands[1]=${side_commands[1]//TARGET/short}
	measure_case
}

long_cases() {
	for sync in off on; do
		for clients in 1 8; do
			long_case "1 event in an own boundary, $(plural "$clients" client), synchronous_commit $sync" events/s \
				pgbench_rate TARGET 1 append_if
		done
	done
	clients=8 sync=off
	long_case "the same event by es_append, 8 clients, synchronous_commit off" events/s pgbench_rate TARGET 1 append_tagged
	long_case "1 event with a tag that nothing has, 8 clients, synchronous_commit off" events/s pgbench_rate TARGET 1 append_if_new
	long_case "one boundary for 8 clients, synchronous_commit off" successes/s hot_rate TARGET hot 8
	clients=1
	long_case "course subscriptions by a client in C, 1 session, synchronous_commit off" decisions/s program_rate TARGET courses
	long_case "10 events by a rare tag and a common one, 1 client" "µs a call" pgbench_latency rare_common 1
}

# check_filled NAME: the log's events, and that it is settled
check_filled() {
	expect "events in the $1 log" "${acked[$1]}" "$(in_database "bench_$1" sql -c 'SELECT count(*) FROM eventstore.events')"
	expect "settled up to the last position" t "$(in_database "bench_$1" sql -c '
		SELECT es_settled_position() = last_value FROM eventstore.position_seq')"
}

filled_logs() {
	local database=bench_long short=0
	if wants long; then
		in_database bench_short decide_database
		in_database bench_short fill_tagged "$short_events" || { fail "the short log could not be filled"; return; }
		short=${acked[eventstore]}
	fi
	decide_database
	fill_tagged "$long_events" || { fail "the long log could not be filled"; return; }
	acked[long]=${acked[eventstore]} acked[short]=$short
	! wants tags || tags_case
	if wants long; then
		tags_script rare_common '{rare, common}'
		long_cases
		check_filled short
	fi
	check_filled long
	peer_database bench_short drop
	peer_database bench_long drop
}

decide_scripts
if wants append courses hot; then
	decide_database
	hand_setup_decide
	have_node='' have_dcb='' have_ricofritzsche=''
	sync=off clients=8
	! wants append courses || decide_peers_setup
	if wants append; then
		append_cases
		new_tag_cases
	fi
	! wants courses || courses_cases
	! wants hot || hot_cases
	check_store
	check_hand_decide
	decide_peers_end
fi
! wants tags long || filled_logs
