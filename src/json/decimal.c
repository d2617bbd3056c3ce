/*
 * decimal.c
 *		Numbers in numeric's own form, which is that of jsonb's.
 *
 * Nearly all numbers have few digits and no exponent.  These are written here; all
 * others by numeric_in.  The result is the same, byte for byte: groups of four
 * digits, from the point on, without those that are zero at either end; the number
 * of decimals that the text has; no sign of a zero.
 */
#include "json/decimal.h"

#include "utils/fmgrprotos.h"

#define FEW_BYTES		16		/* of digits, times 1000, fit 64 bits */
#define MOST_GROUPS		5
#define GROUP			10000	/* what a digit of numeric's is below */

/* A number of few digits: a whole one, of which some digits are behind the point. */
typedef struct FewDigits
{
	uint64		digits;
	int			scale;
	bool		negative;
} FewDigits;

/* Reads a number's text; false if it has many digits, or an exponent. */
static bool
read_few_digits(FewDigits *number, const char *json, int len)
{
	const char *end = json + len;
	const char *point = NULL;

	number->negative = *json == '-';
	if (number->negative)
		json++;
	if (end - json > FEW_BYTES)
		return false;
	number->digits = 0;
	for (; json < end; json++)
	{
		if (*json == '.')
			point = json;
		else if (*json >= '0' && *json <= '9')
			number->digits = number->digits * 10 + (*json - '0');
		else
			return false;
	}
	number->scale = point ? (int) (end - point) - 1 : 0;
	return true;
}

/* Writes what follows a number's length, and gives the end. */
static char *
write_few_digits(char *out, const FewDigits *number)
{
	static const int fill[ES_DECIMAL_GROUP] = {1, 1000, 100, 10};
	uint64		rest = number->digits * fill[number->scale % ES_DECIMAL_GROUP];
	int			weight = -((number->scale + ES_DECIMAL_GROUP - 1) / ES_DECIMAL_GROUP);
	int16		groups[MOST_GROUPS];	/* the lowest first */
	int			count = 0;
	uint16		header = ES_DECIMAL_SHORT | (number->scale << 7);

	while (rest != 0 && rest % GROUP == 0)
	{
		rest /= GROUP;
		weight++;
	}
	for (; rest != 0; rest /= GROUP)
		groups[count++] = rest % GROUP;
	if (count > 0)
	{
		weight += count - 1;
		header |= weight & ES_DECIMAL_SHORT_WEIGHTS;
		if (number->negative)
			header |= ES_DECIMAL_SHORT_NEGATIVE;
	}
	memcpy(out, &header, sizeof(header));
	out += sizeof(header);
	while (count > 0)
	{
		memcpy(out, &groups[--count], sizeof(int16));
		out += sizeof(int16);
	}
	return out;
}

/*
 * es_decimal_write writes the numeric of a JSON number, of ES_DECIMAL_MOST_TEXT bytes at
 * most, to a place that is aligned to four bytes, and gives the end.
 */
char *
es_decimal_write(char *out, const char *json, int len)
{
	FewDigits	few;
	char		string[ES_DECIMAL_MOST_TEXT + 1];
	struct varlena *number;
	Size		size;

	if (likely(read_few_digits(&few, json, len)))
	{
		char	   *end = write_few_digits(out + VARHDRSZ, &few);

		SET_VARSIZE(out, end - out);
		return end;
	}
	memcpy(string, json, len);
	string[len] = '\0';
	number = (struct varlena *) DatumGetPointer(DirectFunctionCall3(numeric_in, CStringGetDatum(string),
																	ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	size = VARSIZE_ANY(number);
	memcpy(out, number, size);
	pfree(number);
	return out + size;
}
