/*
 * kafkasink.c
 *		The sink kafka:BROKERS/TOPIC, by librdkafka.
 *
 * The key of a message is its stream, so a stream's events are in one
 * partition, in order.  The producer is idempotent and waits for all replicas:
 * librdkafka sends again what was not acknowledged, without end, without
 * doubling or reordering it.  What it cannot get over ends the program; the
 * next one begins after what was confirmed, and may send some of it again.
 *
 * librdkafka has room for as much as its settings say.  A message that it has no room for
 * waits here, and the sink is full until it has: brokers that are away must not keep us from the
 * server, nor from a request to end.
 *
 * Acknowledgements come in any order between partitions.  Messages are
 * numbered, and durable is the number up to which all are acknowledged.
 */
#include "sink.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "memory.h"
#include "message.h"
#include "report.h"
#include "wait.h"

/* No more messages than that are in flight; a power of two. */
#define MAX_IN_FLIGHT (64 * 1024)
#define MAX_BYTES (64 * 1024 * 1024)
#define FINISH_MS 30000

typedef struct KafkaSink
{
	Sink		sink;
	rd_kafka_t *producer;
	rd_kafka_topic_t *topic;
	bool		acknowledged[MAX_IN_FLIGHT];	/* of messages after durable */
	size_t		bytes;			/* in flight */
	char	   *key;
	size_t		key_length;
	size_t		key_size;
	char	   *waiting;		/* a message that librdkafka had no room for,
								 * with its key above; or NULL */
	size_t		waiting_length;
} KafkaSink;

/* A message's number, as the opaque that comes back with it. */
static void *
number_as_opaque(uint64_t number)
{
	return (void *) (uintptr_t) number;
}

/* Takes note of a message that the brokers have, or ends the program. */
static void
note_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
	KafkaSink  *kafka = opaque;
	Sink	   *sink = &kafka->sink;
	uint64_t	number = (uint64_t) (uintptr_t) message->_private;

	(void) producer;
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		report_failure(EXIT_SINK, "Kafka did not take a message of stream \"%.*s\": %s", (int) message->key_len,
					   (const char *) message->key, rd_kafka_err2str(message->err));
	kafka->bytes -= message->len;
	kafka->acknowledged[number % MAX_IN_FLIGHT] = true;
	while (sink->durable < sink->accepted && kafka->acknowledged[(sink->durable + 1) % MAX_IN_FLIGHT])
	{
		sink->durable++;
		kafka->acknowledged[sink->durable % MAX_IN_FLIGHT] = false;
	}
}

/* Reports what librdkafka has to say; what is fatal ends the program. */
static void
note_error(rd_kafka_t *producer, int error, const char *reason, void *opaque)
{
	char		cause[512];

	(void) opaque;
	if (error == RD_KAFKA_RESP_ERR__FATAL)
	{
		(void) rd_kafka_fatal_error(producer, cause, sizeof(cause));
		report_failure(EXIT_SINK, "Kafka: %s", cause);
	}
	report_warning("Kafka: %s", reason);
}

/* What librdkafka logs it also reports, where it matters. */
static void
drop_log(const rd_kafka_t *producer, int level, const char *facility, const char *text)
{
	(void) producer;
	(void) level;
	(void) facility;
	(void) text;
}

/* Sets a setting of librdkafka. */
static void
set_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		report_failure(EXIT_USAGE, "setting \"%s\" of librdkafka: %s", name, error);
}

/* Sets the settings that were given. */
static void
set_given_options(rd_kafka_conf_t *conf, const char *const *given)
{
	for (; *given != NULL; given++)
	{
		char	   *name = copy_text(*given);
		char	   *value = strchr(name, '=');

		*value++ = '\0';
		set_option(conf, name, value);
		free(name);
	}
}

