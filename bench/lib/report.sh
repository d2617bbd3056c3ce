# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# report.sh: medians, ranges and ratios; the sections of the results file.

start_workload() {
	tsv=$bench/results/$workload.tsv
	printf 'case\tunit\tside\tround\tvalue\n' >"$tsv"
	: >"$work/$workload.notes"
	case_names=()
	title=$(sed -n '2s/^# //p' "$bench/workloads/$workload.sh")
	load=$(cut -d' ' -f1 /proc/loadavg)
	workload_started=$SECONDS
	echo
	echo "$workload: $title"
}

finish_workload() {
	local section=$work/$workload.md
	{
		echo "## $workload"
		echo
		echo "$title"
		echo
		echo "$(date -u +%F), $(describe_versions); $(describe_machine); load before: $load."
		echo "$(plural "$rounds" round) of $seconds s a side, $((SECONDS - workload_started)) s in all; preloaded: $preload; settings:"
		echo "$(print_settings | sed 's/.*/`&`/' | paste -sd' ' | sed 's/` `/`, `/g')."
		echo
		table <"$tsv"
		if [ -s "$work/$workload.notes" ]; then
			echo
			cat "$work/$workload.notes"
		fi
	} >"$section"
	put_section "$workload" "$section"
	drop_database
}

drop_database() {
	"$bin/psql" -X -q -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" 2>/dev/null
}

# table: a Markdown table of the measurements on stdin. The ratio is of the
# medians; its range is that of the single rounds.
table() {
	awk -F'\t' '
	function median(list, n,   i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
		return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
	}
	function human(x,   s, r, d) {
		if (x < 10) return sprintf("%.2f", x)
		if (x < 1000) return sprintf("%.1f", x)
		s = sprintf("%.0f", x); r = ""
		while (length(s) > 3) { r = "," substr(s, length(s) - 2) r; s = substr(s, 1, length(s) - 3) }
		return s r
	}
	NR == 1 { next }
	!($1 in unit) { cases[++ncases] = $1; unit[$1] = $2 }
	!(($1, $3) in seen) { seen[$1, $3] = 1; side[$1, ++nsides[$1]] = $3 }
	{ value[$1, $3, $4] = $5; if ($4 > rounds) rounds = $4 }
	END {
		print "| case | side | median | min | max | unit | first ÷ this (range) |"
		print "|---|---|--:|--:|--:|---|--:|"
		for (c = 1; c <= ncases; c++) {
			name = cases[c]
			for (s = 1; s <= nsides[name]; s++) {
				this = side[name, s]; n = 0; nr = 0
				for (r = 1; r <= rounds; r++) {
					if ((name, this, r) in value) {
						list[++n] = value[name, this, r] + 0
						first = value[name, side[name, 1], r]
						if (s > 1 && first != "" && list[n] > 0) ratio[++nr] = first / list[n]
					}
				}
				m = median(list, n)
				if (s == 1) m1 = m
				q = "–"
				if (nr) {
					median(ratio, nr)
					q = sprintf("**%.2f** (%.2f–%.2f)", m ? m1 / m : 0, ratio[1], ratio[nr])
				}
				printf "| %s | %s | %s | %s | %s | %s | %s |\n", s == 1 ? name : "", this,
					human(m), human(list[1]), human(list[n]), unit[name], q
			}
		}
	}'
}

# report_case: the current case for the terminal
report_case() {
	{ head -n 1 "$tsv"; awk -F'\t' -v c="$case_name" '$1 == c' "$tsv"; } | table | sed -n '3,$p' |
		awk -F' *[|] *' '{ gsub(/\*/, ""); printf "    %-44s %12s %-9s (%s to %s)%s\n", $3, $4, $7, $5, $6,
			$8 == "–" ? "" : "   ratio " $8 }'
}

# put_section NAME FILE: replaces the section of a workload in the results file,
# or adds it; what people wrote outside of the sections stays
put_section() {
	[ -f "$results" ] || cat >"$results" <<-'END'
	# Results

	Written by `bench/run`, one section a workload; [README.md](README.md) has the method. Every ratio is the first side
	of its case divided by the side of its row: above 1 is good for rates, below 1 for bytes and times.
	END
	awk -v begin="<!-- begin $1 -->" -v end="<!-- end $1 -->" -v file="$2" '
	function put(   line) {
		print begin
		while ((getline line <file) > 0) print line
		print end
	}
	$0 == begin { put(); done = 1; skip = 1 }
	!skip { print }
	$0 == end { skip = 0 }
	END { if (!done) { print ""; put() } }' "$results" >"$work/results.new"
	cat "$work/results.new" >"$results"
}

# plural NUMBER NOUN
plural() { if [ "$1" = 1 ]; then echo "$1 $2"; else echo "$1 $2s"; fi; }
