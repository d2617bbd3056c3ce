# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# measure.sh: cases with sides. A case is measured in rounds, every side once a
# round, in turn. The first side is the one that the ratios are about.
#
#     begin_case "8 clients" events/s
#     side eventstore pgbench_rate eventstore 1 script.sql
#     side "bare INSERT" pgbench_rate bare 1 script.sql
#     measure_case
#
# A side's command leaves its value in "measured" and returns 0. What has many figures at a time
# takes them instead, by take and report_taken.

declare -A acked		# events acknowledged, by table
failures=0
run_number=0			# of pgbench runs in this database: no two make the same versions
measured=
streams=10000 clients=1 sync=off

begin_case() { case_name=$1 unit=$2 side_names=() side_commands=(); }

side() {
	side_names+=("$1")
	shift
	side_commands+=("$(printf '%q ' "$@")")
}

# fail TEXT: something is wrong; the run goes on and says so at its end
fail() {
	failures=$((failures + 1))
	echo "FAILED: $workload: $*" >&2
	echo "- **failed:** $*" >>"$work/$workload.notes"
}

# note TEXT: for the results, below the workload's table
note() {
	echo "  note: $*"
	echo "- $*" >>"$work/$workload.notes"
}

# record SIDE VALUE: one measurement of the current case
record() { printf '%s\t%s\t%s\t%s\t%s\n' "$case_name" "$unit" "$1" "$round" "$2" >>"$tsv"; }

# take CASE UNIT SIDE VALUE: a measurement of a case of many, whose figures come together
take() {
	case_name=$1 unit=$2
	case " ${case_names[*]} " in *"|$1|"*) ;; *) case_names+=("|$1|") ;; esac
	record "$3" "$4"
}

# report_taken: the cases of all that were taken, for the terminal
report_taken() {
	local name
	for name in "${case_names[@]}"; do
		case_name=${name//|/}
		echo "  $case_name"
		report_case
	done
}

measure_case() {
	local i
	echo "  $case_name"
	sql -c CHECKPOINT
	for ((round = 1; round <= rounds; round++)); do
		for i in "${!side_names[@]}"; do
			calm
			measured=
			if eval "${side_commands[i]}" && [ -n "$measured" ]; then
				record "${side_names[i]}" "$measured"
			else
				fail "$case_name: ${side_names[i]} could not be measured"
				unset "side_names[i]"
			fi
		done
	done
	report_case
}

# script NAME: makes a pgbench script of its input
script() { cat >"$work/$1.sql"; }

# What a script begins with that is about one stream: any, or one of the client's own.
any_stream='\set s random(1, :streams)'
own_stream='\set s random(0, :streams / :clients - 1) * :clients + :client_id + 1'

# append_script NAME CHOICE: appends an event to the stream s that CHOICE sets
append_script() {
	script "$1" <<-SQL
	$2
	SELECT es_append('account-' || :s, 'Deposited', :data, :metadata);
	SQL
}

# exact_script NAME CHOICE: the same, with the version expected that it reads first
exact_script() {
	script "$1" <<-SQL
	$2
	SELECT es_stream_version('account-' || :s) AS version \\gset
	SELECT es_append('account-' || :s, 'Deposited', :data, :metadata, :version);
	SQL
}

# insert_script NAME TABLE CHOICE: puts an event into a bare table, in a version
# that the client makes: unique, and rising
insert_script() {
	script "$1" <<-SQL
	$3
	\\set v :v + 1
	\\set version :run * 1000000000 + :v * 64 + :client_id
	INSERT INTO bench.$2 (stream_id, version, stream, type, data, metadata)
	VALUES (:s, :version, 'account-' || :s, 'Deposited', :data, :metadata);
	SQL
}

# pgbench_run TARGET EVENTS SCRIPT OPTION...: runs a script that makes EVENTS
# events a transaction in TARGET; leaves tps and latency (ms)
pgbench_run() {
	local target=$1 per=$2 name=$3 out done_
	shift 3
	run_number=$((run_number + 1))
	if ! out=$(PGOPTIONS="-c synchronous_commit=$sync ${search_path:+-c search_path=$search_path} ${isolation:+-c default_transaction_isolation=$isolation}" \
		"$bin/pgbench" -n -M prepared -f "$work/$name.sql" -c "$clients" -j "$((clients < $(nproc) ? clients : $(nproc)))" \
		--random-seed=$((seed * 1000 + round)) -D run=$run_number -D v=0 -D loaded=0 -D streams="$streams" \
		-D clients=$clients -D events="$per" -D data="$data" -D metadata="$metadata" "$@" "$database" 2>&1); then
		grep -m 2 -i error <<<"$out" >&2
		return 1
	fi
	tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
	latency=$(sed -n 's/^latency average = \([0-9.]*\) ms/\1/p' <<<"$out")
	done_=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
	acked[$target]=$((${acked[$target]:-0} + done_ * per))
}

# pgbench_rate TARGET EVENTS SCRIPT: events a second
pgbench_rate() {
	pgbench_run "$@" -T "$seconds" || return 1
	measured=$(awk "BEGIN { printf \"%.1f\", $tps * $2 }")
}

# pgbench_latency SCRIPT CALLS: microseconds a call, round trip included
pgbench_latency() {
	pgbench_run none 0 "$1" -T "$seconds" || return 1
	measured=$(awk "BEGIN { printf \"%.2f\", 1000000 / $tps / $2 * $clients }")
}

# timed EVENTS COMMAND...: events a second of one command
timed() {
	local n=$1 start end
	shift
	start=${EPOCHREALTIME/./}
	"$@" >/dev/null || return 1
	end=${EPOCHREALTIME/./}
	measured=$(awk "BEGIN { printf \"%.1f\", $n * 1000000 / ($end - $start) }")
}
