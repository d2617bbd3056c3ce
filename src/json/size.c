/*
 * size.c
 *		How long the JSON text of a jsonb is, found out without making it.
 *
 * The size of a jsonb does not bound its text: a number is stored by its digits
 * that are not zero, so a dozen bytes may stand for 147,457 characters, and 150 kB
 * for more than the server can send.  What is taken in is measured, so that it
 * can be given out again.
 *
 * The bytes decide where even the worst case fits: most events cost a
 * comparison.  Else the values are walked.  The first walk looks for numbers that
 * may be long, and takes all else at the most that its bytes can be; if that is
 * too much, a second one counts exactly.  A walk ends at the limit, can be
 * cancelled, and needs memory for its depth only.
 *
 * The length is that of the jsonb's output function, in the encoding of the
 * database.
 */
#include "json/size.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"

#include "json/decimal.h"
#include "json/node.h"
#include "json/text.h"

/*
 * A byte is at most so much text, but for numbers with a long header.  A short
 * header allows 256 digits and 63 decimals, in twelve bytes.
 */
#define MOST_ORDINARY			27
#define MOST_LONG_NUMBER		147459	/* with a comma and a blank */

#define CHUNK					65536	/* bytes of a string, or entries,
										 * looked at between interrupts */
#define FIRST_LEVELS			16

/* A level takes a header and an entry. */
StaticAssertDecl(ES_MOST_TEXT / ES_MOST_TEXT_A_BYTE / (2 * sizeof(uint32)) < ES_MOST_LEVELS,
				 "what needs no walk must not be nested too deeply");

/* A walk. */
typedef struct Walk
{
	int64		limit;
	int64		length;			/* of the text so far; above the limit: at
								 * least */
	EsPackedReader *levels;		/* containers that are open, the innermost
								 * last */
	int			depth;
	int			room;
	EsPackedReader first[FIRST_LEVELS];
} Walk;

/* Takes a walk one step on. */
typedef void (*Step) (Walk *walk);

int			es_jsonsize_event_limit = 16 * 1024 * 1024;

