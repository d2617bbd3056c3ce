/*
 * options.h
 *		What the command line asks for.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* What the name of a feed ends in while its history is not delivered (attach.c). */
#define UNFINISHED "_unfinished"
#define MAX_FEED_NAME 60

/* Where a new feed begins. */
typedef enum Start
{
	START_BEGINNING,
	START_NOW,
	START_POSITION
} Start;

typedef struct Options
{
	const char *conninfo;		/* NULL: all from the environment */
	const char *feed;
	bool		create;
	bool		moved;
	bool		drop;
	bool		until_caught_up;
	bool		quiet;
	Start		start;
	int64_t		position;		/* of START_POSITION, else 0 */
	const char *categories;		/* as given, "" for all of the feed */
	const char *types;
	const char *query;			/* JSON, "" for all of the feed */
	const char *format;			/* "" for the feed's */
	const char *skip_positions; /* with commas between, "" for none */
	const char *sink;			/* "-", "file", "exec" or "kafka" */
	const char *target;			/* what follows the sink's name */
	const char *metrics;		/* a file; NULL: none */
	const char **kafka_options; /* NAME=VALUE, ends with NULL */
} Options;

extern void options_read(Options *options, int argc, char **argv);

#endif							/* OPTIONS_H */
