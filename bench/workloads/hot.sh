# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Eight clients on eight streams and on one: es_append, any version, against a bare INSERT that orders nothing.
#
# The bare INSERT knows its version beforehand and never waits for another
# client; only the append of the store makes consecutive versions.

fresh_database
bare_table bare2 two
streams=8
prime_streams bare2

hot_script() {
	append_script "eventstore_$1" "\set s $2"
	insert_script "bare2_$1" bare2 "\set s $2"
}
hot_script own ':client_id + 1'
hot_script eight 'random(1, 8)'
hot_script one 1

hot_case() {
	begin_case "$2, synchronous_commit $sync" events/s
	side "es_append" pgbench_rate eventstore 1 "eventstore_$1"
	side "bare INSERT, 2 unique indexes" pgbench_rate bare2 1 "bare2_$1"
	measure_case
}
clients=8
for sync in off on; do
	hot_case own "8 clients, a stream each"
	hot_case eight "8 clients, random over 8 streams"
	hot_case one "8 clients on 1 stream"
done
streams=10000

check_store
check_bare bare2
