/*
 * order.c
 *		JSON values compared: an order of all of them, sets, and equal ones found.
 *
 * Values are equal as JSON Schema has it: numbers by what they are, so 1 and 1.0, and
 * objects whatever the order of their members.  The order itself means nothing; it is
 * there so that sets are searched by halves, and that equal values of a long array
 * become neighbours.  Sorting, other than hashing, costs no more for values that
 * somebody chose with care.
 */
#include "schema/order.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#define FEW_ELEMENTS	8		/* compared each with each */

void
es_order_check_depth(void)
{
	if (unlikely(stack_is_too_deep()))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("JSON value is nested too deeply to be held against a schema"));
}

/* Where a value stands among values of other kinds. */
static int
rank_value(const EsNode *value)
{
	if (value->kind != ES_NODE_PACKED)
		return value->kind;
	return ES_NODE_PACKED + (es_node_is_packed_object(value) ? 1 : 0);
}

/* Compares two runs of bytes, shorter ones first. */
static int
compare_byte_runs(const EsNode *a, const EsNode *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->value.bytes, b->value.bytes, a->len);
}

/* Compares two packed arrays. */
static int
compare_packed_arrays(const EsNode *a, const EsNode *b)
{
	EsPackedReader left;
	EsPackedReader right;
	EsNode		one;
	EsNode		other;
	int			order = 0;

	es_node_begin_elements(&left, a);
	es_node_begin_elements(&right, b);
	if (left.count != right.count)
		return left.count < right.count ? -1 : 1;
	while (order == 0 && es_node_next_element(&left, &one) && es_node_next_element(&right, &other))
		order = es_order_compare(&one, &other);
	return order;
}

/* Compares two packed objects; both have their keys in the same order. */
static int
compare_packed_objects(const EsNode *a, const EsNode *b)
{
	EsPackedReader left;
	EsPackedReader right;
	EsNode		key;
	EsNode		other_key;
	EsNode		one;
	EsNode		other;
	int			order = 0;

	es_node_begin_members(&left, a);
	es_node_begin_members(&right, b);
	if (left.count != right.count)
		return left.count < right.count ? -1 : 1;
	while (order == 0 && es_node_next_member(&left, &key, &one) &&
		   es_node_next_member(&right, &other_key, &other))
	{
		order = compare_byte_runs(&key, &other_key);
		if (order == 0)
			order = es_order_compare(&one, &other);
	}
	return order;
}

/* es_order_compare gives less than, equal to, or greater than 0, for two views. */
int
es_order_compare(const EsNode *a, const EsNode *b)
{
	int			rank = rank_value(a);
	int			other = rank_value(b);

	if (rank != other)
		return rank < other ? -1 : 1;
	switch (a->kind)
	{
		case ES_NODE_BOOL:
			return (int) a->value.boolean - (int) b->value.boolean;
		case ES_NODE_STRING:
			return compare_byte_runs(a, b);
		case ES_NODE_NUMBER:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, PointerGetDatum(a->value.bytes),
													 PointerGetDatum(b->value.bytes)));
		case ES_NODE_PACKED:
			CHECK_FOR_INTERRUPTS();
			es_order_check_depth();
			if (compare_byte_runs(a, b) == 0)
				return 0;
			return es_node_is_packed_object(a) ? compare_packed_objects(a, b) : compare_packed_arrays(a, b);
		default:
			return 0;
	}
}

/* es_order_is_equal tells whether two views are of equal values. */
bool
es_order_is_equal(const EsNode *a, const EsNode *b)
{
	return a->kind == b->kind && es_order_compare(a, b) == 0;
}

/* Orders two values, for qsort. */
static int
compare_listed_values(const void *a, const void *b)
{
	CHECK_FOR_INTERRUPTS();
	return es_order_compare(a, b);
}

/* es_order_make_set makes a set of a packed array's elements, from which it borrows. */
EsValueSet *
es_order_make_set(const EsNode *array)
{
	EsValueSet *set = palloc(sizeof(EsValueSet));
	EsPackedReader reader;
	uint32		count = 0;

	es_node_begin_elements(&reader, array);
	set->values = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsNode) * Max(reader.count, 1));
	while (es_node_next_element(&reader, &set->values[count]))
		count++;
	qsort(set->values, count, sizeof(EsNode), compare_listed_values);
	set->count = 0;
	for (uint32 i = 0; i < count; i++)
	{
		if (set->count == 0 || !es_order_is_equal(&set->values[set->count - 1], &set->values[i]))
			set->values[set->count++] = set->values[i];
	}
	return set;
}

/* es_order_has tells whether a set has a value. */
bool
es_order_has(const EsValueSet *set, const EsNode *value)
{
	uint32		low = 0;
	uint32		high = set->count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		int			order = es_order_compare(value, &set->values[middle]);

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

/* An element and its place in the array. */
typedef struct Listed
{
	EsNode		value;
	uint32		number;
} Listed;

/* Orders elements by value and then by place, for qsort. */
static int
compare_listed_places(const void *a, const void *b)
{
	const Listed *left = a;
	const Listed *right = b;
	int			order = compare_listed_values(&left->value, &right->value);

	if (order == 0)
		order = left->number < right->number ? -1 : left->number > right->number;
	return order;
}

/* Finds two equal ones of a few elements. */
static bool
find_equal_of_few(const EsNode *array, uint32 *first, uint32 *second)
{
	EsPackedReader reader;
	EsNode		values[FEW_ELEMENTS];
	uint32		count;

	es_node_begin_elements(&reader, array);
	for (count = 0; es_node_next_element(&reader, &values[count]); count++)
	{
		for (uint32 i = 0; i < count; i++)
		{
			if (!es_order_is_equal(&values[i], &values[count]))
				continue;
			*first = i;
			*second = count;
			return true;
		}
	}
	return false;
}

/*
 * es_order_find_equal finds two equal elements of a packed array; false if all differ.
 * Leaves nothing in the current memory context.
 */
bool
es_order_find_equal(const EsNode *array, uint32 *first, uint32 *second)
{
	uint32		count = JsonContainerSize((const JsonbContainer *) array->value.bytes);
	EsPackedReader reader;
	Listed	   *listed;
	bool		found = false;

	if (count < FEW_ELEMENTS)
		return find_equal_of_few(array, first, second);
	listed = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Listed) * count);
	es_node_begin_elements(&reader, array);
	for (uint32 i = 0; es_node_next_element(&reader, &listed[i].value); i++)
	{
		listed[i].number = i;
		if (i == count - 1)
			break;
	}
	qsort(listed, count, sizeof(Listed), compare_listed_places);
	for (uint32 i = 1; i < count && !found; i++)
	{
		if (!es_order_is_equal(&listed[i - 1].value, &listed[i].value))
			continue;
		*first = listed[i - 1].number;
		*second = listed[i].number;
		found = true;
	}
	pfree(listed);
	return found;
}
