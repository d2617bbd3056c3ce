/*
 * base64.c
 *		Base64, strict and fast.
 *
 * Every byte of a protected field goes through it, each time that the field is read: the
 * server's own goes through them one by one.  There is one form of any bytes, as RFC 4648 has
 * it; nothing else is decoded: no line breaks, no padding left out, no bits that stand for
 * nothing but are set.
 */
#include "secret/base64.h"

#define INVALID		0x80		/* no digit of base64 has this bit */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* What a character stands for. */
static uint8 values[256];

/* Fills the table of values in, once a process. */
static void
prepare_values(void)
{
	if (values['B'] == 1)
		return;
	memset(values, INVALID, sizeof(values));
	for (int i = 0; i < 64; i++)
		values[(uint8) digits[i]] = i;
}

/* es_base64_encode encodes bytes; there must be room for es_base64_encoded_len() characters. */
void
es_base64_encode(const uint8 *bytes, Size len, char *base64)
{
	for (; len >= 3; len -= 3, bytes += 3, base64 += 4)
	{
		uint32		group = bytes[0] << 16 | bytes[1] << 8 | bytes[2];

		base64[0] = digits[group >> 18];
		base64[1] = digits[group >> 12 & 63];
		base64[2] = digits[group >> 6 & 63];
		base64[3] = digits[group & 63];
	}
	if (len > 0)
	{
		uint32		group = bytes[0] << 16 | (len > 1 ? bytes[1] << 8 : 0);

		base64[0] = digits[group >> 18];
		base64[1] = digits[group >> 12 & 63];
		base64[2] = len > 1 ? digits[group >> 6 & 63] : '=';
		base64[3] = '=';
	}
}

/* Decodes the last group, which may be padded; how many bytes it has, -1: it is not base64. */
static int
decode_last_group(const char *base64, uint8 *bytes)
{
	int			count = base64[3] != '=' ? 3 : base64[2] != '=' ? 2 : 1;
	uint8		c = count > 1 ? values[(uint8) base64[2]] : 0;
	uint8		d = count > 2 ? values[(uint8) base64[3]] : 0;
	uint8		a = values[(uint8) base64[0]];
	uint8		b = values[(uint8) base64[1]];
	uint32		group = a << 18 | b << 12 | c << 6 | d;

	if (((a | b | c | d) & INVALID) != 0 || (group & ((1 << 8 * (3 - count)) - 1)) != 0)
		return -1;
	for (int i = 0; i < count; i++)
		bytes[i] = group >> (16 - 8 * i);
	return count;
}

/*
 * es_base64_decode decodes base64; there must be room for es_base64_decoded_len() bytes.  How
 * many there are, -1: it is not base64.
 */
int
es_base64_decode(const char *base64, Size len, uint8 *bytes)
{
	const char *last = base64 + len - 4;
	uint8	   *start = bytes;
	uint8		all = 0;
	int			rest;

	if (len == 0)
		return 0;
	if (len % 4 != 0)
		return -1;
	prepare_values();
	for (; base64 < last; base64 += 4, bytes += 3)
	{
		uint8		a = values[(uint8) base64[0]];
		uint8		b = values[(uint8) base64[1]];
		uint8		c = values[(uint8) base64[2]];
		uint8		d = values[(uint8) base64[3]];

		all |= a | b | c | d;
		bytes[0] = a << 2 | b >> 4;
		bytes[1] = b << 4 | c >> 2;
		bytes[2] = c << 6 | d;
	}
	rest = decode_last_group(last, bytes);
	return rest < 0 || (all & INVALID) != 0 ? -1 : (int) (bytes - start) + rest;
}
