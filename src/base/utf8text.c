/*
 * utf8text.c
 *		Text in UTF-8, whatever the database's encoding is.
 *
 * A database may hold characters that Unicode does not have: bytes that its encoding leaves
 * unassigned, such as 0x81 in WIN1252, are valid there.  The server's conversions refuse them.
 * Where an order or a digest is made of the text, that must not stop anything: such a character
 * becomes a byte 0xFF, which UTF-8 never has, and its own bytes.  So it comes behind all others,
 * and differs from each.  What SQL_ASCII and MULE_INTERNAL hold cannot be converted, and is taken
 * as it is.
 */
#include "base/utf8text.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#define CHUNK	2048			/* bytes that are converted at once */
#define ROOM	((CHUNK + 1) * MAX_CONVERSION_GROWTH + 1)	/* what they may become */
#define UNKNOWN	'\xff'			/* begins a character that Unicode has not */

bool
es_utf8text_is_needed(const char *bytes, int len)
{
	int			encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || encoding == PG_MULE_INTERNAL)
		return false;
	for (int i = 0; i < len; i++)
		if (IS_HIGHBIT_SET(bytes[i]))
			return true;
	return false;
}

/* Gives the conversion from the database's encoding. */
static Oid
find_conversion(void)
{
	Oid			conversion = FindDefaultConversionProc(GetDatabaseEncoding(), PG_UTF8);

	if (!OidIsValid(conversion))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("default conversion function for encoding \"%s\" to \"%s\" does not exist",
					   GetDatabaseEncodingName(), pg_encoding_to_char(PG_UTF8)));
	return conversion;
}

/* Appends as much of a text as can be converted at once; gives how many of its bytes. */
static int
append_converted(StringInfo out, Oid conversion, const char *bytes, int len)
{
	char	   *end;
	int			taken;

	enlargeStringInfo(out, ROOM);
	end = out->data + out->len;
	taken = pg_do_encoding_conversion_buf(conversion, GetDatabaseEncoding(), PG_UTF8, (unsigned char *) unconstify(char *, bytes),
										  Min(len, CHUNK), (unsigned char *) end, ROOM, true);
	out->len += strlen(end);
	return taken;
}

void
es_utf8text_append(StringInfo out, const char *bytes, int len)
{
	Oid			conversion;

	if (!es_utf8text_is_needed(bytes, len))
	{
		appendBinaryStringInfo(out, bytes, len);
		return;
	}
	conversion = find_conversion();
	while (len > 0)
	{
		int			taken = append_converted(out, conversion, bytes, len);

		CHECK_FOR_INTERRUPTS();
		if (taken == 0)
		{
			taken = pg_encoding_mblen(GetDatabaseEncoding(), bytes);
			taken = Min(taken, len);
			appendStringInfoChar(out, UNKNOWN);
			appendBinaryStringInfo(out, bytes, taken);
		}
		bytes += taken;
		len -= taken;
	}
}