/* Defines the GUC; called once, from _PG_init. */
void
es_jsonsize_init(void)
{
	DefineCustomIntVariable("eventstore.max_event_size",
							"How long the JSON text of an event's data and metadata may be, together.",
							"What is longer is refused when it is appended.",
							&es_jsonsize_event_limit, 16 * 1024 * 1024, 4, ES_MOST_TEXT,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
}

/* ---- scalars ---- */

/* The number of decimal digits in front of the point, by numeric's first digit and its weight. */
static int
whole_digits(int weight, int first)
{
	if (weight < 0)
		return 1;
	return weight * ES_DECIMAL_GROUP + (first >= 1000 ? 4 : first >= 100 ? 3 : first >= 10 ? 2 : 1);
}

/* The length of a number's text. */
static int64
number_length(const EsNode *node)
{
	struct varlena *number = (struct varlena *) node->value.bytes;
	const char *bytes = VARDATA_ANY(number);
	int			nwords = VARSIZE_ANY_EXHDR(number) / sizeof(uint16);
	uint16		word;
	int			header = 1;
	int			weight;
	int			scale;
	bool		negative;
	int16		first = 0;

	memcpy(&word, bytes, sizeof(word));
	if ((word & ES_DECIMAL_KIND) == ES_DECIMAL_SPECIAL)
		return strlen(DatumGetCString(DirectFunctionCall1(numeric_out, PointerGetDatum(number))));
	if ((word & ES_DECIMAL_KIND) == ES_DECIMAL_SHORT)
	{
		negative = (word & ES_DECIMAL_SHORT_NEGATIVE) != 0;
		scale = ES_DECIMAL_SHORT_SCALE(word);
		weight = ES_DECIMAL_SHORT_WEIGHT(word);
	}
	else
	{
		int16		stored;

		memcpy(&stored, bytes + sizeof(word), sizeof(stored));
		negative = (word & ES_DECIMAL_KIND) == ES_DECIMAL_LONG_NEGATIVE;
		scale = ES_DECIMAL_LONG_SCALE(word);
		weight = stored;
		header = 2;
	}
	if (nwords > header)
		memcpy(&first, bytes + header * sizeof(uint16), sizeof(first));
	return negative + whole_digits(weight, first) + (scale > 0 ? scale + 1 : 0);
}

/* Counts a string, or a key. */
static void
count_string(Walk *walk, const EsNode *node)
{
	walk->length += (int64) node->len + 2;
	for (uint32 at = 0; at < node->len && walk->length <= walk->limit; at += CHUNK)
	{
		CHECK_FOR_INTERRUPTS();
		walk->length += es_jsontext_escapes(node->value.bytes + at, Min(CHUNK, node->len - at));
	}
}

/* ---- the walk ---- */

/* Opens a container. */
static EsPackedReader *
open_container(Walk *walk, const EsNode *node)
{
	EsPackedReader *level;

	if (walk->depth == walk->room)
	{
		Size		size = sizeof(EsPackedReader) * walk->room;

		walk->levels = walk->levels == walk->first ? memcpy(palloc(2 * size), walk->first, size) :
			repalloc(walk->levels, 2 * size);
		walk->room *= 2;
	}
	level = &walk->levels[walk->depth++];
	if (es_node_is_packed_object(node))
		es_node_begin_members(level, node);
	else
		es_node_begin_elements(level, node);
	return level;
}

/* Opens a container and counts its brackets, and what stands between its members. */
static void
count_container(Walk *walk, const EsNode *node)
{
	EsPackedReader *level = open_container(walk, node);

	walk->length += 2 + ((int64) Max(level->count, 1) - 1) * 2; /* ", " */
	if (JsonContainerIsObject(level->container))
		walk->length += (int64) level->count * 2;	/* ": " */
}

/* Counts a value; a container is only opened. */
static void
count_value(Walk *walk, const EsNode *node)
{
	switch (node->kind)
	{
		case ES_NODE_NULL:
			walk->length += strlen("null");
			break;
		case ES_NODE_BOOL:
			walk->length += strlen(node->value.boolean ? "true" : "false");
			break;
		case ES_NODE_NUMBER:
			walk->length += number_length(node);
			break;
		case ES_NODE_STRING:
			count_string(walk, node);
			break;
		case ES_NODE_PACKED:
			count_container(walk, node);
			break;
		default:
			elog(ERROR, "unexpected kind %d of a value in a jsonb", (int) node->kind);
	}
}

/* Counts the next child of the innermost container; closes it after the last. */
static void
count_next_child(Walk *walk)
{
	EsPackedReader *level = &walk->levels[walk->depth - 1];
	EsNode		key;
	EsNode		value;

	if (JsonContainerIsObject(level->container))
	{
		if (es_node_next_member(level, &key, &value))
		{
			count_string(walk, &key);
			count_value(walk, &value);
			return;
		}
	}
	else if (es_node_next_element(level, &value))
	{
		count_value(walk, &value);
		return;
	}
	walk->depth--;
}

/* Tells whether a number in a jsonb may have a long text. */
static inline bool
is_long_number(const char *number)
{
	uint16		word;

	memcpy(&word, VARDATA_ANY(number), sizeof(word));
	return (word & ES_DECIMAL_KIND) != ES_DECIMAL_SHORT;
}

/*
 * Looks through the innermost container for long numbers, up to the next container
 * in it, which is opened; closes it after the last child.  Not by node.c, since
 * most events that are walked are walked for this only.
 */
static void
look_for_long_numbers(Walk *walk)
{
	EsPackedReader *level = &walk->levels[walk->depth - 1];
	const JEntry *entries = level->container->children + (JsonContainerIsObject(level->container) ? level->count : 0);
	const char *data = level->data;
	uint32		count = level->count;
	uint32		at = level->value_at;
	int64		nlong = 0;
	EsNode		node = {ES_NODE_NULL};

	for (uint32 i = level->next; i < count; i++)
	{
		JEntry		entry = entries[i];
		const char *child = data + INTALIGN(at);

		if (i % CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		JBE_ADVANCE_OFFSET(at, entry);
		if (JBE_ISNUMERIC(entry))
			nlong += is_long_number(child);
		else if (JBE_ISCONTAINER(entry))
		{
			node.kind = ES_NODE_PACKED;
			node.value.bytes = (char *) child;
			level->next = i + 1;
			level->value_at = at;
			break;
		}
	}
	walk->length += nlong * MOST_LONG_NUMBER;
	if (node.kind == ES_NODE_PACKED)
		(void) open_container(walk, &node);
	else
		walk->depth--;
}

/* Walks through the containers of a jsonb, until it is known to be too much. */
static EsTextSize
walk_containers(Walk *walk, Step step)
{
	int			most_levels = walk->limit > ES_MOST_TEXT ? INT_MAX : ES_MOST_LEVELS;

	while (walk->depth > 0 && walk->length <= walk->limit)
	{
		CHECK_FOR_INTERRUPTS();
		if (walk->depth > most_levels)
			return ES_TEXT_TOO_DEEP;
		step(walk);
	}
	return walk->length <= walk->limit ? ES_TEXT_FITS : ES_TEXT_TOO_LONG;
}

/* Measures one jsonb, exactly or at the most that it can be. */
static EsTextSize
walk_jsonb(Walk *walk, const Jsonb *json, bool exact)
{
	EsNode		root = es_node_view(json);

	walk->depth = 0;
	if (exact)
	{
		count_value(walk, &root);
		return walk_containers(walk, count_next_child);
	}
	walk->length += (int64) VARSIZE(json) * MOST_ORDINARY;
	if (root.kind == ES_NODE_PACKED)
		(void) open_container(walk, &root);
	else if (root.kind == ES_NODE_NUMBER && is_long_number(root.value.bytes))
		walk->length += MOST_LONG_NUMBER;
	return walk_containers(walk, look_for_long_numbers);
}

/* Measures some jsonb values together. */
static EsTextSize
walk_all_jsonb(Walk *walk, const Datum *values, int count, bool exact)
{
	EsTextSize	result = ES_TEXT_FITS;

	walk->length = 0;
	for (int i = 0; i < count && result == ES_TEXT_FITS; i++)
	{
		Jsonb	   *json = DatumGetJsonbP(values[i]);

		result = walk_jsonb(walk, json, exact);
		if (JsonbPGetDatum(json) != values[i])
			pfree(json);
	}
	return result;
}

/*
 * es_jsonsize_measure is es_jsonsize_judge by walks.  Depth is judged too, unless
 * the limit is more than is ever taken in.
 */
EsTextSize
es_jsonsize_measure(const Datum *values, int count, int64 limit)
{
	Walk		walk = {.limit = limit,.room = FIRST_LEVELS};
	EsTextSize	result;

	walk.levels = walk.first;
	result = walk_all_jsonb(&walk, values, count, false);
	if (result == ES_TEXT_TOO_LONG)
		result = walk_all_jsonb(&walk, values, count, true);
	if (walk.levels != walk.first)
		pfree(walk.levels);
	return result;
}

/*
 * es_jsonsize_errdetail says in an error's DETAIL what es_jsonsize_can_keep goes by;
 * to be called within ereport.
 */
int
es_jsonsize_errdetail(void)
{
	return errdetail("Its text can have at most %d bytes, and %d levels of arrays and objects.",
					 ES_MOST_TEXT, ES_MOST_LEVELS);
}

/*
 * es_jsonsize_check_definition raises 54000 for a jsonb of a definition that a dump
 * could not have, or not bring back.
 */
void
es_jsonsize_check_definition(const Jsonb *json, const char *what)
{
	if (!es_jsonsize_can_keep(json))
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("argument \"%s\" is too large or nested too deeply", what),
				es_jsonsize_errdetail());
}
