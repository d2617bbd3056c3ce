# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Append rate while the store grows past the shared buffers: es_append against a bare INSERT, streams random over all and over the newest.
#
# The store is filled with streams of 100 events, 10,000 streams at a time, ten
# events of a stream arriving together. Choose the sizes with --sizes and the
# memory with --set shared_buffers=128MB.

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
	sql -c "INSERT INTO bench.bare2 (stream_id, version, stream, type, data, metadata)
		SELECT s, (part - 1) * 10 + i, 'account-' || s, e ->> 'type', e -> 'data', e -> 'metadata' FROM
		(SELECT s, part, batch FROM bench.batch10, generate_series($from + 1, $from + $new) s, generate_series(1, 10) part
		ORDER BY part > 1, CASE WHEN part > 1 THEN hashint8(s * 1000 + part) END, s OFFSET 0) x,
		jsonb_array_elements(batch) WITH ORDINALITY AS y(e, i)"
	filled=$((filled + new * 100))
	acked[eventstore]=$((acked[eventstore] + new * 100))
	acked[bare2]=$((acked[bare2] + new * 100))
}

# Streams from :first to :streams; the newest have the highest numbers.
newest_streams='\set s random(:first, :streams)'
append_script eventstore "$newest_streams"
insert_script bare2 bare2 "$newest_streams"

growth_rate() { pgbench_run "$1" 1 "$2" -T "$seconds" -D first="$3" && measured=$tps; }
growth_case() {
	begin_case "$filled events, streams $1" events/s
	side "es_append" growth_rate eventstore eventstore "$2"
	side "bare INSERT, 2 unique indexes" growth_rate bare2 bare2 "$2"
	measure_case
	medians+=("$1|$filled|$(median_of "es_append")")
}

# median_of SIDE: of the current case
median_of() {
	awk -F'\t' -v c="$case_name" -v s="$1" '$1 == c && $3 == s { print $5 }' "$tsv" | sort -g |
		awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

medians=()
for size in $sizes; do
	while [ "$filled" -lt "$size" ]; do
		fill $((size - filled < 1000000 ? size - filled : 1000000))
	done
	streams=$((filled / 100))
	note "$filled events filled in: store $(sql -c "SELECT pg_size_pretty('$(bytes_of eventstore)'::bigint)")," \
		"bare table $(sql -c "SELECT pg_size_pretty(pg_total_relation_size('bench.bare2'))")," \
		"its indexes $(sql -c "SELECT pg_size_pretty(pg_indexes_size('bench.bare2'))")"
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
check_bare bare2
