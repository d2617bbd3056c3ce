# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Read the version, then append with it: es_stream_version and es_append against max(version) and INSERT.
#
# Each client has streams of its own, so no append is refused.

fresh_database
bare_table bare2 two
prime_streams bare2

exact_script eventstore "$own_stream"
script bare2 <<SQL
$own_stream
SELECT coalesce(max(version), 0) AS version FROM bench.bare2 WHERE stream_id = :s \\gset
INSERT INTO bench.bare2 (stream_id, version, stream, type, data, metadata)
VALUES (:s, :version + 1, 'account-' || :s, 'Deposited', :data, :metadata);
SQL

for sync in off on; do
	for clients in 1 8; do
		begin_case "$(plural "$clients" client), synchronous_commit $sync" events/s
		side "es_stream_version, es_append" pgbench_rate eventstore 1 eventstore
		side "by hand, 2 unique indexes" pgbench_rate bare2 1 bare2
		measure_case
	done
done

check_store
check_bare bare2 gapfree
