/*
 * version.c
 *		Versions of types: which is the newest, and what each wants of data.
 *
 * The newest version of a type is the greatest of 1, the version of its newest schema
 * and that which its last upcaster leads to.  Each session keeps what is defined of
 * all types, and reads it anew once a relcache invalidation of eventstore.upcasters or
 * eventstore.schemas has come: this session's own changes at once, others' at their
 * commit.  Where nothing is defined, a look is two comparisons.
 *
 * Schemas are compiled when an event of their version first comes, and kept; when they
 * take much, all go, and come back as they are needed.
 *
 * Who asks on behalf of an append does so under the lock on eventstore.streams that
 * appends keep to their transaction's end.  Dropping a definition excludes these
 * (type/evolve.c), so what it allowed an append is not gone before the append is there
 * to be found.  Registering one excludes nobody: an append goes by what was committed
 * as its call began.
 */
#include "type/version.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "base/objects.h"
#include "schema/compile.h"
#include "schema/model.h"
#include "schema/validate.h"
#include "table/rows.h"
#include "type/registry.h"
#include "type/upcast.h"

/* What is kept of compiled schemas, at most, before another one is compiled. */
#define MOST_BYTES	((Size) 16 * 1024 * 1024)

/* A version that has a schema. */
typedef struct DefinedSchema
{
	int			version;
	const EsSchema *compiled;	/* or NULL */
} DefinedSchema;

/* A type of which something is defined. */
typedef struct DefinedType
{
	const text *type;			/* hash key */
	int			newest;
	int			nschemas;
	int			room;			/* of schemas */
	DefinedSchema *schemas;
} DefinedType;

/* What is defined of all types, in a memory context of its own. */
static struct
{
	MemoryContext context;		/* NULL: it was never read */
	uint64		upcaster_changes;	/* of the tables, as they were read */
	uint64		schema_changes;
	uint64		generation;		/* counts the readings */
	HTAB	   *types;			/* NULL: there are none */
	MemoryContext compiled;		/* below context; each schema has one below
								 * this */
}			defined;

/* Tells whether what is kept is what is defined now. */
static inline bool
definitions_are_current(void)
{
	return defined.upcaster_changes == es_base_changes_of(es_upcast_shape.table) &&
		defined.schema_changes == es_base_changes_of(&es_registry_table) && defined.context != NULL;
}

/* Notes that a type has a version. */
static DefinedType *
note_type_version(HTAB **types, const text *type, int version)
{
	DefinedType *entry;
	bool		found;

	if (*types == NULL)
		*types = es_names_map("eventstore types", 64, sizeof(DefinedType), CurrentMemoryContext);
	entry = hash_search(*types, &type, HASH_ENTER, &found);
	if (!found)
	{
		entry->type = DatumGetTextPCopy(PointerGetDatum(type));
		entry->newest = 1;
		entry->nschemas = entry->room = 0;
		entry->schemas = NULL;
	}
	entry->newest = Max(entry->newest, version);
	return entry;
}

/* Notes that a type's version has a schema. */
static void
note_version_schema(DefinedType *entry, int version)
{
	if (entry->nschemas == entry->room)
	{
		entry->room = Max(2 * entry->room, 2);
		entry->schemas = entry->schemas == NULL ? palloc(sizeof(DefinedSchema) * entry->room) :
			repalloc(entry->schemas, sizeof(DefinedSchema) * entry->room);
	}
	entry->schemas[entry->nschemas++] = (DefinedSchema)
	{
		.version = version
	};
}

/* Reads which versions upcasters lead to. */
static void
read_upcaster_versions(HTAB **types)
{
	EsRows		rows = {.shape = &es_upcast_shape,.mode = AccessShareLock};

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
		(void) note_type_version(types, DatumGetTextPP(rows.values[Anum_upcasters_type - 1]),
								 DatumGetInt32(rows.values[Anum_upcasters_from_version - 1]) + 1);
	es_rows_end(&rows);
}

/* Reads which versions have schemas. */
static void
read_schema_versions(HTAB **types)
{
	EsRows		rows = {.shape = &es_registry_shape,.mode = AccessShareLock};

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		int			version = DatumGetInt32(rows.values[Anum_schemas_version - 1]);

		note_version_schema(note_type_version(types, DatumGetTextPP(rows.values[Anum_schemas_type - 1]), version),
							version);
	}
	es_rows_end(&rows);
}

