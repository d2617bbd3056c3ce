# shellcheck shell=bash disable=SC2034,SC2154
#
# kafka.sh: producing to Kafka, by esfeed and by kcat. The broker is what
# BENCH_KAFKA names, else librdkafka's mock cluster, which a kcat brings with it
# that consumes a topic where nothing comes. Each measurement has a topic of its
# own, so the end offsets of its partitions count what was delivered.

kafka_brokers='' kafka_name=''
declare -A kafka_cores		# "producer + broker", by producer; brokers that are not ours we do not see

# kafka_setup: sets have_kafka, kafka_brokers and kafka_name
kafka_setup() {
	local reason
	have_kafka=''
	if ! reason=$(kafka_wants); then
		note "esfeed to Kafka left out: $reason"
	elif [ -n "${BENCH_KAFKA:-}" ]; then
		kafka_brokers=$BENCH_KAFKA kafka_name="BENCH_KAFKA's brokers"
		# esfeed would wait for them
		if kcat -L -b "$kafka_brokers" >/dev/null 2>&1; then have_kafka=1; else fail "no broker of BENCH_KAFKA answers"; fi
	else
		kafka_name="librdkafka's mock broker"
		if kafka_start; then have_kafka=1; else fail "$kafka_name does not start: $(tail -n 1 "$work/kafka/log")"; fi
	fi
}

# kafka_wants: fails, and says why, where something is missing
kafka_wants() {
	if "$top/esfeed/esfeed" --help | grep 'not in this build' >/dev/null; then
		echo "it was built without librdkafka (apt-get install librdkafka-dev, or tools/setup bench, then make)"
		return 1
	fi
	if ! command -v kcat >/dev/null; then
		echo "kcat is not installed (apt-get install kcat, or tools/setup bench)"
		return 1
	fi
}

# kafka_start: it chooses a port, and says it in its log
kafka_start() {
	server_folder kafka
	start_daemon "$work/kafka" kcat -C -b none:1 -t none -X test.mock.num.brokers=1 -d mock
	within 10 quietly kafka_find_brokers
}

kafka_find_brokers() {
	kafka_brokers=$(sed -n 's/.*bootstrap\.servers=\([^ ]*:[0-9]*\).*/\1/p' "$work/kafka/log" | head -n 1)
	[ -n "$kafka_brokers" ]
}

kafka_stop() {
	[ -d "$work/kafka" ] || return 0
	stop_daemons
	rm -rf "$work/kafka"
}

# kafka_count TOPIC: how many messages were ever put into it
kafka_count() {
	local partition partitions=()
	while read -r partition; do
		partitions+=(-t "$1:$partition:-1")
	done < <(kcat -L -b "$kafka_brokers" -t "$1" | sed -n 's/^ *partition \([0-9]*\),.*/\1/p')
	kcat -Q -b "$kafka_brokers" "${partitions[@]}" | awk '{ n += $NF } END { print n + 0 }'
}

# broker_ticks: of the mock broker
broker_ticks() { if [ -d "$work/kafka" ]; then server_ticks kafka; else echo 0; fi; }

# program_ticks: processor time of all programs that were run so far and have ended, in hundredths of a second
program_ticks() { awk '{ sub(/.*\) /, ""); print $14 + $15 }' "/proc/$$/stat"; }

# to_kafka PRODUCER EVENTS COMMAND...: runs a command that measures itself, with
# a new topic as its last word; the topic then has every event
to_kafka() {
	local producer=$1 n=$2 topic=bench-$$-${1%% *}-$round program broker count
	shift 2
	program=$(program_ticks) broker=$(broker_ticks)
	"$@" "$topic" || return 1
	program=$(($(program_ticks) - program)) broker=$(($(broker_ticks) - broker))
	kafka_cores[$producer]=$(awk "BEGIN { s = $n / $measured * 100; printf \"%.2f\", $program / s
		if ($broker) printf \" + %.2f\", $broker / s }")
	count=$(kafka_count "$topic")
	[ "$count" -ge "$n" ] || { echo "$producer: only $count of $n events are in Kafka" >&2; return 1; }
	echo "  check: messages in Kafka from $producer: $count of $n"
}

# report_kafka_cores: whether it was producer or broker that set the limit
report_kafka_cores() {
	local producer list='' who="producer + mock broker"
	[ -z "${BENCH_KAFKA:-}" ] || who=producer
	for producer in esfeed "kcat -P"; do
		[ -z "${kafka_cores[$producer]:-}" ] || list+="; $producer ${kafka_cores[$producer]}"
	done
	[ -z "$list" ] || note "cores of $(nproc) used by $who, last round: ${list#; }"
}
