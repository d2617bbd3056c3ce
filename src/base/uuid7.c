/*
 * uuid7.c
 *		UUIDs, version 7 (RFC 9562): milliseconds, a fraction of one, random bits.
 *
 * Random bytes are drawn in larger pieces and used up; a backend never shares
 * its pool, since it is filled only after the fork.
 */
#include "base/uuid7.h"

#include <time.h>

#include "miscadmin.h"
#include "port.h"
#include "utils/fmgrprotos.h"

static uint8 pool[1024];
static int	pool_left = 0;

/* Copies random bytes out of the pool. */
static void
draw_random_bytes(uint8 *bytes, int n)
{
	if (pool_left < n)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					errcode(ERRCODE_INTERNAL_ERROR),
					errmsg("could not generate random values"));
		pool_left = sizeof(pool);
	}
	pool_left -= n;
	memcpy(bytes, pool + pool_left, n);
}

/*
 * es_uuid7_make makes a new UUID; those of one process sort as they were made, to a
 * quarter of a microsecond.
 */
void
es_uuid7_make(pg_uuid_t *uuid)
{
	struct timespec now;
	uint64		ms;
	uint32		fraction;		/* of the millisecond, in 1/4096 */

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (uint64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
	fraction = (uint32) ((uint64) (now.tv_nsec % 1000000) * 4096 / 1000000);
	for (int i = 0; i < 6; i++)
		uuid->data[i] = (uint8) (ms >> (8 * (5 - i)));
	uuid->data[6] = 0x70 | (fraction >> 8);
	uuid->data[7] = (uint8) fraction;
	draw_random_bytes(uuid->data + 8, 8);
	uuid->data[8] = 0x80 | (uuid->data[8] & 0x3f);
}

/* The value of a hex digit; -1: it is none. */
static int
hex_digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/*
 * es_uuid7_read reads a string as uuid_in does: 32 hex digits, hyphens after groups of
 * four, braces.  False if it is none.
 */
bool
es_uuid7_read(const char *string, int len, pg_uuid_t *uuid)
{
	int			digits = 0;
	int			i = 0;
	bool		braces = len > 0 && string[0] == '{';

	if (braces)
		i++;
	for (; digits < 2 * UUID_LEN; i++)
	{
		int			value;

		if (i < len && string[i] == '-' && digits > 0 && digits % 4 == 0 && string[i - 1] != '-')
			continue;
		if (i >= len || (value = hex_digit_value(string[i])) < 0)
			return false;
		if (digits % 2 == 0)
			uuid->data[digits / 2] = value << 4;
		else
			uuid->data[digits / 2] |= value;
		digits++;
	}
	if (braces && (i >= len || string[i++] != '}'))
		return false;
	return i == len;
}

/* es_uuid7_show gives the text of a UUID. */
char *
es_uuid7_show(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}
