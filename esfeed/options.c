/*
 * options.c
 *		What the command line asks for.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "report.h"

#define MAX_KAFKA_OPTIONS 100

#define TRY_HELP "Try \"esfeed --help\"."

/* Whether the sink for Kafka is in this build. */
#ifdef WITH_KAFKA
#define HAS_KAFKA true
#else
#define HAS_KAFKA false
#endif

/* Options without a letter of their own. */
enum
{
	OPT_HELP = 1000,
	OPT_FEED,
	OPT_CREATE,
	OPT_FROM,
	OPT_CATEGORIES,
	OPT_TYPES,
	OPT_QUERY,
	OPT_FORMAT,
	OPT_SKIP_POSITIONS,
	OPT_TO,
	OPT_KAFKA_OPTION,
	OPT_METRICS,
	OPT_MOVED,
	OPT_UNTIL_CAUGHT_UP,
	OPT_DROP
};

static const struct option known_options[] = {
	{"categories", required_argument, NULL, OPT_CATEGORIES},
	{"create", no_argument, NULL, OPT_CREATE},
	{"dbname", required_argument, NULL, 'd'},
	{"drop", no_argument, NULL, OPT_DROP},
	{"feed", required_argument, NULL, OPT_FEED},
	{"format", required_argument, NULL, OPT_FORMAT},
	{"from", required_argument, NULL, OPT_FROM},
	{"help", no_argument, NULL, OPT_HELP},
	{"kafka-option", required_argument, NULL, OPT_KAFKA_OPTION},
	{"metrics", required_argument, NULL, OPT_METRICS},
	{"moved", no_argument, NULL, OPT_MOVED},
	{"query", required_argument, NULL, OPT_QUERY},
	{"quiet", no_argument, NULL, 'q'},
	{"skip-positions", required_argument, NULL, OPT_SKIP_POSITIONS},
	{"to", required_argument, NULL, OPT_TO},
	{"types", required_argument, NULL, OPT_TYPES},
	{"until-caught-up", no_argument, NULL, OPT_UNTIL_CAUGHT_UP},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0}
};

/* Prints how the program is used. */
static void
print_help(void)
{
	fputs("esfeed delivers the events of an event store: first the history, then what comes.\n"
		  "\n"
		  "Usage:\n"
		  "  esfeed [-d CONNINFO] --feed NAME [OPTION]...\n"
		  "\n"
		  "Feed:\n"
		  "  -d, --dbname=CONNINFO   database name, connection string or URI; what is missing\n"
		  "                          comes from PGHOST, PGSERVICE and so on, as in psql\n"
		  "      --feed=NAME         the feed, a replication slot named es_NAME\n"
		  "      --create            create the feed if there is none, with the categories, types,\n"
		  "                          query and format given here; make a lost one anew\n"
		  "      --from=WHERE        beginning (default), now, or a position: after that one\n"
		  "      --categories=LIST   of what the feed has only these, with commas between or as a\n"
		  "                          JSON array\n"
		  "      --types=LIST        of what the feed has only events of these types\n"
		  "      --query=JSON        of what the feed has only what matches: an array of\n"
		  "                          {\"types\"?: [...], \"tags\"?: [...]}\n"
		  "      --format=FORMAT     json or cloudevents; default: the feed's\n"
		  "      --skip-positions=LIST  go on without these events, positions with commas between\n"
		  "      --moved             the store has moved to this cluster or database, with its\n"
		  "                          positions: go on with what was delivered from where it was\n"
		  "      --drop              drop the feed and end\n"
		  "\n"
		  "Delivery:\n"
		  "      --to=SINK           - (default): standard output\n"
		  "                          file:PATH: every event exactly once, state in PATH.esfeed\n"
		  "                          exec:COMMAND: lines on its input, it acknowledges each by a line\n"
		  "                          kafka:BROKERS/TOPIC: keyed by stream"
		  ,stdout);
	fputs(HAS_KAFKA ? "\n" : " (not in this build)\n", stdout);
	fputs("      --kafka-option=N=V  a setting of librdkafka; may be given several times\n"
		  "      --until-caught-up   end when all that was there at the start is delivered\n"
		  "      --metrics=FILE      write numbers for Prometheus to a file every few seconds\n"
		  "\n"
		  "  -q, --quiet             print warnings and errors only\n"
		  "  -V, --version           print the version and end\n"
		  "  -?, --help              print this and end\n"
		  "\n"
		  "Exit status: 0 done or stopped by SIGTERM, 1 wrong usage, 2 no connection, 3 the server\n"
		  "refuses, 4 no such feed, 5 feed or file in use, 6 feed lost or not the known one, 7 the\n"
		  "sink failed.  All but 1 and 6 are worth a retry: nothing is lost.\n"
		  ,stdout);
}

