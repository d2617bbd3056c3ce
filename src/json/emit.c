/*
 * emit.c
 *		Values that were read from JSON text, written in jsonb's own form.
 *
 * What is written is what jsonb's input function makes of the text, byte for byte:
 * members in order of keys, the last one of those with the same key, numbers and
 * containers aligned, every JB_OFFSET_STRIDE'th child with where it ends in place of
 * its length.  Each is written once, from front to back, without a tree.
 *
 * The parser has found out how many bytes an element can become, and that these are no
 * more than an entry can say, so nothing is checked on the way.  It also bounds how
 * deep this recurses.
 */
#include "json/emit.h"

#include "miscadmin.h"
#include "utils/jsonb.h"

#include "json/decimal.h"

#define FEW_MEMBERS		16		/* so many are sorted as they come */

/* A member of an object that is being written. */
typedef struct EsEmitMember
{
	const char *key;
	uint32		len;
	uint32		value;			/* its number */
} EsEmitMember;

static char *emit_value(EsEmit *emit, char *out, const EsParsed *values, uint32 number, JEntry *entry);

/* ---- order of members ---- */

/* Compares two keys as jsonb does. */
static inline int
compare_emitted_keys(const EsEmitMember *a, const EsEmitMember *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->key, b->key, a->len);
}

/* Orders members by their keys, those of one key as they came, for qsort. */
static int
compare_emitted_members(const void *a, const void *b)
{
	const EsEmitMember *x = a;
	const EsEmitMember *y = b;
	int			order = compare_emitted_keys(x, y);

	return order != 0 ? order : x->value < y->value ? -1 : 1;
}

/* Puts a member where it belongs among few, in place of one of the same key. */
static void
insert_emitted_member(EsEmitMember *members, uint32 *count, const EsEmitMember *member)
{
	uint32		at = *count;

	while (at > 0)
	{
		int			order = compare_emitted_keys(&members[at - 1], member);

		if (order == 0)
		{
			members[at - 1] = *member;
			return;
		}
		if (order < 0)
			break;
		at--;
	}
	memmove(&members[at + 1], &members[at], (*count - at) * sizeof(EsEmitMember));
	members[at] = *member;
	(*count)++;
}

/* Sorts many members and leaves the last of each key; how many these are. */
static uint32
sort_emitted_members(EsEmitMember *members, uint32 count)
{
	uint32		left = 0;

	qsort(members, count, sizeof(EsEmitMember), compare_emitted_members);
	for (uint32 i = 0; i < count; i++)
	{
		if (left > 0 && compare_emitted_keys(&members[left - 1], &members[i]) == 0)
			left--;
		members[left++] = members[i];
	}
	return left;
}

/* Gathers the members of an object in order, and gives how many are left. */
static uint32
gather_emitted_members(EsEmitMember *members, const EsParsed *values, uint32 number)
{
	uint32		count = values[number].count;
	uint32		left = 0;
	uint32		key = number + 1;

	for (uint32 i = 0; i < count; i++)
	{
		EsEmitMember member = {values[key].value.bytes, values[key].count, key + 1};

		if (count <= FEW_MEMBERS)
			insert_emitted_member(members, &left, &member);
		else
			members[i] = member;
		key = es_parse_after(values, key + 1);
	}
	return count <= FEW_MEMBERS ? left : sort_emitted_members(members, count);
}

/* ---- values ---- */

/* Writes zero bytes up to the next multiple of four. */
static inline char *
emit_padding(char *out)
{
	while (((uintptr_t) out & 3) != 0)
		*out++ = 0;
	return out;
}

/*
 * Stores the entry of a container's child, which ends so far into the container's
 * data.
 */
static inline void
store_emitted_entry(JEntry *entries, uint32 number, JEntry entry, uint32 end)
{
	entries[number] = number % JB_OFFSET_STRIDE == 0 ? (entry & JENTRY_TYPEMASK) | end | JENTRY_HAS_OFF : entry;
}

/* Writes an object as a container. */
static char *
emit_object(EsEmit *emit, char *out, const EsParsed *values, uint32 number)
{
	EsEmitMember *members = &emit->members[emit->used];
	uint32		count = gather_emitted_members(members, values, number);
	JEntry	   *entries = (JEntry *) (out + sizeof(uint32));
	char	   *data = (char *) &entries[2 * count];

	emit->used += values[number].count;
	*(uint32 *) out = count | JB_FOBJECT;
	out = data;
	for (uint32 i = 0; i < count; i++)
	{
		memcpy(out, members[i].key, members[i].len);
		out += members[i].len;
		store_emitted_entry(entries, i, JENTRY_ISSTRING | members[i].len, out - data);
	}
	for (uint32 i = 0; i < count; i++)
	{
		JEntry		entry;

		out = emit_value(emit, out, values, members[i].value, &entry);
		store_emitted_entry(entries, count + i, entry, out - data);
	}
	emit->used -= values[number].count;
	return out;
}

