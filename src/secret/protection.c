/*
 * protection.c
 *		Which fields of which categories' events are protected, from which position on.
 *
 * A definition is a row of eventstore.protections.  es_protect adds one while no append is in
 * flight, so the positions up to its own have no event that it protects, and all that
 * come after it are of appends that know it.  So a stored event's position says by which
 * definition it was encrypted, and a string that only looks encrypted is never taken for
 * what is.
 *
 * Each session keeps all definitions, and reads them anew once a relcache invalidation of
 * the table has come: its own changes at once, others' at their commit.  A reader takes
 * invalidations in after it has taken the snapshot, or learned the bound, that it reads
 * by: who has appended what is seen there had the definition, which was committed
 * before.
 */
#include "secret/protection.h"

#include "catalog/pg_type.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "base/objects.h"
#include "json/scope.h"
#include "json/tree.h"
#include "secret/utf8.h"
#include "table/rows.h"

EsRelation	es_protection_table = {"protections"};
static EsRelation protections_by_category = {"protections_by_category",
	.index = {.keys = {Anum_protections_category, Anum_protections_after_position},.columns = "category, after_position",
.unique = true}};

static const EsColumn columns[Natts_protections] = {
	{"after_position", INT8OID}, {"created_at", TIMESTAMPTZOID}, {"hashed", BOOLOID}, {"category", TEXTOID},
	{"subject", TEXTOID, true}, {"paths", TEXTARRAYOID}
};
const EsShape es_protection_shape = ES_SHAPE(&es_protection_table, &protections_by_category, columns);

PG_FUNCTION_INFO_V1(es_protection_forget);

EsProtections es_protection_state;

/* The definitions, in a memory context of their own; NULL: there are none. */
static MemoryContext definitions_context = NULL;
static HTAB *categories = NULL;

/* ---- paths ---- */

/*
 * es_protection_compile_path gives the keys of a path to a protected field, from "data" on;
 * 22023 for any other path.
 */
const EsKey *
es_protection_compile_path(const text *path, int *nkeys)
{
	EsValue    *value = es_value_compile_path(path, ES_ALL_ROOTS, "path of a protected field");
	const EsKey *keys = es_value_path_keys(value, nkeys);

	if (keys == NULL || *nkeys < 2 || es_scope_find(keys[0].bytes, keys[0].len) != ES_ROOT_DATA)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" is not the path of a field of data", es_names_show_text(path)),
				errhint("A path is $.data and keys, such as \"$.data.email\"; [*] may be in it."));
	return keys;
}

/* es_protection_compile_subject compiles the path to an event's subject; 22023 if it is none. */
EsValue *
es_protection_compile_subject(const text *path)
{
	return es_value_compile_path(path,
								 1U << ES_ROOT_DATA | 1U << ES_ROOT_METADATA | 1U << ES_ROOT_STREAM |
								 1U << ES_ROOT_TYPE | 1U << ES_ROOT_EVENT_ID, "subject");
}

/* es_protection_is_within tells whether a path is another one, or leads into what that leads to. */
bool
es_protection_is_within(const EsKey *inner, int ninner, const EsKey *outer, int nouter)
{
	if (ninner < nouter)
		return false;
	for (int i = 0; i < nouter; i++)
		if (inner[i].len != outer[i].len || memcmp(inner[i].bytes, outer[i].bytes, inner[i].len) != 0)
			return false;
	return true;
}

/* Finds the step of a key, or where it would be. */
static int
find_protected_step(const EsProtectedStep *step, const EsKey *key, bool *found)
{
	int			low = 0;
	int			high = step->count;

	*found = false;
	while (low < high && !*found)
	{
		int			middle = (low + high) / 2;
		int			order = es_tree_compare_keys(&step->steps[middle].key, key);

		if (order < 0)
			low = middle + 1;
		else
			high = middle;
		*found = order == 0;
	}
	return high;
}

/* Adds a path, keys below where a step leads to, in the current memory context. */
static void
add_protected_path(EsProtectedStep *step, const EsKey *keys, int nkeys)
{
	for (int i = 0; i < nkeys; i++)
	{
		bool		found;
		int			place = find_protected_step(step, &keys[i], &found);

		if (!found)
		{
			Size		size = sizeof(EsProtectedStep) * (step->count + 1);

			step->steps = step->steps ? repalloc(step->steps, size) : palloc(size);
			memmove(&step->steps[place + 1], &step->steps[place], sizeof(EsProtectedStep) * (step->count - place));
			step->steps[place] = (EsProtectedStep)
			{
				.key = keys[i]
			};
			step->count++;
		}
		step = &step->steps[place];
	}
	step->is_field = true;
}

