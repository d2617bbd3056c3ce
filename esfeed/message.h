/*
 * message.h
 *		Messages of a feed, as far as a consumer has to understand them.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An event's message; the text belongs to whoever filled the struct. */
typedef struct Message
{
	const char *text;
	size_t		length;
	int64_t		position;
	const char *stream;			/* as JSON has it, without the quotes */
	size_t		stream_length;
} Message;

extern bool message_scan(Message *message, const char *text, size_t length);
extern size_t message_line(const Message *message, char *to);
extern size_t message_key(const Message *message, char *key);

#endif							/* MESSAGE_H */
