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
#include "table/columns.h"
#include "table/rows.h"
#include "type/registry.h"
#include "type/upcast.h"

/* A type of which something is defined. */
typedef struct DefinedType
{
	const text *type;			/* hash key */
	int			newest;
} DefinedType;

/* What is defined of all types, in a memory context of its own. */
static struct
{
	MemoryContext context;		/* NULL: it was never read */
	uint64		upcaster_changes;	/* of the tables, as they were read */
	uint64		schema_changes;
	uint64		generation;		/* counts the readings */
	HTAB	   *types;			/* NULL: there are none */
}			defined;

/* Tells whether what is kept is what is defined now. */
static inline bool
definitions_are_current(void)
{
	return defined.upcaster_changes == es_base_changes_of(es_upcast_shape.table) &&
		defined.schema_changes == es_base_changes_of(&es_registry_table) && defined.context != NULL;
}

/* Notes that a type has a version. */
static void
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
	}
	entry->newest = Max(entry->newest, version);
}

/* Reads which versions one of the tables has, to which add is added. */
static void
read_defined_versions(HTAB **types, const EsShape *shape, AttrNumber type, AttrNumber version, int add)
{
	EsRows		rows = {.shape = shape,.mode = AccessShareLock};

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
		note_type_version(types, DatumGetTextPP(rows.values[type - 1]),
						  DatumGetInt32(rows.values[version - 1]) + add);
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

	read_defined_versions(&types, &es_upcast_shape, Anum_upcasters_type, Anum_upcasters_from_version, 1);
	read_defined_versions(&types, &es_registry_shape, Anum_schemas_type, Anum_schemas_version, 0);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	if (defined.context)
		MemoryContextDelete(defined.context);
	defined.context = context;
	defined.types = types;
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

/* es_version_newest gives the newest version of a type. */
int
es_version_newest(const text *type)
{
	const DefinedType *entry;

	require_definitions();
	if (defined.types == NULL)
		return 1;
	entry = hash_search(defined.types, &type, HASH_FIND, NULL);
	return entry ? entry->newest : 1;
}
