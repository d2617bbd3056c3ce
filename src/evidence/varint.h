/*
 * varint.h
 *		Numbers written seven bits at a time.
 */
#ifndef ES_EVIDENCE_VARINT_H
#define ES_EVIDENCE_VARINT_H

#include "base/base.h"

#include "lib/stringinfo.h"

/* es_varint_append writes a number, lowest bits first; the highest bit says that more follow. */
static inline void
es_varint_append(StringInfo out, uint64 number)
{
	for (; number >= 0x80; number >>= 7)
		appendStringInfoChar(out, (char) (number | 0x80));
	appendStringInfoChar(out, (char) number);
}

/* es_varint_read reads one and goes past it; false if there is none. */
static inline bool
es_varint_read(const uint8 **at, const uint8 *end, uint64 *number)
{
	*number = 0;
	for (int shift = 0; shift < 64 && *at < end; shift += 7)
	{
		uint8		byte = *(*at)++;

		*number |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

#endif							/* ES_EVIDENCE_VARINT_H */
