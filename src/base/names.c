/*
 * names.c
 *		Names: what may be one, sets of them to filter by, and how messages show them.
 *
 * Lists of names come from callers, and from tables that callers' lists were put
 * into.  A set has each name once, whatever the list; to look for a name in it takes
 * as long with 100,000 names as with ten: more than a few are hashed.  The set refers
 * to the names where they are, in the array that they came in, and lives in the memory
 * context that it was made in; it may be copied as a struct.
 *
 * Lists may be long, so making a set can be interrupted.  What is longer than any use
 * of it is refused before memory is spent on it.
 *
 * A name that no event can have is refused where it is given.  What was stored before
 * is taken as it is.
 */
#include "base/names.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "utils/builtins.h"

#define FEW				8		/* names that are not worth an index */
#define MOST_SHOWN		64		/* bytes of a name in a message */

/* A name, where it is. */
typedef struct EsNameKey
{
	const char *data;
	int			len;
} EsNameKey;

typedef struct EsNameIndexEntry
{
	EsNameKey	name;
	uint32		hash;
	char		status;
} EsNameIndexEntry;

#define SH_PREFIX nameindex
#define SH_ELEMENT_TYPE EsNameIndexEntry
#define SH_KEY_TYPE EsNameKey
#define SH_KEY name
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key).data, (key).len)
#define SH_EQUAL(tb, a, b) ((a).len == (b).len && memcmp((a).data, (b).data, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* ---- what is a name ---- */

/* Gives the offset of the first control character; -1: there is none. */
static inline int
find_control_character(const unsigned char *p, int len)
{
	for (int i = 0; i < len; i++)
		if (p[i] < 0x20 || p[i] == 0x7f)
			return i;
	return -1;
}

/* es_names_is_name tells whether a text is 1..max bytes long, without control characters. */
bool
es_names_is_name(const text *name, int max)
{
	int			len = VARSIZE_ANY_EXHDR(name);

	return len >= 1 && len <= max && find_control_character((const unsigned char *) VARDATA_ANY(name), len) < 0;
}

/* es_names_check_name raises 22023 unless a name is 1..max bytes without control characters. */
void
es_names_check_name(const text *name, const char *what, int max)
{
	const unsigned char *p = (const unsigned char *) VARDATA_ANY(name);
	int			len = VARSIZE_ANY_EXHDR(name);
	int			at;

	if (len < 1 || len > max)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s name must be 1 to %d bytes long, not %d", what, max, len));
	at = find_control_character(p, len);
	if (at >= 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s name must not contain control characters", what),
				errdetail("There is a byte 0x%02x at offset %d.", p[at], at));
}

/* es_names_check_prefix raises 22023 for what no stream's name begins with; with nothing all do. */
void
es_names_check_prefix(const text *prefix)
{
	if (VARSIZE_ANY_EXHDR(prefix) > ES_MAX_STREAM_NAME)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("stream prefix must be at most %d bytes long, not %d",
					   ES_MAX_STREAM_NAME, (int) VARSIZE_ANY_EXHDR(prefix)));
	if (VARSIZE_ANY_EXHDR(prefix) > 0)
		es_names_check_name(prefix, "stream", ES_MAX_STREAM_NAME);
}

/* es_names_check_stream raises 22023 for what cannot be a stream's name. */
void
es_names_check_stream(const text *name)
{
	es_names_check_name(name, "stream", ES_MAX_STREAM_NAME);
}

/* es_names_check_type raises 22023 for what a caller cannot use as an event type. */
void
es_names_check_type(const text *name)
{
	es_names_check_name(name, "event type", ES_MAX_TYPE_NAME);
	if (*VARDATA_ANY(name) == '$')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("event types that begin with \"$\" are reserved"));
}

/* es_names_check_handled_type raises 22023 for a type that a handler would never see. */
void
es_names_check_handled_type(const text *name)
{
	if (!es_names_is_deletion(name))
		es_names_check_type(name);
}

/* es_names_is_deletion tells whether a type is that of the event which deletes its stream. */
bool
es_names_is_deletion(const text *type)
{
	return VARSIZE_ANY_EXHDR(type) == strlen(ES_TYPE_STREAM_DELETED) &&
		memcmp(VARDATA_ANY(type), ES_TYPE_STREAM_DELETED, strlen(ES_TYPE_STREAM_DELETED)) == 0;
}

/* es_names_is_reserved tells whether events of a type are appended by the store only. */
bool
es_names_is_reserved(const char *type, int len)
{
	return len > 0 && *type == '$';
}

/* es_names_same tells whether two texts, short or not, have the same bytes. */
bool
es_names_same(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* es_names_begins tells whether a text begins with the bytes of another one. */
bool
es_names_begins(const text *name, const text *prefix)
{
	return VARSIZE_ANY_EXHDR(name) >= VARSIZE_ANY_EXHDR(prefix) &&
		memcmp(VARDATA_ANY(name), VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix)) == 0;
}