/* ---- what the session keeps ---- */

/* es_protection_digest gives the digest that a category is known by in an encrypted field. */
void
es_protection_digest(const text *category, uint8 *digest)
{
	int			len = VARSIZE_ANY_EXHDR(category);
	const char *name = es_utf8_of(VARDATA_ANY(category), &len);

	es_cipher_digest(name, len, digest);
}

/* Finds the entry of a category, or adds it. */
static EsProtected *
enter_protected_category(HTAB *table, const text *category)
{
	EsProtected *entry;
	bool		found;

	entry = hash_search(table, &category, HASH_ENTER, &found);
	if (!found)
	{
		memset(entry, 0, sizeof(*entry));
		entry->category = category;
		es_protection_digest(category, entry->digest);
		entry->room = 2;
		entry->definitions = palloc(sizeof(EsProtection) * entry->room);
	}
	return entry;
}

/* Makes a place for a definition, in order of position. */
static EsProtection *
place_definition(EsProtected *category, int64 after_position)
{
	int			place = category->count;

	if (category->count == category->room)
		category->definitions = repalloc(category->definitions, sizeof(EsProtection) * (category->room *= 2));
	while (place > 0 && category->definitions[place - 1].after_position > after_position)
		place--;
	memmove(&category->definitions[place + 1], &category->definitions[place],
			sizeof(EsProtection) * (category->count - place));
	category->count++;
	memset(&category->definitions[place], 0, sizeof(EsProtection));
	category->definitions[place].after_position = after_position;
	return &category->definitions[place];
}

/* Takes a row, in the current memory context. */
static void
take_definition_row(HTAB *table, const EsRows *rows)
{
	const Datum *v = rows->values;
	EsProtected *category = enter_protected_category(table, DatumGetTextPCopy(v[Anum_protections_category - 1]));
	EsProtection *definition = place_definition(category, DatumGetInt64(v[Anum_protections_after_position - 1]));

	definition->hashed = DatumGetBool(v[Anum_protections_hashed - 1]);
	definition->subject = es_columns_text(v, rows->isnull, Anum_protections_subject);
	definition->paths = es_names_of_column(v[Anum_protections_paths - 1], false);
	for (int i = 0; i < definition->paths.count; i++)
	{
		int			nkeys;
		const EsKey *keys = es_protection_compile_path(definition->paths.names[i], &nkeys);

		CHECK_FOR_INTERRUPTS();
		add_protected_path(&definition->data, keys + 1, nkeys - 1);
		add_protected_path(&category->ever, keys + 1, nkeys - 1);
	}
	if (definition->subject)
		definition->subject_value = es_protection_compile_subject(definition->subject);
	es_protection_state.any_hashed |= definition->hashed;
}

/* Reads the definitions, in the place of what was known. */
static void
read_definition_rows(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore protections", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	uint64		changes = es_base_changes_of(&es_protection_table);
	EsRows		rows = {.shape = &es_protection_shape,.mode = AccessShareLock};
	HTAB	   *table = NULL;

	es_protection_state.any_hashed = false;
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		if (table == NULL)
			table = es_names_map("eventstore protections", 64, sizeof(EsProtected), context);
		take_definition_row(table, &rows);
	}
	es_rows_end(&rows);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	if (definitions_context)
		MemoryContextDelete(definitions_context);
	definitions_context = context;
	categories = table;
	es_protection_state.any = table != NULL;
	es_protection_state.changes = changes;
	es_protection_state.known = true;
}

/* es_protection_look is es_protection_any for a session that has to look. */
bool
es_protection_look(void)
{
	/* the reading may take in invalidations, too */
	while (!es_protection_state.known ||
		   es_protection_state.changes != es_base_changes_of(&es_protection_table))
		read_definition_rows();
	return es_protection_state.any;
}

/*
 * es_protection_note_plan has a plan made anew once something more is protected: it depends
 * on the table of definitions as plans do on those that they read.
 */
