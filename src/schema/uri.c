/*
 * uri.c
 *		References to schemas, resolved as RFC 3986 has it.
 *
 * Nothing is fetched: URIs are names, and the same if they are the same text once they
 * are resolved.  A schema without a URI has the empty one, so bases need not be absolute.
 */
#include "schema/uri.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

/* A part of a URI; start NULL: it does not have that part. */
typedef struct UriPart
{
	const char *start;
	int			len;
} UriPart;

/* A reference's parts.  The path is there always, if only as an empty one. */
typedef struct UriParts
{
	UriPart		scheme;
	UriPart		authority;
	UriPart		path;
	UriPart		query;
	UriPart		fragment;
} UriParts;

/* Takes what is before one of some characters. */
static UriPart
take_uri_part(const char **at, const char *ends)
{
	UriPart		part = {*at, strcspn(*at, ends)};

	*at += part.len;
	return part;
}

/* Splits a reference into its parts. */
static UriParts
split_uri(const char *text)
{
	UriParts	parts = {{NULL}};
	int			colon = strcspn(text, ":/?#");

	if (text[colon] == ':' && colon > 0)
	{
		parts.scheme = take_uri_part(&text, ":");
		text	  ++;
	}
	if (text[0] == '/' && text[1] == '/')
	{
		text	  +=2;

		parts.authority = take_uri_part(&text, "/?#");
	}
	parts.path = take_uri_part(&text, "?#");
	if (*text == '?')
	{
		text	  ++;

		parts.query = take_uri_part(&text, "#");
	}
	if (*text == '#')
	{
		parts.fragment.start = text +1;

		parts.fragment.len = strlen(text +1);
	}
	return parts;
}

/* Drops the last segment of a path that has been written since "start". */
static void
drop_last_segment(StringInfo out, int start)
{
	while (out->len > start && out->data[out->len - 1] != '/')
		out->len--;
	if (out->len > start)
		out->len--;
	out->data[out->len] = '\0';
}

/* Appends a path without its segments "." and "..". */
static void
append_plain_path(StringInfo out, const char *path, int len)
{
	const char *end = path + len;
	int			start = out->len;
	bool		rooted = len > 0 && path[0] == '/';
	bool		slash = rooted;

	for (const char *at = rooted ? path + 1 : path; at <= end;)
	{
		const char *next = memchr(at, '/', end - at);
		int			size = (next ? next : end) - at;
		bool		up = size == 2 && at[0] == '.' && at[1] == '.';

		if (up)
		{
			drop_last_segment(out, start);
			slash = rooted || out->len > start;
		}
		if (up || (size == 1 && at[0] == '.'))
		{
			if (next == NULL && slash)
				appendStringInfoChar(out, '/');
		}
		else
		{
			if (slash)
				appendStringInfoChar(out, '/');
			appendBinaryStringInfo(out, at, size);
			slash = true;
		}
		if (next == NULL)
			break;
		at = next + 1;
	}
}

/* Appends a reference's path, taken from its base's directory. */
static void
append_merged_path(StringInfo out, const UriParts *base, const UriPart *path)
{
	StringInfoData merged;
	int			directory = base->path.len;

	initStringInfo(&merged);
	while (directory > 0 && base->path.start[directory - 1] != '/')
		directory--;
	if (base->authority.start && base->path.len == 0)
		appendStringInfoChar(&merged, '/');
	else
		appendBinaryStringInfo(&merged, base->path.start, directory);
	appendBinaryStringInfo(&merged, path->start, path->len);
	append_plain_path(out, merged.data, merged.len);
	pfree(merged.data);
}

/* Gives UTF-8 in the server's encoding; NULL if it is none, or has what that has not. */
static char *
decode_utf8(char *text, int len)
{
	int			encoding = GetDatabaseEncoding();
	Oid			conversion;
	Size		space = (Size) len * MAX_CONVERSION_GROWTH + 1;
	char	   *decoded;

	if (pg_encoding_verifymbstr(PG_UTF8, text, len) != len)
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return text;

	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion) || space > MaxAllocSize)
		return NULL;
	decoded = palloc0(space);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, (unsigned char *) text, len,
									  (unsigned char *) decoded, space, true) != len)
		return NULL;
	return decoded;
}

/* Undoes the escapes of a fragment.  Bytes become text of the server's encoding. */
static char *
decode_fragment(const UriPart *part)
{
	char	   *text = palloc(part->len + 1);
	int			len = 0;
	bool		decoded = false;

	for (int i = 0; i < part->len; i++)
	{
		unsigned int byte = 0;

		if (part->start[i] == '%' && i + 2 < part->len &&
			isxdigit((unsigned char) part->start[i + 1]) && isxdigit((unsigned char) part->start[i + 2]) &&
			sscanf(part->start + i + 1, "%2x", &byte) == 1 && byte != 0)
		{
			i += 2;
			decoded |= byte >= 0x80;
		}
		else
			byte = (unsigned char) part->start[i];
		text[		len++] = byte;
	}
	text[		len] = '\0';
	return decoded ? decode_utf8(text, len) : text;
}

/* Appends scheme, authority, path and query of a reference, as far as it has them. */
static void
append_resolved(StringInfo out, const UriParts *base, const UriParts *reference)
{
	const UriParts *top = reference->scheme.start ? reference : base;
	const UriParts *host = top == reference || reference->authority.start ? reference : base;
	const UriPart *query = &reference->query;

	if (top->scheme.start)
		appendStringInfo(out, "%.*s:", top->scheme.len, top->scheme.start);
	if (host->authority.start)
		appendStringInfo(out, "//%.*s", host->authority.len, host->authority.start);
	if (host == reference || (reference->path.len > 0 && reference->path.start[0] == '/'))
		append_plain_path(out, reference->path.start, reference->path.len);
	else if (reference->path.len > 0)
		append_merged_path(out, base, &reference->path);
	else
	{
		appendBinaryStringInfo(out, base->path.start, base->path.len);
		if (query->start == NULL)
			query = &base->query;
	}
	if (query->start)
		appendStringInfo(out, "?%.*s", query->len, query->start);
}

char *
es_uri_resolve(const char *base, const char *reference, char **fragment)
{
	UriParts	base_parts = split_uri(base);
	UriParts	parts = split_uri(reference);
	StringInfoData out;
	char	   *uri;

	initStringInfo(&out);
	append_resolved(&out, &base_parts, &parts);
	*fragment = decode_fragment(&parts.fragment);
	uri = pnstrdup(out.data, out.len);
	pfree(out.data);
	return uri;
}
