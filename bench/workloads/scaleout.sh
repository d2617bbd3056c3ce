# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# es_append at a store, at a shard, and through a router of one shard and of three, all on this server.
#
# Router and shards are databases of one server, with one WAL: so this tells what a router
# adds to an append, and not what more machines bring.

fresh_database
prime_streams

# make_shards ROUTER SHARD...: stores as shards, and a router of them
make_shards() {
	local router=$1 options='' i=0 name
	shift
	for name in "$@"; do
		sql -d postgres -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" -c "CREATE DATABASE $name"
		sql -d "$name" -c 'CREATE EXTENSION eventstore'
		sql -d "$name" -v shard=$i -f "$top/scaleout/shard.sql" >/dev/null
		options+=", p$i 'host=$work port=$PGPORT dbname=$name'"
		i=$((i + 1))
	done
	sql -d postgres -c "DROP DATABASE IF EXISTS $router WITH (FORCE)" -c "CREATE DATABASE $router"
	sql -d "$router" -c 'CREATE EXTENSION plproxy' \
		-c "CREATE SERVER eventstore FOREIGN DATA WRAPPER plproxy OPTIONS (modular_mapping '1'$options)" \
		-c "CREATE USER MAPPING FOR PUBLIC SERVER eventstore OPTIONS (user 'postgres')"
	sql -d "$router" -f "$top/scaleout/router.sql" >/dev/null
	sql -d "$router" -c "SELECT es_start_shards($#)" >/dev/null
	sql -d "$router" -c "SELECT count(es_append('account-' || s, 'Opened', '{}')) FROM generate_series(1, $streams) s" >/dev/null
	acked[$router]=$streams
}

# rate_at DATABASE TARGET SCRIPT
rate_at() {
	local database=$1
	pgbench_rate "$2" 1 "$3"
}

# count_at DATABASE...: the events there, without those that note moves
count_at() {
	local name sum=0
	for name in "$@"; do
		sum=$((sum + $(sql -d "$name" -c "SELECT count(*) FROM eventstore.events WHERE stream <> 'scaleout-moves'")))
	done
	echo "$sum"
}

if ! [ -e "$("$PG_CONFIG" --sharedir)/extension/plproxy.control" ]; then
	note "left out: PL/Proxy is not installed (tools/setup bench installs it)"
else
	make_shards router1 alone
	make_shards router3 shard0 shard1 shard2
	append_script append "$any_stream"
	script shard <<-SQL
	$any_stream
	SELECT scaleout.es_append(0, scaleout.slot('account-' || :s), 'account-' || :s, 'Deposited', :data, :metadata, NULL, NULL, NULL);
	SQL
	for sync in off on; do
		for clients in 1 8; do
			begin_case "$(plural "$clients" client), synchronous_commit $sync" events/s
			side "es_append at a store" pgbench_rate eventstore 1 append
			side "at a shard, without a router" rate_at alone router1 shard
			side "router of 1 shard" rate_at router1 router1 append
			side "router of 3 shards" rate_at router3 router3 append
			measure_case
		done
	done
	expect "events of one shard" "${acked[router1]}" "$(count_at alone)"
	expect "events of three shards" "${acked[router3]}" "$(count_at shard0 shard1 shard2)"
fi
check_store