/* es_names_hash hashes the bytes of a text. */
uint32
es_names_hash(const text *name)
{
	return hash_bytes((const unsigned char *) VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

/* Hashes a pointer to a text by the text. */
static uint32
hash_text_of(const void *key, Size keysize)
{
	return es_names_hash(*(const text *const *) key);
}

/* Compares two pointers to texts by the texts. */
static int
compare_texts_of(const void *a, const void *b, Size keysize)
{
	return !es_names_same(*(const text *const *) a, *(const text *const *) b);
}

/*
 * es_names_map makes a hash table whose entries begin with a const text *,
 * the key, by its contents.  The text must live as long as the entry.
 */
HTAB *
es_names_map(const char *what, int size, Size entrysize, MemoryContext context)
{
	HASHCTL		ctl = {.keysize = sizeof(text *),.entrysize = entrysize,
	.hash = hash_text_of,.match = compare_texts_of,.hcxt = context};

	return hash_create(what, size, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/* es_names_category_length tells how much of a stream's name is its category. */
int
es_names_category_length(const char *name, int len)
{
	const char *dash = memchr(name, '-', len);

	return dash ? (int) (dash - name) : len;
}

/*
 * es_names_category_key hashes a category's name for the stored column
 * category_key.  CRC-32C gives the same on every platform, so dumps travel;
 * different categories may share a key, so readers compare names too.
 */
int32
es_names_category_key(const char *category, int len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, category, len);
	FIN_CRC32C(crc);
	return (int32) crc;
}

/* Raises 22023 for a type that is the store's own, but that of none of its events. */
static void
refuse_other_reserved_type(const text *type)
{
	if (es_names_is_reserved(VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) && !es_names_is_deletion(type))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("no event is of type \"%s\"", es_names_show_text(type)),
				errhint("Of the types that begin with \"$\" there is only \"" ES_TYPE_STREAM_DELETED "\"."));
}

/* es_names_check raises 22023 for what no event can have. */
void
es_names_check(const text *name, EsNameKind kind)
{
	int			len = VARSIZE_ANY_EXHDR(name);

	switch (kind)
	{
		case ES_NAME_CATEGORY:
			es_names_check_name(name, "category", ES_MAX_STREAM_NAME);
			if (es_names_category_length(VARDATA_ANY(name), len) != len)
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a category", es_names_show_text(name)),
						errdetail("The category of a stream is the part of its name before the first \"-\"."));
			break;
		case ES_NAME_TYPE:
			es_names_check_name(name, "event type", ES_MAX_TYPE_NAME);
			refuse_other_reserved_type(name);
			break;
		case ES_NAME_STORED_TYPE:
			es_names_check_name(name, "event type", ES_MAX_TYPE_NAME);
			break;
		case ES_NAME_TAG:
			if (len < 1 || len > ES_MAX_TAG_NAME)
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("tag must be 1 to %d bytes long, not %d", ES_MAX_TAG_NAME, len));
			break;
		case ES_NAME_PATH:
			if (len < 1 || len > ES_MAX_PATH)
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("SQL/JSON path must be 1 to %d bytes long, not %d", ES_MAX_PATH, len));
			break;
	}
}

/* es_names_check_count raises 54000 for a list that is longer than it may be. */
void
es_names_check_count(int64 count, const char *list)
{
	if (count > ES_MAX_LIST)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("list \"%s\" must not have more than %d names", list, ES_MAX_LIST),
				errdetail("It has " INT64_FORMAT " names.", count));
}

/* ---- sets ---- */

/* Adds a name to the index; false if it is there. */
static bool
add_name_to_index(EsNames *names, const text *name)
{
	EsNameKey	key = {VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)};
	bool		found;

	nameindex_insert(names->index, key, &found);
	return !found;
}

/* Makes the index of a set that has become too large to do without. */
static void
make_name_index(EsNames *names)
{
	names->index = nameindex_create(CurrentMemoryContext, 4 * FEW, NULL);
	for (int i = 0; i < names->count; i++)
		(void) add_name_to_index(names, names->names[i]);
}

/* es_names_add adds a name, which must stay where it is; false if the set has it. */
bool
es_names_add(EsNames *names, text *name)
{
	names->set = true;
	if (names->index == NULL && names->count == FEW)
		make_name_index(names);
	if (names->index ? !add_name_to_index(names, name) :
		es_names_have(names, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)))
		return false;
	if (names->count == names->room)
	{
		names->room = Max(2 * names->room, FEW);
		names->names = names->names == NULL ? palloc(sizeof(text *) * names->room) :
			repalloc(names->names, sizeof(text *) * names->room);
	}
	names->names[names->count++] = name;
	return true;
}

/* es_names_of_one gives the set of one name. */
EsNames
es_names_of_one(text *name)
{
	EsNames		names = {0};

	(void) es_names_add(&names, name);
	return names;
}

