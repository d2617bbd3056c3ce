# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_replay of one stream by ops, built-in merge and functions, against an aggregate over jsonb_concat, a plpgsql loop and a Node.js client.
#
# The same fold on all sides: the states are compared first. The sides without
# the store are given the stream's id and read a bare table in order of its index,
# which the planner has to be told: a bitmap scan and a sort take longer. Each
# side but Node.js, which has its own objects then, sends the state to the client.

kinds=()
for length in 10 1000 10000 100000; do
	[ "$length" -le "$events" ] || continue
	for size in "1 KB" "20 KB"; do
		kinds+=("fold$length.${keys_of[$size]} $(streams_of_length "$length" $((events / 10))) $length ${keys_of[$size]}")
	done
done
make_accounts 1000000000 10 "${kinds[@]}"
sql -c "ALTER DATABASE $database SET enable_bitmapscan = off" -c "ALTER DATABASE $database SET enable_sort = off"
if reason=$(install_peers); then
	have_node=1
	note "Node.js $(node --version), pg $(package_version pg)"
else
	have_node=''
	note "Node.js left out: $reason"
fi
expect "streams whose id does not follow from their name" 0 "$(sql -c "SELECT count(*) FROM (
	SELECT category FROM eventstore.streams JOIN bench.kinds ON split_part(name, '-', 1) = category
	GROUP BY category HAVING count(DISTINCT stream_id - split_part(name, '-', 2)::bigint) > 1) x")"

# node_fold SECONDS: of the current kind
node_fold() {
	PGOPTIONS="-c synchronous_commit=$sync" node "$bench/peers/fold.mjs" "$database" "$first" "$count" "$length" "$1" \
		$((seed * 1000 + ${round:-0})) 2>"$work/fold.log" || { tail -n 3 "$work/fold.log" >&2; return 1; }
}
node_rate() { measured=$(printf '%.1f' "$(node_fold "$seconds")"); }

in_order="(SELECT data FROM bench.accounts WHERE stream_id = :id ORDER BY version) e"
declare -A fold_sides=(
	[ops]="SELECT state FROM es_replay('CATEGORY-' || :s, 'bench_ops')"
	[merge]="SELECT state FROM es_replay('CATEGORY-' || :s, 'merge')"
	[sql]="SELECT state FROM es_replay('CATEGORY-' || :s, 'bench_sql')"
	[plpgsql]="SELECT state FROM es_replay('CATEGORY-' || :s, 'bench_plpgsql')"
	[es_fold]="SELECT es_fold('bench_ops', e) AS state FROM es_read('CATEGORY-' || :s) e"
	[aggregate]="SELECT bench.concat(data) AS state FROM $in_order"
	[loop]="SELECT bench.fold_loop(:id) AS state"
)

# check_states: all sides come to the same state of stream 1
check_states() {
	local name statement wanted
	wanted=$(sql -c "SELECT md5(bench.concat(data)::text) FROM (SELECT data FROM bench.accounts WHERE stream_id = $first ORDER BY version) e")
	for name in "${!fold_sides[@]}"; do
		statement=${fold_sides[$name]//CATEGORY/$category}
		statement=${statement//:id/$first}
		expect_same "state of $category by $name" "$wanted" "$(sql -c "SELECT md5((${statement//:s/1})::text)")"
	done
	[ -z "$have_node" ] ||
		expect_same "state of $category by Node.js" "$wanted" "$(sql -v state="$(node_fold 0)" <<<"SELECT md5((:'state'::jsonb)::text)")"
}

for kind in "${kinds[@]}"; do
	read -r category count length keys <<<"$kind"
	first=$(first_id "$category")
	check_states
	for name in "${!fold_sides[@]}"; do
		account_script "$name" "$category" <<<"${fold_sides[$name]//CATEGORY/$category};"
	done
	size="20 KB"
	[ "$keys" != "${keys_of["1 KB"]}" ] || size="1 KB"
	begin_case "streams of $length, state of $size" events/s
	side "es_replay, ops" pgbench_rate none "$length" ops
	side "es_replay, built-in merge" pgbench_rate none "$length" merge
	side "es_replay, SQL functions" pgbench_rate none "$length" sql
	side "es_replay, plpgsql functions" pgbench_rate none "$length" plpgsql
	side "es_fold over es_read, ops" pgbench_rate none "$length" es_fold
	side "aggregate over jsonb_concat" pgbench_rate none "$length" aggregate
	side "plpgsql loop" pgbench_rate none "$length" loop
	[ -z "$have_node" ] || side "Node.js client" node_rate
	measure_case
done

check_store
check_bare accounts gapfree
