/*
 * state.c
 *		The file that a file sink's state is kept in.
 *
 * Lines of a name and a value; in values %, line breaks and other control
 * characters are written as %XX.  The file is replaced as a whole: a new one
 * is written beside it, brought to disk and renamed, and then the folder is
 * brought to disk.  So there is always one that is whole, and when state_write
 * has returned it is the new one.
 */
#include "state.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lsn.h"
#include "memory.h"
#include "report.h"

/* The first line; another version of the file would begin otherwise. */
#define FIRST_LINE "esfeed 1"

static const char *const phase_names[] = {"none", "history", "stream"};

/* A member of State that is a text, and its name in the file. */
typedef struct TextMember
{
	const char *name;
	size_t		offset;
} TextMember;

static const TextMember text_members[] = {
	{"system", offsetof(State, system)},
	{"feed", offsetof(State, feed)},
	{"format", offsetof(State, format)},
	{"categories", offsetof(State, categories)},
	{"types", offsetof(State, types)},
	{"query", offsetof(State, query)},
};

#define TEXT_MEMBERS (sizeof(text_members) / sizeof(text_members[0]))

/* Gives the place of a text. */
static char **
text_of(const State *state, size_t member)
{
	return (char **) ((char *) state + text_members[member].offset);
}

/* Writes a text with its escapes. */
static void
write_text(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s ", name);
	for (const unsigned char *p = (const unsigned char *) value; *p; p++)
	{
		if (*p == '%' || *p < ' ' || *p == 127)
			fprintf(out, "%%%02X", *p);
		else
			fputc(*p, out);
	}
	fputc('\n', out);
}

/* Takes the escapes out of a text, in place. */
static void
unescape_text(char *text)
{
	char	   *to = text;
	unsigned int byte;

	for (char *from = text; *from; from++)
	{
		if (*from == '%' && isxdigit((unsigned char) from[1]) && isxdigit((unsigned char) from[2]) &&
			sscanf(from + 1, "%2X", &byte) == 1)
		{
			*to++ = (char) byte;
			from += 2;
		}
		else
			*to++ = *from;
	}
	*to = '\0';
}

/* Reads a phase's name. */
static Phase
read_phase(const char *name)
{
	for (int i = PHASE_HISTORY; i <= PHASE_STREAM; i++)
		if (strcmp(name, phase_names[i]) == 0)
			return (Phase) i;
	return PHASE_NONE;
}

/* Reads a line's name and value into the state; false for one that state_write does not write. */
static bool
read_member(State *state, const char *name, char *value)
{
	for (size_t i = 0; i < TEXT_MEMBERS; i++)
		if (strcmp(name, text_members[i].name) == 0)
		{
			unescape_text(value);
			*text_of(state, i) = copy_text(value);
			return true;
		}
	if (strcmp(name, "phase") == 0)
		state->phase = read_phase(value);
	else if (strcmp(name, "database") == 0)
		state->database = (uint32_t) strtoul(value, NULL, 10);
	else if (strcmp(name, "store") == 0)
		state->store = (uint32_t) strtoul(value, NULL, 10);
	else if (strcmp(name, "timeline") == 0)
		state->timeline = (uint32_t) strtoul(value, NULL, 10);
	else if (strcmp(name, "low") == 0)
		state->low = strtoll(value, NULL, 10);
	else if (strcmp(name, "head") == 0)
		state->head = strtoll(value, NULL, 10);
	else if (strcmp(name, "length") == 0)
		state->length = strtoll(value, NULL, 10);
	else if (strcmp(name, "offset") == 0)
		state->offset = strtoll(value, NULL, 10);
	else if (strcmp(name, "lsn") == 0)
		return lsn_parse(value, &state->lsn);
	else
		return false;
	return true;
}

/* Reads the lines after the first; false if they are not what state_write writes. */
static bool
read_lines(State *state, FILE *in)
{
	char	   *line = NULL;
	size_t		size = 0;
	bool		good = true;
	bool		whole = false;

	while (good && !whole && getline(&line, &size, in) > 0)
	{
		char	   *value = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		whole = strcmp(line, "end") == 0;
		if (value != NULL)
			*value++ = '\0';
		good = whole || (value != NULL && read_member(state, line, value));
	}
	free(line);
	for (size_t i = 0; i < TEXT_MEMBERS; i++)
		good = good && *text_of(state, i) != NULL;
	return good && whole && state->phase != PHASE_NONE;
}

/* state_read reads the file; false if there is none.  A bad one ends the program. */
bool
state_read(State *state, const char *path)
{
	FILE	   *in = fopen(path, "re");
	char		first[sizeof(FIRST_LINE) + 1] = "";

	if (in == NULL && errno == ENOENT)
		return false;
	if (in == NULL)
		report_failure(EXIT_SINK, "could not open \"%s\": %s", path, strerror(errno));
	memset(state, 0, sizeof(*state));
	if (fgets(first, sizeof(first), in) == NULL || strcmp(first, FIRST_LINE "\n") != 0 || !read_lines(state, in))
		report_failure(EXIT_LOST, "\"%s\" is not the state of a feed that this version of esfeed writes", path);
	fclose(in);
	return true;
}

/* Brings the folder of a file to disk. */
static void
sync_folder(const char *path)
{
	char	   *copy = copy_text(path);
	const char *folder = dirname(copy);
	int			fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* some file systems cannot, and need not */
	if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL && errno != EBADF))
		report_failure(EXIT_SINK, "could not bring the folder \"%s\" to disk: %s", folder, strerror(errno));
	close(fd);
	free(copy);
}

/* state_write replaces the file; when it returns the new state is on disk. */
void
state_write(const State *state, const char *path)
{
	char	   *new_path = make_text("%s.new", path);
	FILE	   *out = fopen(new_path, "we");

	if (out == NULL)
		report_failure(EXIT_SINK, "could not open \"%s\": %s", new_path, strerror(errno));
	fputs(FIRST_LINE "\n", out);
	for (size_t i = 0; i < TEXT_MEMBERS; i++)
		write_text(out, text_members[i].name, *text_of(state, i));
	fprintf(out, "database %" PRIu32 "\nstore %" PRIu32 "\nphase %s\n", state->database, state->store,
			phase_names[state->phase]);
	fprintf(out, "low %" PRId64 "\nhead %" PRId64 "\n", state->low, state->head);
	fprintf(out, "lsn " LSN_FORMAT "\ntimeline %" PRIu32 "\n", LSN_PARTS(state->lsn), state->timeline);
	fprintf(out, "length %" PRId64 "\noffset %" PRId64 "\nend\n", state->length, state->offset);
	if (fflush(out) != 0 || ferror(out) || fsync(fileno(out)) != 0 || fclose(out) != 0)
		report_failure(EXIT_SINK, "could not write \"%s\": %s", new_path, strerror(errno));
	if (rename(new_path, path) != 0)
		report_failure(EXIT_SINK, "could not rename \"%s\" to \"%s\": %s", new_path, path, strerror(errno));
	sync_folder(path);
	free(new_path);
}