/* Takes the names from an array, which must stay where it is. */
static EsNames
names_of_array(ArrayType *array)
{
	EsNames		names = {.set = true};
	Datum	   *elements;
	bool	   *isnull;
	int			count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &isnull, &count);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!isnull[i])
			(void) es_names_add(&names, DatumGetTextPP(elements[i]));
	}
	pfree(elements);
	pfree(isnull);
	return names;
}

/* Raises what an array deserves that is no list of names. */
static void
check_name_list(ArrayType *array, const char *list)
{
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be a one-dimensional array", list));
	es_names_check_count(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)), list);
	if (array_contains_nulls(array))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" must not contain nulls", list));
}

/*
 * es_names_arg fetches a text[] argument; NULL lets everything pass.  What is not a
 * name of the kind is 22023, nulls are 22004, a list too long is 54000.
 */
EsNames
es_names_arg(FunctionCallInfo fcinfo, int argno, EsNameKind kind, const char *list)
{
	EsNames		names = {0};
	ArrayType  *array;

	if (PG_ARGISNULL(argno))
		return names;
	array = PG_GETARG_ARRAYTYPE_P(argno);
	check_name_list(array, list);
	names = names_of_array(array);
	for (int i = 0; i < names.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		es_names_check(names.names[i], kind);
	}
	return names;
}

/* es_names_of_column takes the names from a column, which is copied; NULL lets everything pass. */
EsNames
es_names_of_column(Datum value, bool isnull)
{
	EsNames		names = {0};

	return isnull ? names : names_of_array(DatumGetArrayTypePCopy(value));
}

/* es_names_array gives the names of a set as a text[]. */
ArrayType *
es_names_array(const EsNames *names)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(names->count, 1));
	ArrayType  *array;

	for (int i = 0; i < names->count; i++)
		elements[i] = PointerGetDatum(names->names[i]);
	array = construct_array(elements, names->count, TEXTOID, -1, false, TYPALIGN_INT);
	pfree(elements);
	return array;
}

/* es_names_have tells whether a name is in a set. */
bool
es_names_have(const EsNames *names, const char *name, int len)
{
	EsNameKey	key = {name, len};

	if (names->index)
		return nameindex_lookup(names->index, key) != NULL;
	for (int i = 0; i < names->count; i++)
		if (VARSIZE_ANY_EXHDR(names->names[i]) == len &&
			memcmp(VARDATA_ANY(names->names[i]), name, len) == 0)
			return true;
	return false;
}

/* es_names_pass tells whether an event is of one of the categories and of one of the types. */
bool
es_names_pass(const EsNames *categories, const EsNames *types, const EsEvent *event)
{
	if (categories->set)
	{
		text	   *stream = DatumGetTextPP(event->stream);
		const char *name = VARDATA_ANY(stream);

		if (!es_names_have(categories, name, es_names_category_length(name, VARSIZE_ANY_EXHDR(stream))))
			return false;
	}
	if (types->set)
	{
		text	   *type = DatumGetTextPP(event->type);

		return es_names_have(types, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	}
	return true;
}

/* ---- messages ---- */

/*
 * es_names_list gives what a message says of a list: "a", "b" and "c".  Each entry has a
 * size and begins with a const char *.
 */
char *
es_names_list(const void *entries, int count, Size size)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s\"%s\"", i == 0 ? "" : i < count - 1 ? ", " : " and ",
						 *(const char *const *) ((const char *) entries + i * size));
	return list.data;
}

/*
 * es_names_cut gives the beginning of a text, of so many bytes at most, and says so
 * if that is not all.
 */
char *
es_names_cut(const char *text, int len, int most)
{
	if (len <= most)
		return pnstrdup(text, len);
	return psprintf("%.*s...", pg_mbcliplen(text, len, most), text);
}

/* es_names_show_bytes gives what a message shows of a name, or the like, that a caller gave. */
char *
es_names_show_bytes(const char *name, int len)
{
	return es_names_cut(name, len, MOST_SHOWN);
}

/* es_names_show is the same for a string. */
char *
es_names_show(const char *name)
{
	return es_names_show_bytes(name, strlen(name));
}

/* es_names_show_text is the same for a text. */
char *
es_names_show_text(const text *name)
{
	return es_names_show_bytes(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

/*
 * es_names_show_event gives what the context of errors says of an event; whoever made
 * one himself may have called stream and type anything.
 */
char *
es_names_show_event(const EsEvent *event)
{
	text	   *stream = DatumGetTextPP(event->stream);
	text	   *type = DatumGetTextPP(event->type);

	return psprintf("stream \"%s\", version %lld, type \"%s\"",
					es_names_cut(VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream), ES_MAX_STREAM_NAME),
					(long long) event->version,
					es_names_cut(VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type), ES_MAX_TYPE_NAME));
}