/* Makes the producer. */
static Sink *
kafka_open(const Options *options)
{
	KafkaSink  *kafka = get_zeroed(sizeof(KafkaSink));
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char	   *brokers = copy_text(options->target);
	char	   *slash = strrchr(brokers, '/');
	char		error[512];

	if (slash == NULL || slash == brokers || slash[1] == '\0')
		report_failure(EXIT_USAGE, "--to=kafka takes BROKERS/TOPIC, not \"%s\"", options->target);
	*slash = '\0';
	set_option(conf, "client.id", "esfeed");
	set_option(conf, "linger.ms", "5");
	/* the brokers know best how large a message may be */
	set_option(conf, "message.max.bytes", "1000000000");
	set_given_options(conf, options->kafka_options);
	set_option(conf, "bootstrap.servers", brokers);
	set_option(conf, "enable.idempotence", "true");
	set_option(conf, "enable.gapless.guarantee", "true");
	set_option(conf, "acks", "all");
	set_option(conf, "message.timeout.ms", "0");
	rd_kafka_conf_set_opaque(conf, kafka);
	rd_kafka_conf_set_dr_msg_cb(conf, note_delivery);
	rd_kafka_conf_set_error_cb(conf, note_error);
	rd_kafka_conf_set_log_cb(conf, drop_log);
	kafka->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (kafka->producer == NULL)
		report_failure(EXIT_USAGE, "could not start librdkafka: %s", error);
	kafka->topic = rd_kafka_topic_new(kafka->producer, slash + 1, NULL);
	if (kafka->topic == NULL)
		report_failure(EXIT_USAGE, "topic \"%s\": %s", slash + 1, rd_kafka_err2str(rd_kafka_last_error()));
	free(brokers);
	return &kafka->sink;
}

/* Full when much is in flight, or librdkafka has no room. */
static bool
kafka_is_full(const Sink *sink)
{
	const KafkaSink *kafka = (const KafkaSink *) sink;

	return kafka->waiting != NULL || sink->accepted - sink->durable >= MAX_IN_FLIGHT - 1 || kafka->bytes >= MAX_BYTES;
}

/* Hands a message with the key that is kept to librdkafka; false if that has no room for it now. */
static bool
produce_message(KafkaSink *kafka, const char *text, size_t length, uint64_t number)
{
	if (rd_kafka_produce(kafka->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *) (uintptr_t) text, length,
						 kafka->key, kafka->key_length, number_as_opaque(number)) != 0)
	{
		if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			return false;
		report_failure(EXIT_SINK, "Kafka does not take a message of %zu bytes: %s", length,
					   rd_kafka_err2str(rd_kafka_last_error()));
	}
	kafka->bytes += length;
	return true;
}

/* Takes a message; one that librdkafka has no room for is kept until it has. */
static void
kafka_write(Sink *sink, const Message *message)
{
	KafkaSink  *kafka = (KafkaSink *) sink;

	if (message->stream_length > kafka->key_size)
	{
		kafka->key_size = message->stream_length;
		kafka->key = more_memory(kafka->key, kafka->key_size);
	}
	kafka->key_length = message_key(message, kafka->key);
	if (produce_message(kafka, message->text, message->length, sink->accepted + 1))
		return;
	kafka->waiting_length = message->length;
	kafka->waiting = memcpy(get_memory(message->length), message->text, message->length);
}

/* Takes note of acknowledgements, and hands over what has waited for room. */
static void
kafka_work(Sink *sink)
{
	KafkaSink  *kafka = (KafkaSink *) sink;

	(void) rd_kafka_poll(kafka->producer, 0);
	if (kafka->waiting == NULL || !produce_message(kafka, kafka->waiting, kafka->waiting_length, sink->accepted))
		return;
	free(kafka->waiting);
	kafka->waiting = NULL;
}

/* librdkafka has no descriptor that would do: look again soon. */
static void
kafka_add_waits(Sink *sink, WaitSet *set)
{
	if (sink->accepted > sink->durable)
		wait_at_most(set, 5);
	else
		wait_at_most(set, 1000);
}

/* Waits for the rest of the acknowledgements. */
static void
kafka_finish(Sink *sink)
{
	KafkaSink  *kafka = (KafkaSink *) sink;
	int64_t		until = clock_now() + FINISH_MS;

	while (kafka->waiting != NULL && clock_now() < until)
	{
		(void) rd_kafka_poll(kafka->producer, 100);
		kafka_work(sink);
	}
	if (clock_now() < until)
		(void) rd_kafka_flush(kafka->producer, (int) (until - clock_now()));
	(void) rd_kafka_poll(kafka->producer, 0);
	if (sink->accepted > sink->durable)
		report_warning("Kafka has not acknowledged %llu messages",
					   (unsigned long long) (sink->accepted - sink->durable));
}

const SinkType sink_kafka = {
	.name = "kafka",
	.open = kafka_open,
	.write = kafka_write,
	.is_full = kafka_is_full,
	.add_waits = kafka_add_waits,
	.work = kafka_work,
	.finish = kafka_finish,
};