/* Reads what is defined of all types, in the place of what was known. */
static void
read_definitions(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore types", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	uint64		upcaster_changes = es_base_changes_of(es_upcast_shape.table);
	uint64		schema_changes = es_base_changes_of(&es_registry_table);
	HTAB	   *types = NULL;

	MemoryContext compiled = AllocSetContextCreate(context, "eventstore schemas", ALLOCSET_SMALL_SIZES);

	read_upcaster_versions(&types);
	read_schema_versions(&types);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	if (defined.context)
		MemoryContextDelete(defined.context);
	defined.context = context;
	defined.types = types;
	defined.compiled = compiled;
	defined.upcaster_changes = upcaster_changes;
	defined.schema_changes = schema_changes;
	defined.generation++;
}

/* Makes sure that what is kept is what is defined now. */
static inline void
require_definitions(void)
{
	/* the reading may take in invalidations, too */
	while (unlikely(!definitions_are_current()))
		read_definitions();
}

/* es_version_generation changes whenever what the other functions here say may. */
uint64
es_version_generation(void)
{
	require_definitions();
	return defined.generation;
}

/* es_version_any tells whether anything is defined of any type. */
bool
es_version_any(void)
{
	require_definitions();
	return defined.types != NULL;
}

/* Finds what is defined of a type; NULL if nothing is. */
static DefinedType *
find_defined_type(const text *type)
{
	require_definitions();
	return defined.types == NULL ? NULL : hash_search(defined.types, &type, HASH_FIND, NULL);
}

/* es_version_newest gives the newest version of a type. */
int
es_version_newest(const text *type)
{
	const DefinedType *entry = find_defined_type(type);

	return entry ? entry->newest : 1;
}

/* Finds the schema of a version; NULL if it has none. The newest are looked at first. */
static DefinedSchema *
find_defined_schema(const text *type, int version)
{
	const DefinedType *entry = find_defined_type(type);

	if (entry == NULL)
		return NULL;
	for (int i = entry->nschemas - 1; i >= 0; i--)
		if (entry->schemas[i].version == version)
			return &entry->schemas[i];
	return NULL;
}

/* es_version_has_schema tells whether a version of a type has a schema. */
bool
es_version_has_schema(const text *type, int version)
{
	return find_defined_schema(type, version) != NULL;
}

/* Gives up all compiled schemas. */
static void
give_up_compiled_schemas(void)
{
	HASH_SEQ_STATUS scan;
	DefinedType *entry;

	hash_seq_init(&scan, defined.types);
	while ((entry = hash_seq_search(&scan)) != NULL)
		for (int i = 0; i < entry->nschemas; i++)
			entry->schemas[i].compiled = NULL;
	MemoryContextReset(defined.compiled);
}

/* Names the schema in the context of errors. */
static void
describe_defined_schema(void *arg)
{
	const DefinedSchema *schema = arg;

	errcontext("schema of version %d", schema->version);
}

/*
 * Compiles a schema and keeps it; false if it is not there any more.  Nothing here asks
 * for definitions, so those that schema is of stay.
 */
static bool
compile_defined_schema(const text *type, DefinedSchema *schema)
{
	ErrorContextCallback callback;
	Jsonb	   *source = es_registry_read(type, schema->version);
	MemoryContext context;
	MemoryContext old;

	if (source == NULL)
		return false;
	if (MemoryContextMemAllocated(defined.compiled, true) > MOST_BYTES)
		give_up_compiled_schemas();
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore schema", ALLOCSET_SMALL_SIZES);
	callback.callback = describe_defined_schema;
	callback.arg = schema;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	old = MemoryContextSwitchTo(context);
	schema->compiled = es_schema_compile(source, true);
	MemoryContextSwitchTo(old);
	error_context_stack = callback.previous;
	MemoryContextSetParent(context, defined.compiled);
	pfree(source);
	return true;
}

/*
 * es_version_find_violation tells whether data breaks the schema of a version of a type,
 * and gives the first rule that it breaks.  A version without a schema takes all.
 */
bool
es_version_find_violation(const text *type, int version, const Jsonb *data, EsViolation *violation)
{
	DefinedSchema *schema = find_defined_schema(type, version);

	if (schema == NULL || (schema->compiled == NULL && !compile_defined_schema(type, schema)))
		return false;
	return !es_schema_accepts(schema->compiled, data) &&
		es_schema_find_violation(schema->compiled, data, violation);
}
