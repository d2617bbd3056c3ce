/*
 * base64.h
 *		Base64, strict and fast.
 */
#ifndef ES_SECRET_BASE64_H
#define ES_SECRET_BASE64_H

#include "base/base.h"

/* How long so many bytes are in base64, and how many bytes so much base64 has at most. */
static inline Size
es_base64_encoded_len(Size len)
{
	return (len + 2) / 3 * 4;
}

static inline Size
es_base64_decoded_len(Size len)
{
	return len / 4 * 3;
}

extern void es_base64_encode(const uint8 *bytes, Size len, char *base64);
extern int	es_base64_decode(const char *base64, Size len, uint8 *bytes);

#endif							/* ES_SECRET_BASE64_H */
