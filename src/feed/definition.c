/*
 * definition.c
 *		Feeds' definitions: the rows that say what a feed lets through.
 *
 * asof.c reads them as of a place in the WAL, and its head says why they are as
 * they are: a name leads to a definition, a definition has revisions, rows of
 * revisions are added and never changed, and none is stored out of line.
 *
 * A definition is known by a place in the WAL, that of a record that was written for
 * it: no other one has the same, and a later one has a later place.
 *
 * Old revisions are given up where a new one is made, as far as no slot can come before
 * the next one any more: the server keeps rows of such tables by the same rule, by
 * the slot's catalog_xmin.
 *
 * Locks: row 0 of eventstore.feeds, which is none, to the end of the transaction, by
 * whoever changes definitions: a lock on the table would wait for whoever reindexes
 * it.  Both tables are announced as changed with each change, although nobody here
 * keeps anything of them: by the message in its commit record the server knows a
 * transaction that changed catalogs, if decoding starts in the middle of it (before
 * PostgreSQL 16).
 */
#include "feed/definition.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#include "base/names.h"
#include "base/objects.h"
#include "feed/asof.h"
#include "table/rows.h"

/*
 * How many bytes of each list, and of the query, a row takes; a page has room for all and
 * one more name of each list.
 */
#define PART_SIZE 1000

static EsRelation feeds = {ES_FEEDS_TABLE};
static EsRelation feeds_by_name = {"feeds_by_name",
.index = {.keys = {Anum_feeds_name},.columns = "name",.unique = true}};
static EsRelation feed_definitions = {ES_FEED_DEFINITIONS_TABLE};
static EsRelation feed_definitions_by_key = {"feed_definitions_by_key",
	.index = {.keys = {Anum_feed_definitions_definition, Anum_feed_definitions_revision, Anum_feed_definitions_part},
.columns = "definition, revision, part",.unique = true}};

static const EsColumn feed_columns[Natts_feeds] = {{"definition", PG_LSNOID}, {"name", TEXTOID}};
const EsShape es_feeddefinition_names_shape = ES_SHAPE(&feeds, &feeds_by_name, feed_columns);

static const EsColumn definition_columns[Natts_feed_definitions] = {
	{"definition", PG_LSNOID}, {"revision", INT4OID}, {"part", INT4OID}, {"format", TEXTOID},
	{"categories", TEXTARRAYOID, true}, {"types", TEXTARRAYOID, true}, {"query", TEXTOID, true}
};
const EsShape es_feeddefinition_shape = ES_SHAPE(&feed_definitions, &feed_definitions_by_key, definition_columns);

/* es_feeddefinition_lock keeps others from changing definitions, to the end of the transaction. */
void
es_feeddefinition_lock(void)
{
	(void) es_base_lock_row(&feeds, 0, 0, true);
}

/* Makes a change known. */
static void
announce_definitions(void)
{
	es_base_announce(&feeds);
	es_base_announce(&feed_definitions);
}

/* ---- reading ---- */

/* Finds the definition that a name leads to; InvalidXLogRecPtr if none. */
static XLogRecPtr
find_named_definition(const char *feed)
{
	EsRows		rows = {.shape = &es_feeddefinition_names_shape,.mode = AccessShareLock,.fresh = true};
	XLogRecPtr	result = InvalidXLogRecPtr;

	es_rows_equal(&rows, CStringGetTextDatum(feed));
	es_rows_begin(&rows);
	if (es_rows_next(&rows))
		result = DatumGetLSN(rows.values[Anum_feeds_definition - 1]);
	es_rows_end(&rows);
	return result;
}

/* Adds a row's part of a list; NULL leaves the set as it is. */
static void
add_list_part(EsNames *names, const EsRows *rows, AttrNumber column)
{
	EsNames		part = es_names_of_column(rows->values[column - 1], rows->isnull[column - 1]);

	names->set |= part.set;
	for (int i = 0; i < part.count; i++)
		(void) es_names_add(names, part.names[i]);
}

/*
 * es_feeddefinition_find reads a feed's newest revision, in the current memory context;
 * false if the feed has no definition.  The caller has locked definitions.
 */
