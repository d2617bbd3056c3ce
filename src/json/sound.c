/*
 * sound.c
 *		Whether a jsonb can be walked over.
 *
 * The server's functions trust what a jsonb says of itself: how many elements there are, and
 * where they end.  One whose bits have turned on disk would lead them out of it.  Here each
 * container, string and number is found to be within the one that has it.
 */
#include "json/sound.h"

#include "miscadmin.h"

#include "json/decimal.h"

static bool is_sound_container(const JsonbContainer *container, Size size);

/* Tells whether a number is within its bytes, and has the header that its first word says. */
static bool
is_sound_number(const char *number, Size size)
{
	Size		start;
	Size		end;
	uint16		word;

	if (size <= VARHDRSZ_SHORT || VARATT_IS_EXTERNAL(number) || VARATT_IS_COMPRESSED(number))
		return false;
	start = VARATT_IS_SHORT(number) ? VARHDRSZ_SHORT : VARHDRSZ;
	if (size < start + sizeof(word))
		return false;
	end = VARSIZE_ANY(number);
	if (end > size || end < start + sizeof(word))
		return false;
	memcpy(&word, number + start, sizeof(word));
	return (word & ES_DECIMAL_SHORT) != 0 || end >= start + 2 * sizeof(word);
}

/* Tells whether a value that begins so far into the data of its container can be read. */
static bool
is_sound_value(const char *data, JEntry entry, uint32 from, uint32 upto)
{
	uint32		aligned = INTALIGN(from);

	switch (entry & JENTRY_TYPEMASK)
	{
		case JENTRY_ISSTRING:
			return true;
		case JENTRY_ISNUMERIC:
			return aligned < upto && is_sound_number(data + aligned, upto - aligned);
		case JENTRY_ISCONTAINER:
			return aligned < upto && is_sound_container((const JsonbContainer *) (data + aligned), upto - aligned);
		default:
			return JBE_ISNULL(entry) || JBE_ISBOOL(entry);
	}
}

/*
 * Tells whether the values of a container, whose data are so many bytes, can be read.  Each
 * JB_OFFSET_STRIDE'th entry, and no other, says where it ends in place of its length: node.c
 * relies on it.
 */
static bool
are_sound_values(const JsonbContainer *container, uint32 count, uint32 nkeys, Size size)
{
	const char *data = (const char *) &container->children[count];
	uint32		from = 0;

	for (uint32 i = 0; i < count; i++)
	{
		JEntry		entry = container->children[i];
		uint64		upto = (uint64) JBE_OFFLENFLD(entry) + (JBE_HAS_OFF(entry) ? 0 : from);

		if (upto < from || upto > size || JBE_HAS_OFF(entry) != (i % JB_OFFSET_STRIDE == 0))
			return false;
		if (i < nkeys ? !JBE_ISSTRING(entry) : !is_sound_value(data, entry, from, upto))
			return false;
		from = upto;
	}
	return true;
}

/* Tells whether a container of so many bytes can be walked over. */
static bool
is_sound_container(const JsonbContainer *container, Size size)
{
	uint64		count;
	bool		object;
	Size		fixed;

	check_stack_depth();
	if (size < sizeof(uint32))
		return false;
	object = JsonContainerIsObject(container);
	if (object == JsonContainerIsArray(container) ||
		(JsonContainerIsScalar(container) && (object || JsonContainerSize(container) != 1)))
		return false;
	count = (uint64) JsonContainerSize(container) * (object ? 2 : 1);
	fixed = sizeof(uint32) + count * sizeof(JEntry);
	return fixed <= size && are_sound_values(container, count, object ? count / 2 : 0, size - fixed);
}

/* es_sound_jsonb tells whether a jsonb, which is in memory as a whole, can be walked over. */
bool
es_sound_jsonb(const Jsonb *json)
{
	return is_sound_container(&json->root, VARSIZE(json) - VARHDRSZ);
}
