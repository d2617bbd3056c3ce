/*
 * asof.c
 *		A feed's definition as of a place in the WAL.
 *
 * Two tables have it (definition.c writes them).  eventstore.feeds leads from a
 * feed's name to its definition; eventstore.feed_definitions has the definition's
 * revisions, one for es_create_feed and one for each es_alter_feed, and rows are only
 * added, so that a revision is there as of a place if its transaction has committed
 * before it.  Both are tables that output plugins may read (user_catalog_table): the
 * server keeps what slots may still have to see of them, and decoding knows at each
 * place what had been committed there.
 *
 * What counts for a transaction is what holds at its commit, or at its PREPARE if that
 * is where it is sent, or where a block of it is streamed: what is decoded is at that place
 * in the WAL then, and the snapshot builder's newest snapshot is of that place.  The
 * transaction's own snapshot is not: it is of the place of its change.  A commit has
 * been taken into the newest snapshot before its transaction is sent, so it sees
 * a transaction's own revisions.
 *
 * A slot is there before the row that says so is committed, as making it waits for
 * whoever is writing.  For what is committed between its start and that row the
 * feed goes by its first revision, although that comes later in the WAL.  For that reason
 * the name is looked up in the present: the row is written before the
 * slot can be had, so it is there, be it uncommitted; of two, one of which somebody is
 * about to delete, the later one counts.  A name that is gone in the present counts
 * as of the place: it may be a standby's own slot, of a feed that the primary has
 * dropped meanwhile.
 *
 * What may not be relied on: indexes, whose files as of the past are gone after a REINDEX;
 * and rows stored out of line, as nobody keeps those for slots.  So the tables are
 * scanned, and no row is larger than a page.
 *
 * Nothing here runs SQL.  Scans are systable scans, for the same reason as in decode.c.
 */
#include "feed/asof.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/names.h"
#include "base/objects.h"
#include "json/match.h"

/* Which revision of a definition is wanted, of those that a snapshot sees. */
typedef enum EsRevision
{
	REVISION_LAST,
	REVISION_FIRST
} EsRevision;

/* es_feedasof_begin prepares for a session with a slot; the memory is the parent's. */
void
es_feedasof_begin(EsFeedAsOf *feed, const char *slot_name, MemoryContext parent)
{
	memset(feed, 0, sizeof(*feed));
	if (strncmp(slot_name, ES_FEED_PREFIX, strlen(ES_FEED_PREFIX)) == 0)
		feed->name = MemoryContextStrdup(parent, slot_name + strlen(ES_FEED_PREFIX));
	feed->context = AllocSetContextCreate(parent, "eventstore feed definition", ALLOCSET_SMALL_SIZES);
}

/* Tells whether a relation that there was is there now. */
static bool
exists_at_present(Oid relid)
{
	Snapshot	present = RegisterSnapshot(GetNonHistoricCatalogSnapshot(RelationRelationId));
	bool		exists = es_base_sees_relation(relid, present);

	UnregisterSnapshot(present);
	return exists;
}

/*
 * Opens one of the tables, which is as it was, but for its file.  NULL: there was
 * none; one that has been dropped since is 55000, as nobody knows any more what
 * the feed was to let through.
 */
static Relation
open_feed_table(const EsFeedAsOf *feed, const char *name)
{
	Oid			schema = get_namespace_oid("eventstore", true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		return NULL;
	LockRelationOid(relid, AccessShareLock);
	if (!exists_at_present(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the definition of feed \"%s\" has been dropped with its event store", feed->name),
				errhint("Drop replication slot \"%s%s\".", ES_FEED_PREFIX, feed->name));
	return table_open(relid, NoLock);
}

/* Gives a column that is never NULL. */
static Datum
get_column(Relation table, HeapTuple row, AttrNumber column)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, RelationGetDescr(table), &isnull);

	if (isnull)
		elog(ERROR, "null in column %d of table \"%s\"", column, RelationGetRelationName(table));
	return value;
}

/* Gives the last definition that a snapshot has under the feed's name, or InvalidXLogRecPtr. */
static XLogRecPtr
find_by_name(const EsFeedAsOf *feed, Relation feeds, Snapshot snapshot)
{
	XLogRecPtr	result = InvalidXLogRecPtr;
	SysScanDesc scan = systable_beginscan(feeds, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		char	   *name = TextDatumGetCString(get_column(feeds, row, Anum_feeds_name));

		XLogRecPtr	definition = DatumGetLSN(get_column(feeds, row, Anum_feeds_definition));

		if (strcmp(name, feed->name) == 0)
			result = Max(result, definition);
		pfree(name);
	}
	systable_endscan(scan);
	return result;
}

/* Finds the feed's definition: that of the present, else that as of the place. */
static XLogRecPtr
find_definition(const EsFeedAsOf *feed, Snapshot newest)
{
	Relation	feeds = open_feed_table(feed, ES_FEEDS_TABLE);
	XLogRecPtr	result;
	SnapshotData dirty;

	if (feeds == NULL)
		return InvalidXLogRecPtr;
	InitDirtySnapshot(dirty);
	result = find_by_name(feed, feeds, &dirty);
	if (result == InvalidXLogRecPtr)
		result = find_by_name(feed, feeds, newest);
	table_close(feeds, AccessShareLock);
	return result;
}

/* Gives the last or first revision of a definition that a snapshot sees; 0 if none. */
static int32
find_revision(Relation definitions, XLogRecPtr definition, Snapshot snapshot, EsRevision which)
{
	int32		result = 0;
	SysScanDesc scan = systable_beginscan(definitions, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		int32		revision = DatumGetInt32(get_column(definitions, row, Anum_feed_definitions_revision));

		CHECK_FOR_INTERRUPTS();
		if (DatumGetLSN(get_column(definitions, row, Anum_feed_definitions_definition)) != definition)
			continue;
		if (result == 0 || (which == REVISION_LAST ? revision > result : revision < result))
			result = revision;
	}
	systable_endscan(scan);
	return result;
}

