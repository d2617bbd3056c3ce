/*
 * attach.c
 *		Taking a table into the log again.
 *
 * The table may be the one that was detached, or one that a dump or a COPY has made
 * since, of another owner, without indexes, in another schema.  Before it is a part of
 * the log it is checked, under a lock that keeps all others off it, and nobody needs it
 * meanwhile: its columns, and its events.  Where es_detach_segments gave it back its
 * digest must be what it was.  Else, as somebody detached it by hand, its count, if that is
 * known, its positions, and that its events fit between those of the same streams in
 * other segments (checks.c).
 *
 * Then it gets what a segment has: the owner, indexes, triggers, the key of changes, and,
 * for a moment, a constraint that proves its positions, so that ATTACH PARTITION does
 * not read it all with the log locked.
 *
 * What rules on age say of its events has not been carried out, so they begin again before
 * them, in the same transaction (policy.h).  Nor has what they say of streams that end in it, and
 * whose events before it are here, as an older segment was attached first: then before that.
 *
 * Order of locks: the table, then the rules, then the log, as who carries them out reads it.
 * Nobody who has the log locked waits for a table that is not in it.
 */
#include "lifecycle/attach.h"

#include "access/table.h"
#include "access/tupdesc.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "executor/spi.h"
#include "miscadmin.h"

#include "base/error.h"
#include "base/event.h"
#include "base/objects.h"
#include "base/owner.h"
#include "lifecycle/checks.h"
#include "lifecycle/contents.h"
#include "lifecycle/placeholder.h"
#include "lifecycle/policy.h"
#include "log/latest.h"
#include "log/segment.h"
#include "segment/ddl.h"
#include "segment/maker.h"
#include "segment/typeindex.h"

/* ---- columns ---- */

/* Raises 22023 for a table whose columns, say, are not those of the log. */
ES_NORETURN static void
report_wrong_shape(Relation rel, int64 segment, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("table \"%s\" cannot become segment " INT64_FORMAT " of the log", RelationGetRelationName(rel), segment),
			errdetail_internal("%s", detail),
			errhint("Make the table with CREATE TABLE ... (LIKE eventstore.events), and copy the events into it."));
}

/* Finds a column by its name; NULL if there is none. */
static Form_pg_attribute
find_column(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && strcmp(NameStr(column->attname), name) == 0)
			return column;
	}
	return NULL;
}

/* Describes how a column differs from the log's of its name; NULL if it does not. */
static const char *
describe_column_difference(const FormData_pg_attribute *wanted, const FormData_pg_attribute *found)
{
	const char *name = NameStr(wanted->attname);

	if (found == NULL)
		return psprintf("Column \"%s\" is missing.", name);
	if (found->atttypid != wanted->atttypid || found->atttypmod != wanted->atttypmod)
		return psprintf("Column \"%s\" is of type %s, not %s.", name,
						format_type_with_typemod(found->atttypid, found->atttypmod),
						format_type_with_typemod(wanted->atttypid, wanted->atttypmod));
	if (found->attcollation != wanted->attcollation)
		return psprintf("Column \"%s\" has another collation.", name);
	if (wanted->attnotnull && !found->attnotnull)
		return psprintf("Column \"%s\" can be null.", name);
	if (found->attgenerated != wanted->attgenerated || found->attidentity != wanted->attidentity)
		return psprintf("Column \"%s\" is generated.", name);
	if (wanted->attnum <= Natts_es_events && found->attnum != wanted->attnum)
		return psprintf("Column \"%s\" is not in its place.", name);
	return NULL;
}

/* Checks the columns of a table against those of the log, which users may have added to. */
static void
check_segment_shape(Relation rel, Relation events, int64 segment)
{
	TupleDesc	wanted = RelationGetDescr(events);
	TupleDesc	found = RelationGetDescr(rel);

	for (int i = 0; i < wanted->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(wanted, i);
		const char *difference;

		if (column->attisdropped)
			continue;
		difference = describe_column_difference(column, find_column(found, NameStr(column->attname)));
		if (difference)
			report_wrong_shape(rel, segment, difference);
	}
	for (int i = 0; i < found->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(found, i);

		if (!column->attisdropped && find_column(wanted, NameStr(column->attname)) == NULL)
			report_wrong_shape(rel, segment, psprintf("Column \"%s\" is none of the log's.", NameStr(column->attname)));
	}
}