/* Ends the program for a wrong command line. */
static void
refuse_usage(const char *what, const char *value)
{
	report_hint(TRY_HELP);
	report_failure(EXIT_USAGE, "%s%s%s%s", what, value ? ": \"" : "", value ? value : "", value ? "\"" : "");
}

/* Reads --from. */
static void
read_start(Options *options, const char *value)
{
	char	   *end;

	if (strcmp(value, "beginning") == 0)
		options->start = START_BEGINNING;
	else if (strcmp(value, "now") == 0)
		options->start = START_NOW;
	else
	{
		errno = 0;
		options->start = START_POSITION;
		options->position = strtoll(value, &end, 10);
		if (errno != 0 || end == value || *end != '\0' || options->position < 0)
			refuse_usage("--from takes beginning, now, or a position of 0 or more", value);
	}
}

/* Reads --to. */
static void
read_sink(Options *options, const char *value)
{
	static const char *const sinks[] = {"file", "exec", "kafka"};
	const char *colon = strchr(value, ':');

	if (strcmp(value, "-") == 0)
	{
		options->sink = "-";
		options->target = "";
		return;
	}
	for (size_t i = 0; colon != NULL && i < sizeof(sinks) / sizeof(sinks[0]); i++)
		if ((size_t) (colon - value) == strlen(sinks[i]) && strncmp(value, sinks[i], strlen(sinks[i])) == 0)
		{
			options->sink = sinks[i];
			options->target = colon + 1;
			if (*options->target == '\0')
				refuse_usage("--to lacks what to deliver to", value);
			return;
		}
	refuse_usage("--to takes -, file:PATH, exec:COMMAND or kafka:BROKERS/TOPIC", value);
}

/* Reads --categories or --types; the empty text would be no filter where somebody wants one. */
static const char *
read_names(const char *value)
{
	if (value[strspn(value, " ")] == '\0')
		refuse_usage("a list must not be empty; leave the option out for all, and write [] for none", NULL);
	return value;
}

/* Reads --query. */
static const char *
read_query(const char *value)
{
	if (value[strspn(value, " \t\r\n")] == '\0')
		refuse_usage("--query takes JSON; leave the option out for all", NULL);
	return value;
}

/* Reads --format. */
static const char *
read_format(const char *value)
{
	if (strcmp(value, "json") != 0 && strcmp(value, "cloudevents") != 0)
		refuse_usage("--format takes json or cloudevents", value);
	return value;
}

/* Reads --skip-positions. */
static const char *
read_positions(const char *value)
{
	if (value[strspn(value, "0123456789,")] != '\0' || strstr(value, ",,") != NULL ||
		value[0] == ',' || value[0] == '\0' || value[strlen(value) - 1] == ',')
		refuse_usage("--skip-positions takes positions with commas between", value);
	return value;
}

/* Adds a setting of librdkafka. */
static void
add_kafka_option(Options *options, const char *value)
{
	int			count = 0;

	if (strchr(value, '=') == NULL)
		refuse_usage("--kafka-option takes NAME=VALUE", value);
	while (options->kafka_options[count] != NULL)
		count++;
	if (count >= MAX_KAFKA_OPTIONS)
		refuse_usage("--kafka-option is given too many times", NULL);
	options->kafka_options[count] = value;
}

