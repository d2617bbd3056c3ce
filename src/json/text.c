/*
 * text.c
 *		Writing JSON text, faster than the server's own functions do.
 *
 * The text is the same, byte for byte, as that of a jsonb's output function.
 * A feed spends most of its own time here: strings are copied in runs, up to
 * the next character that must be escaped, instead of byte by byte.
 *
 * Scratch goes into the current memory context.
 */
#include "json/text.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "json/plain.h"

/* The character that stands for another one behind a backslash; 0 if there is none. */
static char
short_escape(unsigned char c)
{
	static const char short_forms[] = "\bb\ff\nn\rr\tt\"\"\\\\";

	for (const char *p = short_forms; *p; p += 2)
		if (*p == c)
			return p[1];
	return 0;
}

/* Appends an escaped character. */
static void
append_escaped_byte(StringInfo out, unsigned char c)
{
	char		shorter = short_escape(c);

	if (shorter)
	{
		appendStringInfoCharMacro(out, '\\');
		appendStringInfoCharMacro(out, shorter);
	}
	else
		appendStringInfo(out, "\\u%04x", c);
}

/* es_jsontext_escapes tells how many bytes a part of a string grows by in a JSON string. */
int
es_jsontext_escapes(const char *data, int len)
{
	int			grows = 0;

	for (;;)
	{
		int			run = (int) es_plain_run(data, len);

		if (run == len)
			return grows;
		grows += short_escape(data[run]) ? 1 : 5;
		data += run + 1;
		len -= run + 1;
	}
}

/* es_jsontext_string appends a JSON string. */
void
es_jsontext_string(StringInfo out, const char *data, int len)
{
	appendStringInfoCharMacro(out, '"');
	for (;;)
	{
		int			run = (int) es_plain_run(data, len);

		appendBinaryStringInfo(out, data, run);
		if (run == len)
			break;
		append_escaped_byte(out, data[run]);
		data += run + 1;
		len -= run + 1;
	}
	appendStringInfoCharMacro(out, '"');
}

/* Appends a scalar. */
static void
append_scalar(StringInfo out, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			appendBinaryStringInfo(out, "null", 4);
			break;
		case jbvString:
			es_jsontext_string(out, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoString(out, DatumGetCString(DirectFunctionCall1(numeric_out,
																			NumericGetDatum(value->val.numeric))));
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		default:
			elog(ERROR, "unexpected type %d of a jsonb scalar", (int) value->type);
	}
}

/*
 * es_jsontext_time makes the text of a time, in UTC, without quotes, in a buffer of
 * MAXDATELEN + 1 bytes; returns its length.
 */
int
es_jsontext_time(char *buf, TimestampTz time)
{
	int			utc = 0;

	JsonEncodeDateTime(buf, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	return strlen(buf);
}

/* es_jsontext_quoted_time appends a time as a JSON string. */
void
es_jsontext_quoted_time(StringInfo out, TimestampTz time)
{
	char		buf[MAXDATELEN + 1];
	int			len = es_jsontext_time(buf, time);

	appendStringInfoChar(out, '"');
	appendBinaryStringInfo(out, buf, len);
	appendStringInfoChar(out, '"');
}

/* es_jsontext_uuid appends a UUID as a JSON string. */
void
es_jsontext_uuid(StringInfo out, const pg_uuid_t *uuid)
{
	static const char hex[] = "0123456789abcdef";
	char		buf[2 * UUID_LEN + 6];
	char	   *p = buf;

	*p++ = '"';
	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[uuid->data[i] >> 4];
		*p++ = hex[uuid->data[i] & 0x0f];
	}
	*p = '"';
	appendBinaryStringInfo(out, buf, sizeof(buf));
}

/* es_jsontext_integer appends an integer; a format would take several times as long. */
void
es_jsontext_integer(StringInfo out, int64 value)
{
	char		buf[MAXINT8LEN + 1];

	appendBinaryStringInfo(out, buf, pg_lltoa(value, buf));
}

/* es_jsontext_text appends a text as a JSON string. */
void
es_jsontext_text(StringInfo out, Datum value)
{
	text	   *string = DatumGetTextPP(value);

	es_jsontext_string(out, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

/* es_jsontext_jsonb appends the text of a jsonb. */
void
es_jsontext_jsonb(StringInfo out, Jsonb *json)
{
	JsonbIterator *iterator = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		first = true;	/* no comma before what comes next */

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		bool		ends = token == WJB_END_ARRAY || token == WJB_END_OBJECT;
		bool		bare = token == WJB_BEGIN_ARRAY && value.val.array.rawScalar;

		CHECK_FOR_INTERRUPTS();
		if (!first && !ends)
			appendBinaryStringInfo(out, ", ", 2);
		first = false;
		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
		{
			if (!bare)
				appendStringInfoChar(out, token == WJB_BEGIN_OBJECT ? '{' : '[');
			first = true;
		}
		else if (ends)
		{
			if (!JB_ROOT_IS_SCALAR(json))
				appendStringInfoChar(out, token == WJB_END_OBJECT ? '}' : ']');
		}
		else
			append_scalar(out, &value);
		if (token == WJB_KEY)
		{
			appendBinaryStringInfo(out, ": ", 2);
			first = true;
		}
	}
}
