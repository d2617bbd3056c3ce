/*
 * bounds.c
 *		Limits of numbers and of counts, exact.
 *
 * Division takes time that grows with the product of the numbers' digits, and cannot be
 * interrupted, so it is done only with numbers that people write.  That of others is
 * not known, which whoever asks has to expect.  Integers are found without a division.
 * Limits may be the largest numbers that there are, so what is added to them is so that
 * the sum is one, too.
 */
#include "schema/bounds.h"

#include "utils/builtins.h"

/* What is nearer to 0 can be added to. */
#define LARGE_NUMBER	"1e131071"

/* Numbers from -10^36 to 10^36, with at most 36 digits behind the point, are divided. */
#define MAX_DIVIDED_DIGITS	36

/* es_bounds_compare gives less than 0, 0, or more than 0. */
int
es_bounds_compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/* es_bounds_one gives the number 1. */
Numeric
es_bounds_one(void)
{
	return int64_to_numeric(1);
}

/* es_bounds_raise has a lower limit be at least another one. */
void
es_bounds_raise(EsBound *lower, Numeric value, bool open)
{
	int			order = lower->value == NULL ? -1 : es_bounds_compare(lower->value, value);

	if (order < 0)
	{
		lower->value = value;
		lower->open = open;
	}
	else if (order == 0)
		lower->open = lower->open || open;
}

/* es_bounds_reduce has an upper limit be at most another one. */
void
es_bounds_reduce(EsBound *upper, Numeric value, bool open)
{
	int			order = upper->value == NULL ? 1 : es_bounds_compare(upper->value, value);

	if (order > 0)
	{
		upper->value = value;
		upper->open = open;
	}
	else if (order == 0)
		upper->open = upper->open || open;
}

/* es_bounds_meet tells whether a number may be between the two. */
bool
es_bounds_meet(const EsBound *lower, const EsBound *upper)
{
	int			order;

	if (lower->value == NULL || upper->value == NULL)
		return true;
	order = es_bounds_compare(lower->value, upper->value);
	return order < 0 || (order == 0 && !lower->open && !upper->open);
}

/* Tells whether a number may be divided. */
static bool
is_easily_divided(Numeric number)
{
	Datum		scale = DirectFunctionCall1(numeric_scale, NumericGetDatum(number));
	Datum		size;
	Numeric		most;

	if (DatumGetInt32(scale) > MAX_DIVIDED_DIGITS)
		return false;
	size = DirectFunctionCall1(numeric_abs, NumericGetDatum(number));
	most = DatumGetNumeric(DirectFunctionCall2(numeric_power, NumericGetDatum(int64_to_numeric(10)),
											   NumericGetDatum(int64_to_numeric(MAX_DIVIDED_DIGITS))));
	return es_bounds_compare(DatumGetNumeric(size), most) <= 0;
}

/* Gives what is left of a number, with its sign, when it is divided. */
static Numeric
find_remainder(Numeric number, Numeric divisor)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_mod, NumericGetDatum(number), NumericGetDatum(divisor)));
}

/* Tells whether a number is 0. */
static bool
is_zero(Numeric number)
{
	return es_bounds_compare(number, int64_to_numeric(0)) == 0;
}

/*
 * es_bounds_divides tells whether every multiple of a number is one of the divisor, too.
 * *sure becomes false if that is not known; then it says no.
 */
bool
es_bounds_divides(Numeric divisor, Numeric number, bool *sure)
{
	if (es_bounds_compare(divisor, number) == 0)
		return true;
	if (!is_easily_divided(divisor) || !is_easily_divided(number))
	{
		*sure = false;
		return false;
	}
	return is_zero(find_remainder(number, divisor));
}

/* Adds to a number, or subtracts from it. */
static Numeric
move_number(Numeric number, Numeric by, bool up)
{
	return DatumGetNumeric(DirectFunctionCall2(up ? numeric_add : numeric_sub, NumericGetDatum(number), NumericGetDatum(by)));
}

/* Tells whether a number is so large that one more, or less, may be none. */
static bool
is_large(Numeric number)
{
	Datum		size = DirectFunctionCall1(numeric_abs, NumericGetDatum(number));
	Datum		large = DirectFunctionCall3(numeric_in, CStringGetDatum(LARGE_NUMBER),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	return es_bounds_compare(DatumGetNumeric(size), DatumGetNumeric(large)) >= 0;
}

/* Moves a limit to the next integer that it allows, unless that may be too large. */
static void
round_to_integer(EsBound *bound, bool up)
{
	Numeric		whole = DatumGetNumeric(DirectFunctionCall2(numeric_trunc, NumericGetDatum(bound->value), Int32GetDatum(0)));
	int			order = es_bounds_compare(bound->value, whole);

	if (order == 0 ? bound->open : (order > 0) == up)
	{
		if (is_large(whole))
			return;
		whole = move_number(whole, es_bounds_one(), up);
	}
	bound->value = whole;
	bound->open = false;
}

/*
 * Moves a limit to the next multiple of a step that it allows.  The step is more than 0.
 * The remainder has the number's sign, so without it a number comes nearer to 0.
 */
static void
round_bound(EsBound *bound, Numeric step, bool up)
{
	Numeric		rest;
	Numeric		rounded;

	if (bound->value == NULL)
		return;
	if (es_bounds_compare(step, es_bounds_one()) == 0)
	{
		round_to_integer(bound, up);
		return;
	}
	if (!is_easily_divided(bound->value) || !is_easily_divided(step))
		return;
	rest = find_remainder(bound->value, step);
	if (is_zero(rest))
		rounded = bound->open ? move_number(bound->value, step, up) : bound->value;
	else
	{
		rounded = move_number(bound->value, rest, false);
		if (up == (es_bounds_compare(rest, int64_to_numeric(0)) > 0))
			rounded = move_number(rounded, step, up);
	}
	bound->value = rounded;
	bound->open = false;
}

/* es_bounds_round_up raises a lower limit to the least multiple of a step. */
void
es_bounds_round_up(EsBound *lower, Numeric step)
{
	round_bound(lower, step, true);
}

/* es_bounds_round_down reduces an upper limit to the greatest multiple of a step. */
void
es_bounds_round_down(EsBound *upper, Numeric step)
{
	round_bound(upper, step, false);
}

/*
 * es_bounds_count_integers counts the integers between two limits, from the lower one on,
 * which must be one; more than "most": there are more, or it is not known.
 */
int
es_bounds_count_integers(const EsBound *lower, const EsBound *upper, int most)
{
	Numeric		far = int64_to_numeric(most);
	bool		many;

	if (lower->value == NULL || upper->value == NULL || lower->open || upper->open ||
		DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(lower->value))) != 0)
		return most + 1;
	if (!es_bounds_meet(lower, upper))
		return 0;
	if (es_bounds_compare(upper->value, int64_to_numeric(0)) > 0)
		many = es_bounds_compare(lower->value, move_number(upper->value, far, false)) <= 0;
	else
		many = es_bounds_compare(move_number(lower->value, far, true), upper->value) <= 0;
	if (many)
		return most + 1;
	return 1 + DatumGetInt32(DirectFunctionCall1(numeric_int4,
												 NumericGetDatum(move_number(upper->value, lower->value, false))));
}
