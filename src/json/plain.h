/*
 * plain.h
 *		How much of a JSON string stands for itself.
 *
 * Eight bytes are looked at as one word.
 */
#ifndef ES_JSON_PLAIN_H
#define ES_JSON_PLAIN_H

#include "base/base.h"

#include "port/pg_bitutils.h"

#define ES_PLAIN_REPEAT(byte) (UINT64CONST(0x0101010101010101) * (byte))

/* Tells whether a byte of a string has to be escaped. */
static inline bool
es_plain_is_special(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\';
}

/*
 * Marks the highest bit of bytes that have to be escaped.  The lowest mark is right;
 * above it others may be marked, too.
 */
static inline uint64
es_plain_mark_special(uint64 word)
{
	uint64		below = (word - ES_PLAIN_REPEAT(0x20)) |
	((word ^ ES_PLAIN_REPEAT('"')) - ES_PLAIN_REPEAT(1)) |
	((word ^ ES_PLAIN_REPEAT('\\')) - ES_PLAIN_REPEAT(1));

	return below & ~word & ES_PLAIN_REPEAT(0x80);
}

/* es_plain_run gives how many bytes from data on are no quote, backslash or control character. */
static inline Size
es_plain_run(const char *data, Size len)
{
	Size		i = 0;

	for (; i + 8 <= len; i += 8)
	{
		uint64		word;

		memcpy(&word, data + i, 8);
		word = es_plain_mark_special(word);
		if (word == 0)
			continue;
#ifndef WORDS_BIGENDIAN
		return i + pg_rightmost_one_pos64(word) / 8;
#else
		break;
#endif
	}
	while (i < len && !es_plain_is_special(data[i]))
		i++;
	return i;
}

#endif							/* ES_JSON_PLAIN_H */