/* Prints what was asked for, and ends. */
static void
print_and_end(int letter, char **argv)
{
	/* getopt_long says '?' for a mistake, too */
	if (letter == '?' && strcmp(argv[optind - 1], "-?") != 0)
	{
		/* which has told what is wrong */
		fputs("esfeed: hint: " TRY_HELP "\n", stderr);
		exit(EXIT_USAGE);
	}
	if (letter == 'V')
		puts("esfeed (eventstore) " ESFEED_VERSION);
	else
		print_help();
	exit(EXIT_DONE);
}

/* Takes one option. */
static void
read_option(Options *options, int letter, const char *value)
{
	switch (letter)
	{
		case 'd':
			options->conninfo = value;
			break;
		case 'q':
			options->quiet = true;
			break;
		case OPT_FEED:
			options->feed = value;
			break;
		case OPT_CREATE:
			options->create = true;
			break;
		case OPT_FROM:
			read_start(options, value);
			break;
		case OPT_CATEGORIES:
			options->categories = read_names(value);
			break;
		case OPT_TYPES:
			options->types = read_names(value);
			break;
		case OPT_QUERY:
			options->query = read_query(value);
			break;
		case OPT_FORMAT:
			options->format = read_format(value);
			break;
		case OPT_SKIP_POSITIONS:
			options->skip_positions = read_positions(value);
			break;
		case OPT_TO:
			read_sink(options, value);
			break;
		case OPT_KAFKA_OPTION:
			add_kafka_option(options, value);
			break;
		case OPT_METRICS:
			options->metrics = value;
			break;
		case OPT_MOVED:
			options->moved = true;
			break;
		case OPT_UNTIL_CAUGHT_UP:
			options->until_caught_up = true;
			break;
		case OPT_DROP:
			options->drop = true;
			break;
	}
}

/* Refuses a name that a feed cannot have. */
static void
check_feed(const Options *options)
{
	size_t		length;

	if (options->feed == NULL)
		refuse_usage("--feed is missing", NULL);
	length = strlen(options->feed);
	if (length == 0 ||
		options->feed[strspn(options->feed, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
		refuse_usage("a feed's name can only have lower-case letters, digits and the underscore", options->feed);
	if (length > MAX_FEED_NAME)
		refuse_usage(make_text("a feed's name can have at most %d bytes", MAX_FEED_NAME), options->feed);
	if (length > strlen(UNFINISHED) && strcmp(options->feed + length - strlen(UNFINISHED), UNFINISHED) == 0)
		refuse_usage("names that end in " UNFINISHED " are for feeds whose history is not delivered", options->feed);
}

/* Refuses what cannot go together or is missing. */
static void
check_options(const Options *options)
{
	check_feed(options);
	if (options->metrics && *options->metrics == '\0')
		refuse_usage("--metrics lacks the file", NULL);
	if (options->moved && !options->create)
		refuse_usage("--moved goes with --create only", NULL);
	if (options->drop && (options->create || options->until_caught_up))
		refuse_usage("--drop does not go with --create or --until-caught-up", NULL);
	if (strcmp(options->sink, "kafka") == 0 && !HAS_KAFKA)
		report_failure(EXIT_USAGE, "this esfeed was built without librdkafka, so it cannot deliver to Kafka");
	if (options->kafka_options[0] != NULL && strcmp(options->sink, "kafka") != 0)
		refuse_usage("--kafka-option goes with --to=kafka:BROKERS/TOPIC only", NULL);
}

/* options_read reads the command line; what is wrong with it ends the program. */
void
options_read(Options *options, int argc, char **argv)
{
	int			letter;

	memset(options, 0, sizeof(*options));
	options->categories = options->types = options->query = options->format = options->skip_positions = "";
	options->sink = "-";
	options->target = "";
	options->kafka_options = get_zeroed((MAX_KAFKA_OPTIONS + 1) * sizeof(char *));

	while ((letter = getopt_long(argc, argv, "d:qV?", known_options, NULL)) != -1)
	{
		if (letter == '?' || letter == OPT_HELP || letter == 'V')
			print_and_end(letter, argv);
		read_option(options, letter, optarg);
	}
	if (optind < argc)
		refuse_usage("unexpected argument", argv[optind]);
	check_options(options);
	report_quiet(options->quiet);
}
