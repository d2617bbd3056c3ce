# shellcheck shell=bash disable=SC2034,SC2154
#
# latency.sh: times from append to delivery, by peers/latency.c. All figures of a side
# are of the same run.

latency_figures=("${tail_figures[@]/#/from commit, }" "${tail_figures[@]/#/from sending, }")

build_latency() {
	gcc -O2 -Wall -o "$work/latency" "$bench/peers/latency.c" -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq
}

# take_latencies SIDE OUTPUT: leaves the program's figures in "times", in the order of latency_figures
take_latencies() {
	local delivered distinct disorder rate n=${#latency_figures[@]} read
	read -ra read <<<"$2"
	times=("${read[@]:0:n}")
	read -r delivered distinct disorder rate <<<"${read[*]:n}"
	expect "deliveries, events, out of order by $1" "$((1000 * seconds)) $((1000 * seconds)) 0" "$delivered $distinct $disorder"
	[ "$rate" -ge 990 ] || note "$case_name: $1, round $round: only $rate events/s were sent"
}

# latency_cases SUFFIX MEASURE SIDE...: a case for each figure; MEASURE SIDE takes
# them, and latency_names has what sides are called
latency_cases() {
	local suffix=$1 measure=$2 i side times
	shift 2
	unit=ms
	case_name=$suffix
	echo "  $suffix"
	sql -c CHECKPOINT
	for ((round = 1; round <= rounds; round++)); do
		for side in "$@"; do
			calm
			times=()
			if ! "$measure" "$side"; then
				fail "$suffix: ${latency_names[$side]} could not be measured"
				continue
			fi
			for i in "${!latency_figures[@]}"; do
				case_name="${latency_figures[i]}, $suffix"
				record "${latency_names[$side]}" "${times[i]}"
			done
			case_name=$suffix
		done
	done
	for i in "${!latency_figures[@]}"; do
		case_name="${latency_figures[i]}, $suffix"
		echo "  $case_name"
		report_case
	done
}