bool
es_feeddefinition_find(const char *feed, EsFeedDefinition *found)
{
	EsRows		rows = {.shape = &es_feeddefinition_shape,.mode = AccessShareLock,.fresh = true};
	StringInfoData query;

	memset(found, 0, sizeof(*found));
	initStringInfo(&query);
	found->definition = find_named_definition(feed);
	if (found->definition == InvalidXLogRecPtr)
		return false;
	es_rows_equal(&rows, LSNGetDatum(found->definition));
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		int32		revision = DatumGetInt32(rows.values[Anum_feed_definitions_revision - 1]);

		CHECK_FOR_INTERRUPTS();
		if (revision > found->revision)
		{
			memset(&found->categories, 0, sizeof(EsNames));
			memset(&found->types, 0, sizeof(EsNames));
			resetStringInfo(&query);
		}
		found->revision = revision;
		found->format = es_columns_text(rows.values, rows.isnull, Anum_feed_definitions_format);
		add_list_part(&found->categories, &rows, Anum_feed_definitions_categories);
		add_list_part(&found->types, &rows, Anum_feed_definitions_types);
		if (!rows.isnull[Anum_feed_definitions_query - 1])
			appendStringInfoString(&query, TextDatumGetCString(rows.values[Anum_feed_definitions_query - 1]));
	}
	es_rows_end(&rows);
	found->query = query.len > 0 ? query.data : NULL;
	return found->revision > 0;
}

/* ---- writing ---- */

/* Gives the next part of a list, from *next on, which moves on; false for NULL. */
static bool
take_list_part(const EsNames *names, int *next, Datum *value)
{
	EsNames		part = {.set = true,.names = names->names + *next};
	Size		size = 0;

	while (*next < names->count && size < PART_SIZE)
	{
		size += INTALIGN(VARHDRSZ + VARSIZE_ANY_EXHDR(names->names[*next]));
		part.count++;
		(*next)++;
	}
	*value = PointerGetDatum(es_names_array(&part));
	return names->set;
}

/* Gives the next part of a query's text, from *next on, which moves on; false if there is none. */
static bool
take_query_part(const char **next, Datum *value)
{
	int			len = *next ? strnlen(*next, PART_SIZE + MAX_MULTIBYTE_CHAR_LEN) : 0;
	int			part = len <= PART_SIZE ? len : pg_mbcliplen(*next, len, PART_SIZE);

	if (part == 0)
		return false;
	*value = PointerGetDatum(cstring_to_text_with_len(*next, part));
	*next += part;
	return true;
}

/* Writes a revision's rows. */
static void
write_revision(const EsFeedDefinition *definition)
{
	Datum		values[Natts_feed_definitions];
	bool		isnull[Natts_feed_definitions] = {false};
	int			categories = 0;
	int			types = 0;
	const char *query = definition->query;
	int32		part = 0;

	values[Anum_feed_definitions_definition - 1] = LSNGetDatum(definition->definition);
	values[Anum_feed_definitions_revision - 1] = Int32GetDatum(definition->revision);
	values[Anum_feed_definitions_format - 1] = PointerGetDatum(definition->format);
	do
	{
		CHECK_FOR_INTERRUPTS();
		values[Anum_feed_definitions_part - 1] = Int32GetDatum(++part);
		isnull[Anum_feed_definitions_categories - 1] =
			!take_list_part(&definition->categories, &categories, &values[Anum_feed_definitions_categories - 1]);
		isnull[Anum_feed_definitions_types - 1] =
			!take_list_part(&definition->types, &types, &values[Anum_feed_definitions_types - 1]);
		isnull[Anum_feed_definitions_query - 1] =
			!take_query_part(&query, &values[Anum_feed_definitions_query - 1]);
		es_rows_insert(&es_feeddefinition_shape, values, isnull);
	} while (categories < definition->categories.count || types < definition->types.count ||
			 (query && *query));
	announce_definitions();
}

