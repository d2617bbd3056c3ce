/*
 * utf8.h
 *		Strings in UTF-8, whatever the database's encoding is.
 *
 * What is encrypted or authenticated must be the same bytes in a database of another
 * encoding, which a dump converts everything else to.
 */
#ifndef ES_SECRET_UTF8_H
#define ES_SECRET_UTF8_H

#include "base/base.h"

#include "mb/pg_wchar.h"

/* es_utf8_convert gives a string in another encoding; *len becomes its length. */
static inline const char *
es_utf8_convert(const char *bytes, int *len, int from, int to)
{
	const char *converted;

	if (likely(from == to || from == PG_SQL_ASCII || to == PG_SQL_ASCII || *len == 0))
		return bytes;
	converted = (const char *) pg_do_encoding_conversion((unsigned char *) unconstify(char *, bytes), *len, from, to);
	if (converted != bytes)
		*len = strlen(converted);
	return converted;
}

/* es_utf8_of gives a string of the database's in UTF-8. */
static inline const char *
es_utf8_of(const char *bytes, int *len)
{
	return es_utf8_convert(bytes, len, GetDatabaseEncoding(), PG_UTF8);
}

/* es_utf8_to_server gives a string in UTF-8 in the database's encoding. */
static inline const char *
es_utf8_to_server(const char *bytes, int *len)
{
	return es_utf8_convert(bytes, len, PG_UTF8, GetDatabaseEncoding());
}

#endif							/* ES_SECRET_UTF8_H */