/* Writes an array as a container. */
static char *
emit_array(EsEmit *emit, char *out, const EsParsed *values, uint32 number)
{
	uint32		count = values[number].count;
	JEntry	   *entries = (JEntry *) (out + sizeof(uint32));
	char	   *data = (char *) &entries[count];
	uint32		element = number + 1;

	*(uint32 *) out = count | JB_FARRAY;
	out = data;
	for (uint32 i = 0; i < count; i++)
	{
		JEntry		entry;

		out = emit_value(emit, out, values, element, &entry);
		store_emitted_entry(entries, i, entry, out - data);
		element = es_parse_after(values, element);
	}
	return out;
}

/* Writes a value's content; *entry becomes what describes it. */
static char *
emit_value(EsEmit *emit, char *out, const EsParsed *values, uint32 number, JEntry *entry)
{
	const EsParsed *value = &values[number];
	char	   *start = out;

	CHECK_FOR_INTERRUPTS();
	switch ((EsParsedKind) value->kind)
	{
		case ES_PARSED_NULL:
			*entry = JENTRY_ISNULL;
			return out;
		case ES_PARSED_FALSE:
			*entry = JENTRY_ISBOOL_FALSE;
			return out;
		case ES_PARSED_TRUE:
			*entry = JENTRY_ISBOOL_TRUE;
			return out;
		case ES_PARSED_STRING:
			memcpy(out, value->value.bytes, value->count);
			*entry = JENTRY_ISSTRING | value->count;
			return out + value->count;
		case ES_PARSED_NUMBER:
			out = es_decimal_write(emit_padding(out), value->value.bytes, value->count);
			*entry = JENTRY_ISNUMERIC | (out - start);
			return out;
		case ES_PARSED_OBJECT:
			out = emit_object(emit, emit_padding(out), values, number);
			break;
		case ES_PARSED_ARRAY:
			out = emit_array(emit, emit_padding(out), values, number);
			break;
	}
	*entry = JENTRY_ISCONTAINER | (out - start);
	return out;
}

/* Makes room for what an element can become. */
static void
reserve_emit(EsEmit *emit, const EsParse *parse)
{
	if (emit->size < parse->size)
	{
		if (emit->bytes)
			pfree(emit->bytes);
		emit->size = Max(parse->size, 2 * emit->size);
		emit->bytes = MemoryContextAllocHuge(CurrentMemoryContext, emit->size);
	}
	if (emit->space < parse->space / 2)
	{
		if (emit->members)
			pfree(emit->members);
		emit->space = parse->space / 2;
		emit->members = palloc(emit->space * sizeof(EsEmitMember));
	}
}

/*
 * es_emit_jsonb makes the jsonb of a value, one in the element that was read last.  A
 * scalar gets the array of one element that jsonb wraps it in.
 */
Datum
es_emit_jsonb(EsEmit *emit, const EsParse *parse, uint32 number)
{
	const EsParsed *values = parse->values;
	struct varlena *result;
	char	   *out;
	Size		size;

	reserve_emit(emit, parse);
	out = emit->bytes + VARHDRSZ;
	if (values[number].kind == ES_PARSED_OBJECT)
		out = emit_object(emit, out, values, number);
	else if (values[number].kind == ES_PARSED_ARRAY)
		out = emit_array(emit, out, values, number);
	else
	{
		JEntry	   *entries = (JEntry *) (out + sizeof(uint32));
		char	   *data = (char *) &entries[1];
		JEntry		entry;

		*(uint32 *) out = 1 | JB_FSCALAR | JB_FARRAY;
		out = emit_value(emit, data, values, number, &entry);
		store_emitted_entry(entries, 0, entry, out - data);
	}
	size = out - emit->bytes;
	result = palloc(size);
	memcpy(result, emit->bytes, size);
	SET_VARSIZE(result, size);
	return PointerGetDatum(result);
}

/* es_emit_end gives back the memory. */
void
es_emit_end(EsEmit *emit)
{
	if (emit->bytes)
		pfree(emit->bytes);
	if (emit->members)
		pfree(emit->members);
}