/*
 * es_attach_check_shape raises 22023 if an open table cannot be a segment for what it
 * is, and 55000 if it is one.
 */
void
es_attach_check_shape(Relation rel, int64 segment)
{
	Relation	events;

	if (rel->rd_rel->relispartition)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" is part of a partitioned table already", RelationGetRelationName(rel)));
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		report_wrong_shape(rel, segment, "It is no table, or of another access method.");
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		report_wrong_shape(rel, segment, "It is temporary or unlogged.");
	if (rel->rd_rel->relhassubclass || OidIsValid(rel->rd_rel->reloftype) || rel->rd_rel->relhasrules ||
		rel->rd_rel->relrowsecurity)
		report_wrong_shape(rel, segment, "It is inherited from, is of a type, or has rules or row-level security.");
	events = es_base_open(&es_base_events, AccessShareLock);
	check_segment_shape(rel, events, segment);
	table_close(events, AccessShareLock);
}

/* ---- events ---- */

/* Checks the events of a table against all that is known of the segment. */
static void
check_segment_contents(const EsAttach *attach, Relation rel, const EsContents *found)
{
	const EsArchived *known = &attach->known;

	if (TransactionIdIsValid(found->writer) &&
		(!TransactionIdIsValid(attach->writer) || TransactionIdPrecedes(attach->writer, found->writer)))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" was changed while it was looked at", RelationGetRelationName(rel)),
				errhint("Try again when nobody writes to it."));
	if (found->events > 0 &&
		(found->first_position < known->first_position || found->last_position > known->last_position))
		es_checks_report(rel, known->segment, psprintf("It has events at positions " INT64_FORMAT " to " INT64_FORMAT
													   ", but the segment is for positions " INT64_FORMAT " to " INT64_FORMAT ".",
													   found->first_position, found->last_position,
													   known->first_position, known->last_position));
	if (known->events >= 0 && found->events != known->events)
		es_checks_report(rel, known->segment, psprintf("It has " INT64_FORMAT " events, but the segment had " INT64_FORMAT ".",
													   found->events, known->events));
	if (known->has_digest && found->digest != known->digest)
		es_checks_report(rel, known->segment, "Some of its events are not what they were when the segment was detached.");
	if (!known->has_digest)
		es_checks_run(rel, known);
}

/* ---- what a segment has ---- */

/* Gives the table to the store's owner, and puts it into the store's schema. */
static void
take_over_table(Oid relid, Oid has_owner)
{
	Oid			owner = es_base_store()->owner;
	Oid			schema = get_rel_namespace(relid);
	char	   *name = quote_qualified_identifier(get_namespace_name(schema), get_rel_name(relid));

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (has_owner != owner)
		es_ddl_run("ALTER TABLE %s OWNER TO %s", name, quote_identifier(GetUserNameFromId(owner, false)));
	if (schema != es_base_store()->schema)
		es_ddl_run("ALTER TABLE %s SET SCHEMA eventstore", name);
	PopActiveSnapshot();
	SPI_finish();
	CommandCounterIncrement();
}

/* Drops an index of a table that has a name which the store needs, and is not what it needs. */
static void
drop_useless_index(Oid table, const char *name)
{
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_INDEX && IndexGetRelation(relid, true) == table)
		es_ddl_run("DROP INDEX eventstore.%s", name);
}

/* Tells whether a table has an index of the events of a type. */
static bool
has_type_index(Oid table, int64 segment, const text *type)
{
	Relation	rel = table_open(table, NoLock);
	bool		found = OidIsValid(es_segment_type_index(segment, rel, type));

	table_close(rel, NoLock);
	return found;
}

/* Makes the indexes that each segment has, and those of types. */
static void
complete_indexes(Oid table, int64 segment)
{
	ListCell   *cell;

	for (EsSegmentIndex which = 0; which < ES_INDEX_COUNT; which++)
	{
		if (OidIsValid(es_segment_usable_index(segment, table, which)))
			continue;
		drop_useless_index(table, psprintf("%s%s", es_segment_name(segment), es_segment_index_names[which]));
		es_ddl_run("%s", es_segment_index_statement(segment, which));
	}
	foreach(cell, es_typeindex_all())
	{
		if (has_type_index(table, segment, lfirst(cell)))
			continue;
		drop_useless_index(table, es_segment_type_index_name(segment, lfirst(cell)));
		es_ddl_run("%s", es_segment_type_index_statement(segment, lfirst(cell), false));
	}
}