/* es_feeddefinition_share gives a feed a definition that there is, instead of the one it has. */
void
es_feeddefinition_share(const EsFeedDefinition *definition, const char *feed)
{
	Datum		values[Natts_feeds];
	bool		isnull[Natts_feeds] = {false};

	(void) es_feeddefinition_drop(feed);
	values[Anum_feeds_definition - 1] = LSNGetDatum(definition->definition);
	values[Anum_feeds_name - 1] = CStringGetTextDatum(feed);
	es_rows_insert(&es_feeddefinition_names_shape, values, isnull);
	announce_definitions();
}

/*
 * es_feeddefinition_create gives a feed a definition, with its first revision, instead
 * of the one that an earlier feed of that name may have left.
 */
void
es_feeddefinition_create(const char *feed, const EsFeedDefinition *first)
{
	es_feeddefinition_share(first, feed);
	write_revision(first);
}

/* Tells whether a definition is some feed's; oldest becomes the catalog_xmin of a slot of it. */
static bool
is_definition_used(XLogRecPtr definition, TransactionId *oldest)
{
	EsRows		rows = {.shape = &es_feeddefinition_names_shape,.mode = AccessShareLock,.fresh = true};
	bool		used = false;

	*oldest = InvalidTransactionId;
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		char	   *name = TextDatumGetCString(rows.values[Anum_feeds_name - 1]);
		char	   *slot_name = psprintf("%s%s", ES_FEED_PREFIX, name);
		ReplicationSlot *slot;

		if (DatumGetLSN(rows.values[Anum_feeds_definition - 1]) != definition)
			continue;
		used = true;
		LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
		slot = SearchNamedReplicationSlot(slot_name, false);
		if (slot != NULL)
		{
			SpinLockAcquire(&slot->mutex);
			if (!TransactionIdIsValid(*oldest) || TransactionIdPrecedes(slot->effective_catalog_xmin, *oldest))
				*oldest = slot->effective_catalog_xmin;
			SpinLockRelease(&slot->mutex);
		}
		LWLockRelease(ReplicationSlotControlLock);
	}
	es_rows_end(&rows);
	return used;
}

/* Deletes the revisions before one. */
static void
delete_revisions(XLogRecPtr definition, int32 before)
{
	for (int32 revision = before - 1; revision > 0; revision--)
	{
		Datum		keys[] = {LSNGetDatum(definition), Int32GetDatum(revision)};

		CHECK_FOR_INTERRUPTS();
		if (es_rows_take_away(&es_feeddefinition_shape, keys, lengthof(keys)) == 0)
			return;
	}
}

/*
 * Deletes the revisions that no slot can want any more: those before the last one whose
 * transaction is older than any that a slot may not know as committed.
 */
static void
forget_old_revisions(XLogRecPtr definition)
{
	EsRows		rows = {.shape = &es_feeddefinition_shape,.mode = AccessShareLock,.fresh = true};
	TransactionId oldest;
	int32		known = 0;

	if (!is_definition_used(definition, &oldest) || !TransactionIdIsValid(oldest))
		return;
	es_rows_equal(&rows, LSNGetDatum(definition));
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
		if (TransactionIdPrecedes(es_rows_slot_xmin(rows.slot), oldest))
			known = DatumGetInt32(rows.values[Anum_feed_definitions_revision - 1]);
	es_rows_end(&rows);
	delete_revisions(definition, known);
}

/* es_feeddefinition_revise adds a revision after the newest, which the caller has changed. */
void
es_feeddefinition_revise(EsFeedDefinition *next)
{
	next->revision++;
	write_revision(next);
	forget_old_revisions(next->definition);
}

/*
 * es_feeddefinition_drop deletes a feed's definition, unless another feed has it, too;
 * false if it has none.  The caller has locked definitions.
 */
bool
es_feeddefinition_drop(const char *feed)
{
	XLogRecPtr	definition = find_named_definition(feed);
	Datum		name = CStringGetTextDatum(feed);
	Datum		key = LSNGetDatum(definition);
	TransactionId oldest;

	if (definition == InvalidXLogRecPtr)
		return false;
	(void) es_rows_take_away(&es_feeddefinition_names_shape, &name, 1);
	if (!is_definition_used(definition, &oldest))
		(void) es_rows_take_away(&es_feeddefinition_shape, &key, 1);
	announce_definitions();
	return true;
}
