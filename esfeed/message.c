/*
 * message.c
 *		Messages of a feed, as far as a consumer has to understand them.
 *
 * The position names an event: no two have the same, and none comes back with
 * another event, not even after the promotion of a standby that had missed
 * some.  Stream and version would not do there.
 *
 * A message is an object without line breaks.  Its members are walked from the
 * left until position and stream are found, which is long before the data.
 */
#include "message.h"

#include <string.h>

/* Steps over a JSON string; returns what follows it, NULL if it does not end. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p < end; p++)
	{
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p + 1;
	}
	return NULL;
}

/* Steps over any JSON value; returns what follows it, NULL if it does not end. */
static const char *
skip_value(const char *p, const char *end)
{
	int			depth = 0;

	while (p != NULL && p < end)
	{
		if (*p == '"')
			p = skip_string(p, end);
		else if (depth == 0 && (*p == ',' || *p == '}'))
			return p;
		else
		{
			if (*p == '{' || *p == '[')
				depth++;
			else if (*p == '}' || *p == ']')
				depth--;
			p++;
		}
	}
	return NULL;
}

/* Tells whether a JSON string is a name. */
static bool
is_name(const char *start, const char *end, const char *name)
{
	size_t		length = strlen(name);

	return (size_t) (end - start) == length + 2 && memcmp(start + 1, name, length) == 0;
}

/* Reads a position, a number or a string of digits. */
static int64_t
read_position(const char *p, const char *end)
{
	int64_t		position = 0;

	if (p < end && *p == '"')
		p++;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
	{
		if (position > (INT64_MAX - 9) / 10)
			return 0;
		position = position * 10 + (*p - '0');
	}
	return position;
}

/* Keeps a member that is wanted. */
static void
keep_member(Message *message, const char *name, const char *colon, const char *value_end)
{
	const char *value = colon + 1;

	if (is_name(name, colon, "position"))
		message->position = read_position(value, value_end);
	else if ((is_name(name, colon, "stream") || is_name(name, colon, "subject")) &&
			 *value == '"' && value_end - value >= 2)
	{
		message->stream = value + 1;
		message->stream_length = (size_t) (value_end - value) - 2;
	}
}

/* message_scan finds position and stream; false: it is no message of an event. */
bool
message_scan(Message *message, const char *text, size_t length)
{
	const char *end = &text[length];
	const char *p = text;

	memset(message, 0, sizeof(*message));
	message->length = length;
	message->text = text;

	if (length < 2 || *p != '{' || end[-1] != '}')
		return false;
	while (*p == '{' || *p == ',')
	{
		const char *name = p + 1;
		const char *colon;

		if (name >= end || *name != '"')
			return false;
		colon = skip_string(name, end);
		if (colon == NULL || colon >= end || *colon != ':' || colon + 1 >= end)
			return false;
		p = skip_value(colon + 1, end);
		if (p == NULL)
			return false;
		keep_member(message, name, colon, p);
		if (message->position > 0 && message->stream != NULL)
			return true;
	}
	return false;
}

/*
 * message_line writes the message and a line break to where there is room for
 * both, and returns how long they are.
 */
size_t
message_line(const Message *message, char *to)
{
	memcpy(to, message->text, message->length);
	to[message->length] = '\n';
	return message->length + 1;
}

/*
 * message_key writes the stream's name without JSON's escapes into key, which
 * has room for stream_length bytes, and returns its length.  Names have no
 * control characters, so there are no escapes but that of the character itself.
 */
size_t
message_key(const Message *message, char *key)
{
	size_t		length = 0;

	for (size_t i = 0; i < message->stream_length; i++)
	{
		if (message->stream[i] == '\\' && i + 1 < message->stream_length)
			i++;
		key[length++] = message->stream[i];
	}
	return length;
}