void
es_protection_note_plan(PlannerInfo *root)
{
	Oid			table = es_base_oid(&es_protection_table);

	if (!list_member_oid(root->glob->relationOids, table))
		root->glob->relationOids = lappend_oid(root->glob->relationOids, table);
}

/* ---- looking up ---- */

/* Finds a category's definitions by its name; NULL if it never had any. */
static const EsProtected *
find_protected_category(const char *name, int len)
{
	struct
	{
		int32		header;
		char		name[ES_MAX_STREAM_NAME];
	}			key;
	const text *category = (const text *) &key;

	if (!es_protection_any() || len > ES_MAX_STREAM_NAME)
		return NULL;
	SET_VARSIZE(&key, VARHDRSZ + len);
	memcpy(key.name, name, len);
	return hash_search(categories, &category, HASH_FIND, NULL);
}

/* es_protection_of gives the definitions of a stream's category; NULL if it never had any. */
const EsProtected *
es_protection_of(const text *stream)
{
	const char *name = VARDATA_ANY(stream);

	return find_protected_category(name, es_names_category_length(name, VARSIZE_ANY_EXHDR(stream)));
}

/* es_protection_of_category gives those of a category. */
const EsProtected *
es_protection_of_category(const text *category)
{
	return find_protected_category(VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category));
}

/* es_protection_categories gives the names of all, as text, in the current memory context. */
List *
es_protection_categories(void)
{
	const EsProtected *entry;
	HASH_SEQ_STATUS scan;
	List	   *names = NIL;

	if (!es_protection_any())
		return NIL;
	hash_seq_init(&scan, categories);
	while ((entry = hash_seq_search(&scan)) != NULL)
		names = lappend(names, DatumGetTextPCopy(PointerGetDatum(entry->category)));
	return names;
}

/* es_protection_at gives the definition that an event of a position follows, or NULL. */
const EsProtection *
es_protection_at(const EsProtected *category, int64 position)
{
	for (int i = category->count - 1; i >= 0; i--)
		if (category->definitions[i].after_position < position)
			return category->definitions[i].data.count > 0 ? &category->definitions[i] : NULL;
	return NULL;
}

/* es_protection_now gives the definition that a new event follows, or NULL. */
const EsProtection *
es_protection_now(const EsProtected *category)
{
	return es_protection_at(category, PG_INT64_MAX);
}

/* Tells whether a path takes in, or lies in, a field that steps lead to. */
static bool
steps_touch(const EsProtectedStep *step, const EsKey *keys, int nkeys)
{
	for (int i = 0; i < nkeys && !step->is_field; i++)
	{
		bool		found;
		int			place = find_protected_step(step, &keys[i], &found);

		if (!found)
			return false;
		step = &step->steps[place];
	}
	return step->is_field || step->count > 0;
}

/*
 * Tells whether a path of keys below $.data takes in a field that a category (NULL: any)
 * protects or has protected, or lies in one.
 */
static bool
does_path_touch(const text *category, const EsKey *keys, int nkeys)
{
	const EsProtected *entry;
	HASH_SEQ_STATUS scan;

	if (!es_protection_any())
		return false;
	if (category)
	{
		entry = es_protection_of_category(category);
		return entry && steps_touch(&entry->ever, keys, nkeys);
	}
	hash_seq_init(&scan, categories);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (steps_touch(&entry->ever, keys, nkeys))
		{
			hash_seq_term(&scan);
			return true;
		}
	return false;
}

/*
 * es_protection_touches_value tells whether what a value depends on has, or lies in, a field that a
 * category (NULL: any) protects or has protected: of a path that is not only keys it is assumed
 * that it may come to all data.
 */
bool
es_protection_touches_value(const text *category, const EsValue *value)
{
	int			nkeys;
	const EsKey *keys;

	if (!es_value_mentions(value, ES_ROOT_DATA))
		return false;
	keys = es_value_path_keys(value, &nkeys);
	return keys ? does_path_touch(category, keys + 1, nkeys - 1) : does_path_touch(category, NULL, 0);
}

/*
 * eventstore.forget_protections() is the row trigger for rows that others insert: a
 * restore, a subscription.
 */
Datum
es_protection_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&es_protection_table);
	PG_RETURN_POINTER(NULL);
}