/* Adds a row's part of a list to the set; NULL leaves it as it is. */
static void
add_part(EsNames *names, Relation definitions, HeapTuple row, AttrNumber column)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, RelationGetDescr(definitions), &isnull);
	EsNames		part = es_names_of_column(value, isnull);

	names->set |= part.set;
	for (int i = 0; i < part.count; i++)
		(void) es_names_add(names, part.names[i]);
}

/* The parts of a query's text, which a scan may meet in any order. */
typedef struct QueryParts
{
	int			room;
	char	  **parts;			/* by number, from 1; NULL: not met, or
								 * without text */
} QueryParts;

/* Notes a row's part of the query's text. */
static void
note_query_part(QueryParts *query, Relation definitions, HeapTuple row)
{
	int32		part = DatumGetInt32(get_column(definitions, row, Anum_feed_definitions_part));
	bool		isnull;
	Datum		value = heap_getattr(row, Anum_feed_definitions_query, RelationGetDescr(definitions), &isnull);

	if (isnull)
		return;
	if (part >= query->room)
	{
		int			room = Max(part, 7) * 2;

		query->parts = query->parts ? repalloc_huge(query->parts, sizeof(char *) * room) :
			palloc(sizeof(char *) * room);
		memset(query->parts + query->room, 0, sizeof(char *) * (room - query->room));
		query->room = room;
	}
	query->parts[part] = TextDatumGetCString(value);
}

/* Puts the parts together, and frees them; NULL if there is no query. */
static const EsQuery *
read_query_parts(QueryParts *query)
{
	StringInfoData text;
	const EsQuery *result;

	if (query->parts == NULL)
		return NULL;
	initStringInfo(&text);
	for (int i = 1; i < query->room; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (query->parts[i] == NULL)
			continue;
		appendStringInfoString(&text, query->parts[i]);
		pfree(query->parts[i]);
	}
	result = es_feedoption_stored_query(text.data);
	pfree(text.data);
	pfree(query->parts);
	return result;
}

/* Reads a revision's rows, in the current memory context. */
static void
read_revision(EsFeedAsOf *feed, Relation definitions, Snapshot snapshot)
{
	QueryParts	query = {0};
	SysScanDesc scan = systable_beginscan(definitions, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (DatumGetLSN(get_column(definitions, row, Anum_feed_definitions_definition)) != feed->definition ||
			DatumGetInt32(get_column(definitions, row, Anum_feed_definitions_revision)) != feed->revision)
			continue;
		feed->format = es_feedoption_format(TextDatumGetCString(get_column(definitions, row, Anum_feed_definitions_format)));
		add_part(&feed->kept.categories, definitions, row, Anum_feed_definitions_categories);
		add_part(&feed->kept.types, definitions, row, Anum_feed_definitions_types);
		note_query_part(&query, definitions, row);
	}
	systable_endscan(scan);
	feed->kept.query = read_query_parts(&query);
}

/* Makes a revision, or none at all, what the session knows. */
static void
take_revision(EsFeedAsOf *feed, Relation definitions, XLogRecPtr definition, int32 revision, Snapshot snapshot)
{
	MemoryContext caller;

	if (feed->looked && feed->definition == definition && feed->revision == revision)
		return;
	feed->looked = false;
	MemoryContextReset(feed->context);
	memset(&feed->kept, 0, sizeof(feed->kept));
	feed->format = ES_FEED_UNSAID;
	feed->definition = definition;
	feed->revision = revision;
	if (revision == 0)
		return;
	caller = MemoryContextSwitchTo(feed->context);
	read_revision(feed, definitions, snapshot);
	MemoryContextSwitchTo(caller);
	if (feed->format == ES_FEED_UNSAID)
		elog(ERROR, "feed \"%s\" has lost revision %d of its definition", feed->name, revision);
}

/* Reads what holds where the snapshot is of. */
static void
read_definition(EsFeedAsOf *feed, Snapshot newest)
{
	XLogRecPtr	definition = find_definition(feed, newest);
	Relation	definitions = NULL;
	SnapshotData dirty;
	Snapshot	snapshot = newest;
	int32		revision = 0;

	if (definition != InvalidXLogRecPtr)
		definitions = open_feed_table(feed, ES_FEED_DEFINITIONS_TABLE);
	if (definitions != NULL)
		revision = find_revision(definitions, definition, snapshot, REVISION_LAST);
	if (definitions != NULL && revision == 0)
	{
		InitDirtySnapshot(dirty);
		snapshot = &dirty;
		revision = find_revision(definitions, definition, snapshot, REVISION_FIRST);
	}
	take_revision(feed, definitions, revision == 0 ? InvalidXLogRecPtr : definition, revision, snapshot);
	if (definitions != NULL)
		table_close(definitions, AccessShareLock);
}

/*
 * es_feedasof_look sees to it that the feed's definition is known as of the place that
 * the snapshot builder's newest snapshot is of.
 *
 * There is another snapshot whenever a transaction has been committed that changed a
 * catalog, and within one session xmin never steps back, and without a step of xmin the
 * number of transactions only grows: the same two numbers are the same snapshot.
 */
void
es_feedasof_look(EsFeedAsOf *feed, Snapshot newest)
{
	if (feed->name == NULL || (feed->looked && feed->xmin == newest->xmin && feed->xcnt == newest->xcnt))
		return;
	read_definition(feed, newest);
	feed->looked = true;
	feed->xmin = newest->xmin;
	feed->xcnt = newest->xcnt;
}
