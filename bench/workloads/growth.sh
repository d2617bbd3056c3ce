# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Append rate while the store grows past the shared buffers: es_append against a bare INSERT, streams random over all and over the newest.
#
# The store is filled with streams of 100 events, 10,000 streams at a time, ten
# events of a stream arriving together. Choose the sizes with --sizes, sizes for
# which the disk has not room twice with --alone, and the memory with --set
# shared_buffers=128MB.

fresh_database
bare_table bare2 two
acked[bare2]=0
clients=8 sync=off
filled=0			# events filled in so far, in each of the sides
sql -c "CREATE TABLE bench.batch10 AS SELECT bench.batch(1, 10) AS batch"

# fill: one more million, or less, on both sides
fill() {
	local new=$(($1 / 100)) from=$((filled / 100))
	sql -c "SELECT count(es_append_batch('account-' || s, batch)) FROM bench.batch10,
		(SELECT s, part FROM generate_series($from + 1, $from + $new) s, generate_series(1, 10) part
		ORDER BY part > 1, CASE WHEN part > 1 THEN hashint8(s * 1000 + part) END, s OFFSET 0) x" >/dev/null
	[ -z "$beside" ] ||
		sql -c "INSERT INTO bench.bare2 (stream_id, version, stream, type, data, metadata)
			SELECT s, (part - 1) * 10 + i, 'account-' || s, e ->> 'type', e -> 'data', e -> 'metadata' FROM
			(SELECT s, part, batch FROM bench.batch10, generate_series($from + 1, $from + $new) s, generate_series(1, 10) part
			ORDER BY part > 1, CASE WHEN part > 1 THEN hashint8(s * 1000 + part) END, s OFFSET 0) x,
			jsonb_array_elements(batch) WITH ORDINALITY AS y(e, i)"
	filled=$((filled + new * 100))
	acked[eventstore]=$((acked[eventstore] + new * 100))
	[ -z "$beside" ] || acked[bare2]=$((acked[bare2] + new * 100))
}

# Streams from :first to :streams; the newest have the highest numbers.
newest_streams='\set s random(:first, :streams)'
append_script eventstore "$newest_streams"
insert_script bare2 bare2 "$newest_streams"

# pages: transactions so far, and the pages that were asked for and read in them
pages() { sql -F ' ' -c "SELECT xact_commit, blks_hit + blks_read, blks_read FROM pg_stat_database WHERE datname = current_database()"; }

# growth_rate TARGET SCRIPT FIRST NAME: events a second; the pages are noted by name
growth_rate() {
	local before
	before=$(pages)
	pgbench_run "$1" 1 "$2" -T "$seconds" -D first="$3" || return 1
	measured=$tps
	touched[$4]="${touched[$4]:-}$before $(pages)"$'\n'
}

# say_pages CASE: pages an event, of all rounds
say_pages() {
	local name text=
	for name in "${side_names[@]}"; do
		text+="${text:+; }$name $(awk 'NF { n += $4 - $1; asked += $5 - $2; got += $6 - $3 } END { printf "%.1f and %.2f", asked / n, got / n }' <<<"${touched[$name]}")"
	done
	note "pages asked for and read, $1: $text"
}

# sizes_of: how large the sides are, in words
sizes_of() {
	echo -n "store $(sql -c "SELECT pg_size_pretty('$(bytes_of eventstore)'::bigint)")"
	[ -z "$beside" ] || sql -c "SELECT ', bare table ' || pg_size_pretty(pg_total_relation_size('bench.bare2')) ||
		', its indexes ' || pg_size_pretty(pg_indexes_size('bench.bare2'))"
}

growth_case() {
	declare -A touched=()
	begin_case "$filled events, streams $1" events/s
	side "es_append" growth_rate eventstore eventstore "$2" "es_append"
	[ -z "$beside" ] || side "bare INSERT, 2 unique indexes" growth_rate bare2 bare2 "$2" "bare INSERT, 2 unique indexes"
	measure_case
	say_pages "$case_name"
	medians+=("$1|$filled|$(median_of "es_append")")
}

# median_of SIDE: of the current case
median_of() {
	awk -F'\t' -v c="$case_name" -v s="$1" '$1 == c && $3 == s { print $5 }' "$tsv" | sort -g |
		awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

medians=()
beside=1			# is the bare table filled and measured, too?
for size in $sizes alone $alone; do
	if [ "$size" = alone ]; then
		check_bare bare2
		sql -c "DROP TABLE bench.bare2"
		beside=
		continue
	fi
	while [ "$filled" -lt "$size" ]; do
		fill $((size - filled < 1000000 ? size - filled : 1000000))
	done
	streams=$((filled / 100))
	note "$filled events filled in: $(sizes_of)"
	growth_case "random over all" 1
	growth_case "random over the newest 10,000" $((streams > 10000 ? streams - 9999 : 1))
done
for line in "${medians[@]}"; do
	IFS='|' read -r what size rate <<<"$line"
	first=$(printf '%s\n' "${medians[@]}" | grep -m 1 "^$what|" | cut -d'|' -f3)
	note "es_append, streams $what, at $size events: $(awk "BEGIN { printf \"%.2f\", $rate / $first }") of its rate at the first size"
done
streams=10000

check_store
