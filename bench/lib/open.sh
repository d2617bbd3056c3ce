# shellcheck shell=bash disable=SC2034,SC2154
#
# open.sh: an open loop: clients that are due to begin at random times, at a rate, whether
# the one before has ended or not. A call's time is from when it was due.

tail_figures=("median" "95th percentile" "99th percentile" "99.9th percentile" "longest")

# open_loop TARGET SCRIPT RATE SECONDS: leaves the figures, in ms, in "times"
open_loop() {
	rm -rf "$work/open"
	mkdir "$work/open"
	pgbench_run "$1" 1 "$2" -R "$3" -T "$4" -l --log-prefix="$work/open/log" || return 1
	mapfile -t times < <(cut -d' ' -f3 "$work/open/"log* | sort -n | awk '
		{ ms[NR] = $1 / 1000 }
		function at(share,   i) { i = int(NR * share); return ms[i < NR * share ? i + 1 : i] }
		END { if (NR) { print at(0.5); print at(0.95); print at(0.99); print at(0.999); print ms[NR] } }')
	[ "${#times[@]}" = "${#tail_figures[@]}" ]
}

# take_tail CASE SIDE: these figures, each in a case of its own
take_tail() {
	local i
	for i in "${!tail_figures[@]}"; do
		take "$1, ${tail_figures[i]}" ms "$2" "${times[i]}"
	done
}
