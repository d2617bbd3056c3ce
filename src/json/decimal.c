/*
 * decimal.c
 *		Numbers in numeric's own form, which is that of jsonb's.
 *
 * Nearly all numbers have few digits and no exponent.  These are written here; all
 * others by numeric_in.  The result is the same, byte for byte: groups of four
 * digits, from the point on, without those that are zero at either end; the number
 * of decimals that the text has; no sign of a zero.
 *
 * In the same way most sums are of few digits, and are made here; all others are numeric_add's.
 */
#include "json/decimal.h"

#include "utils/fmgrprotos.h"

#define FEW_BYTES		16		/* of digits, times 1000, fit 64 bits */
#define MOST_GROUPS		5
#define GROUP			10000	/* what a digit of numeric's is below */
#define MOST_WEIGHT		2		/* ten-thousandths of two such numbers fit 64
								 * bits */

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

/*
 * Writes what follows a number's length, and gives the end.  The number is one of groups, the
 * last of which has the weight.
 */
static char *
write_groups(char *out, uint64 rest, int weight, int scale, bool negative)
{
	int16		groups[MOST_GROUPS];	/* the lowest first */
	int			count = 0;
	uint16		header = ES_DECIMAL_SHORT | (scale << 7);

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
		if (negative)
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

/* Does so with a number of few digits. */
static char *
write_few_digits(char *out, const FewDigits *number)
{
	static const int fill[ES_DECIMAL_GROUP] = {1, 1000, 100, 10};

	return write_groups(out, number->digits * fill[number->scale % ES_DECIMAL_GROUP],
						-((number->scale + ES_DECIMAL_GROUP - 1) / ES_DECIMAL_GROUP), number->scale, number->negative);
}

/*
 * Reads a numeric of few groups, of which one at most is behind the point: how many
 * ten-thousandths it is; false if it is none.
 */
static inline bool
read_few_groups(const char *numeric, int64 *parts, int *scale)
{
	uint16		header;
	int			weight;
	int			count;
	int64		sum = 0;

	if (!VARATT_IS_4B_U(numeric))
		return false;
	memcpy(&header, numeric + VARHDRSZ, sizeof(header));
	if ((header & ES_DECIMAL_KIND) != ES_DECIMAL_SHORT)
		return false;
	weight = ES_DECIMAL_SHORT_WEIGHT(header);
	count = (VARSIZE_4B(numeric) - VARHDRSZ - sizeof(header)) / sizeof(int16);
	if (weight < -1 || weight > MOST_WEIGHT || count > weight + 2)
		return false;
	for (int i = 0; i <= weight + 1; i++)
	{
		int16		group = 0;

		if (i < count)
			memcpy(&group, numeric + VARHDRSZ + sizeof(header) + i * sizeof(int16), sizeof(group));
		sum = sum * GROUP + group;
	}
	*parts = header & ES_DECIMAL_SHORT_NEGATIVE ? -sum : sum;
	*scale = ES_DECIMAL_SHORT_SCALE(header);
	return true;
}

/*
 * es_decimal_add writes the sum of two numerics, as numeric_add makes it, and gives its
 * length; 0 if they have more digits than that.
 */
int
es_decimal_add(EsDecimalSum *sum, const char *a, const char *b)
{
	int64		left;
	int64		right;
	int			left_scale;
	int			right_scale;
	char	   *bytes = (char *) sum->words;
	int			len;

	if (!read_few_groups(a, &left, &left_scale) || !read_few_groups(b, &right, &right_scale))
		return 0;
	left += right;
	len = write_groups(bytes + VARHDRSZ, left < 0 ? -left : left, -1, Max(left_scale, right_scale), left < 0) - bytes;
	SET_VARSIZE(bytes, len);
	return len;
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