/* Makes the triggers, and the key of changes, anew. */
static void
complete_guards(const char *table)
{
	static const char *const triggers[] = {"guard_rows", "guard_statement", "guard_restore"};

	for (int i = 0; i < lengthof(triggers); i++)
		es_ddl_run("DROP TRIGGER IF EXISTS %s ON eventstore.%s", triggers[i], table);
	es_maker_guard(table);
	es_ddl_run("ALTER TABLE eventstore.%s REPLICA IDENTITY USING INDEX %s%s",
			   table, table, es_segment_index_names[ES_INDEX_POSITION]);
}

/* Proves, for ATTACH, that all positions are the segment's. */
static void
add_range_constraint(const char *table, const EsArchived *known)
{
	es_ddl_run("ALTER TABLE eventstore.%s DROP CONSTRAINT IF EXISTS %s_range", table, table);
	es_ddl_run("ALTER TABLE eventstore.%s ADD CONSTRAINT %s_range CHECK (position IS NOT NULL"
			   " AND position OPERATOR(pg_catalog.>=) " INT64_FORMAT "::pg_catalog.int8"
			   " AND position OPERATOR(pg_catalog.<) " INT64_FORMAT "::pg_catalog.int8)",
			   table, table, known->first_position, known->last_position + 1);
}

/*
 * es_attach_prepare checks a table and makes it what a segment is, but for its place in
 * the log, in this transaction, and keeps it locked.  ->relid is of a table of the
 * segment's name; the current user may do with it whatever is to be done.
 */
void
es_attach_prepare(EsAttach *attach)
{
	Relation	rel = try_table_open(attach->relid, AccessExclusiveLock);
	EsOwnerContext saved;
	EsContents	found;
	Oid			owner;

	if (rel == NULL || !es_archived_find(attach->segment, &attach->known))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("the table of segment " INT64_FORMAT " is gone", attach->segment));
	es_attach_check_shape(rel, attach->segment);
	owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	/* what looks into it has no rights but those of the store's owner */
	take_over_table(attach->relid, owner);
	rel = table_open(attach->relid, NoLock);
	es_contents_look(rel, &found);
	check_segment_contents(attach, rel, &found);
	attach->events = found.events;
	table_close(rel, NoLock);
	es_ddl_enter(&saved);
	complete_indexes(attach->relid, attach->segment);
	complete_guards(es_segment_name(attach->segment));
	add_range_constraint(es_segment_name(attach->segment), &attach->known);
	es_ddl_leave(&saved);
}

/* Finds the oldest segment of the log that is here, if it is older than a given one; else that. */
static int64
find_oldest_segment_here(int64 segment)
{
	int64		oldest = 0;

	while (oldest < segment && !OidIsValid(es_segment_relid(oldest)))
		oldest++;
	return oldest;
}

/*
 * es_attach_enter_log makes a table that es_attach_prepare has seen to a part of the log.
 * 55P03 if the log, or the rules of retention, are in use for longer than lock_timeout allows.
 */
void
es_attach_enter_log(const EsAttach *attach)
{
	const char *table = es_segment_name(attach->segment);
	EsOwnerContext saved;
	int64		oldest;

	es_base_lock(&es_policy_table, ES_POLICY_LOCK);
	oldest = find_oldest_segment_here(attach->segment);
	es_base_lock(&es_base_events, AccessExclusiveLock);
	es_ddl_enter(&saved);
	es_placeholder_drop(attach->segment);
	es_ddl_run("ALTER TABLE eventstore.events ATTACH PARTITION eventstore.%s"
			   " FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")", table,
			   attach->known.first_position, attach->known.last_position + 1);
	es_ddl_run("ALTER TABLE eventstore.%s DROP CONSTRAINT %s_range", table, table);
	es_ddl_leave(&saved);
	es_archived_forget(attach->segment);
	es_latest_forget(attach->segment);	/* what was detached by hand may have
										 * changed */
	es_policy_go_back(es_segment_first_position(oldest) - 1);
}
