/*
 * statetable.c
 *		The tables of projections' states, one for each projection.
 *
 * eventstore.projection_states is partitioned by projection, so that each read model
 * has statistics, indexes and dead rows of its own, and whoever may read one sees
 * nothing of another, by no function in a query either.
 *
 * A partition is made with its projection, in that transaction, and belongs to the
 * extension's owner; like a segment it is no member of the extension, so a dump has
 * its definition, and the indexes that users have made on it.
 *
 * No index of a partition is a part of one of the parent: a dump would have it say so,
 * and the parent's index is not there in a restore.  So one that somebody creates on the
 * parent is made one of each partition.
 *
 * Nor has the parent that CREATE EXTENSION makes a key: a restore makes that of each
 * partition, and would find that it has one.  It gets its key before a publication is
 * made, or with the next partition where there is one: what is published by the root
 * is updated by the root's key.
 *
 * A partition is dropped with its projection if nobody reads it just now, as the log
 * would stand still as long as a dump lasts.  Else it is emptied, and dropped as
 * another projection is made or dropped (projection/declare.c).  A partition without
 * a projection is in nobody's way.
 *
 * Locks: the parent in SHARE UPDATE EXCLUSIVE mode to make a partition, in ACCESS
 * EXCLUSIVE mode to drop one or to make the key.  Neither reading nor writing states
 * locks the parent.
 */
#include "segment/statetable.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/call.h"
#include "base/owner.h"
#include "segment/ddl.h"
#include "segment/maker.h"
#include "table/rows.h"

EsRelation	es_statetable_parent = {"projection_states",.kind = RELKIND_PARTITIONED_TABLE};

static const EsColumn columns[Natts_es_states] = {
	{"projection_id", INT8OID}, {"generation", INT8OID}, {"version", INT8OID}, {"position", INT8OID},
	{"key", TEXTOID}, {"state", JSONBOID, true}, {"state_text", TEXTOID, true},
	{"sealed", TEXTOID, true}
};
const EsShape es_statetable_shape = ES_SHAPE(&es_statetable_parent, NULL, columns);

/* A projection's table, as look-ups know it; it is never freed, since they keep it. */
typedef struct StateTable
{
	int64		projection_id;	/* hash key */
	EsRelation *table;
	EsShape		shape;
} StateTable;

static HTAB *state_tables = NULL;

PG_FUNCTION_INFO_V1(es_statetable_before_publish);
PG_FUNCTION_INFO_V1(es_statetable_after_index);

/* ---- looking up ---- */

/* Makes what names a relation of a projection's. */
static EsRelation *
make_state_relation(int64 projection_id, const char *suffix)
{
	EsRelation *relation = MemoryContextAllocZero(TopMemoryContext, sizeof(EsRelation));
	char	   *name = psprintf(ES_STATETABLE_PREFIX INT64_FORMAT "%s", projection_id, suffix);

	relation->name = MemoryContextStrdup(TopMemoryContext, name);
	pfree(name);
	return relation;
}

/* Fills in what is known of a projection's table. */
static void
fill_state_table(StateTable *entry)
{
	static const EsIndexShape by_key = {
		.keys = {Anum_es_states_id, Anum_es_states_generation, Anum_es_states_key},
		.columns = "projection_id, generation, key",.unique = true
	};
	EsRelation *key = make_state_relation(entry->projection_id, "_pkey");

	key->index = by_key;
	entry->shape = es_statetable_shape;
	entry->shape.key = key;
	entry->shape.table = entry->table = make_state_relation(entry->projection_id, "");
}

/* es_statetable_of gives the shape of a projection's table, be it there or not. */
const EsShape *
es_statetable_of(int64 projection_id)
{
	StateTable *entry;
	bool		found;

	if (state_tables == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int64),.entrysize = sizeof(StateTable)};

		state_tables = hash_create("eventstore state tables", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(state_tables, &projection_id, HASH_ENTER, &found);
	if (!found)
		entry->table = NULL;
	if (entry->table == NULL)
		fill_state_table(entry);
	return &entry->shape;
}

/* es_statetable_relid finds a projection's table; InvalidOid if it is not there. */
Oid
es_statetable_relid(int64 projection_id)
{
	return get_relname_relid(es_statetable_of(projection_id)->table->name, es_base_store()->schema);
}

/* es_statetable_lock locks a projection's table; false if it is not there any more. */
bool
es_statetable_lock(int64 projection_id, LOCKMODE mode)
{
	for (;;)
	{
		Oid			relid = es_statetable_relid(projection_id);

		if (!OidIsValid(relid))
			return false;
		LockRelationOid(relid, mode);
		if (es_statetable_relid(projection_id) == relid)
			return true;
		UnlockRelationOid(relid, mode);
	}
}

/* es_statetable_ids lists the projections that have a table, or had one that is left. */
List *
es_statetable_ids(void)
{
	List	   *ids = NIL;
	ListCell   *cell;

	foreach(cell, find_inheritance_children(es_base_oid(&es_statetable_parent), NoLock))
	{
		const char *name = get_rel_name(lfirst_oid(cell));
		size_t		len = strlen(ES_STATETABLE_PREFIX);
		int64	   *id = palloc(sizeof(int64));

		if (name && strncmp(name, ES_STATETABLE_PREFIX, len) == 0 && (*id = strtoi64(name + len, NULL, 10)) > 0)
			ids = lappend(ids, id);
	}
	return ids;
}

/* ---- making ---- */

/* Tells whether the parent has its key. */
static bool
parent_has_key(void)
{
	Relation	rel = es_base_open(&es_statetable_parent, AccessShareLock);
	bool		has;

	list_free(RelationGetIndexList(rel));	/* finds out, too */
	has = OidIsValid(rel->rd_pkindex);
	table_close(rel, NoLock);
	return has;
}

/* Takes a partition's index out of the parent's that it is a part of. */
static void
set_index_free(Oid relid)
{
	Relation	index = index_open(relid, ShareUpdateExclusiveLock);
	Oid			constraint = get_relation_idx_constraint_oid(index->rd_index->indrelid, relid);

	IndexSetParentIndex(index, InvalidOid);
	if (OidIsValid(constraint))
		ConstraintSetParentConstraint(constraint, InvalidOid, InvalidOid);
	index_close(index, NoLock);
}

/*
 * Sees to it that no index of a partition is a part of one of the parent, which has none
 * but its key then, and what users' constraints have.
 */
static void
set_indexes_free(void)
{
	Relation	rel = es_base_open(&es_statetable_parent, ShareUpdateExclusiveLock);
	List	   *indexes = RelationGetIndexList(rel);
	Oid			key = rel->rd_pkindex;
	ListCell   *cell;
	ListCell   *part;

	table_close(rel, NoLock);
	foreach(cell, indexes)
	{
		ObjectAddress index;

		if (lfirst_oid(cell) != key && OidIsValid(get_index_constraint(lfirst_oid(cell))))
			continue;
		foreach(part, find_inheritance_children(lfirst_oid(cell), NoLock))
		{
			set_index_free(lfirst_oid(part));
		}
		CommandCounterIncrement();
		ObjectAddressSet(index, RelationRelationId, lfirst_oid(cell));
		if (lfirst_oid(cell) != key)
			performDeletion(&index, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	}
	CommandCounterIncrement();
}

/* Tells whether there are publications in this database. */
static bool
has_publications(void)
{
	Relation	rel = table_open(PublicationRelationId, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		has = es_rows_any(rel, snapshot);

	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return has;
}

/* Gives the parent its key, after es_ddl_enter; pg_upgrade leaves one that is not valid. */
static void
make_parent_key(void)
{
	if (parent_has_key())
		return;
	if (OidIsValid(get_relation_constraint_oid(es_base_oid(&es_statetable_parent), "projection_states_by_key", true)))
		es_ddl_run("ALTER TABLE eventstore.projection_states DROP CONSTRAINT projection_states_by_key");
	es_ddl_run("ALTER TABLE eventstore.projection_states ADD CONSTRAINT projection_states_by_key"
			   " PRIMARY KEY (projection_id, generation, key)");
	CommandCounterIncrement();
	set_indexes_free();
}

/*
 * es_statetable_make makes the table of a projection, if it is not there, in this
 * transaction.
 */
void
es_statetable_make(int64 projection_id)
{
	const char *table = es_statetable_of(projection_id)->table->name;
	EsOwnerContext saved;

	if (OidIsValid(es_statetable_relid(projection_id)))
		return;
	es_ddl_enter(&saved);
	if (has_publications())
		make_parent_key();
	es_ddl_run("CREATE TABLE eventstore.%s"
			   " (LIKE eventstore.projection_states INCLUDING STORAGE INCLUDING COMPRESSION"
			   " INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED) WITH (fillfactor = 80)", table);
	es_ddl_run("ALTER TABLE eventstore.%s ADD CONSTRAINT %s_pkey PRIMARY KEY (projection_id, generation, key)",
			   table, table);
	es_maker_guard(table);
	es_ddl_run("ALTER TABLE eventstore.projection_states ATTACH PARTITION eventstore.%s FOR VALUES IN (" INT64_FORMAT ")",
			   table, projection_id);
	CommandCounterIncrement();
	set_indexes_free();
	es_ddl_leave(&saved);
}

/*
 * before_publish(): event trigger before CREATE and ALTER PUBLICATION.  Gives the
 * parent its key.
 */
Datum
es_statetable_before_publish(PG_FUNCTION_ARGS)
{
	EsOwnerContext saved;

	es_call_require_trigger(CALLED_AS_EVENT_TRIGGER(fcinfo), "before_publish");
	if (!parent_has_key())
	{
		es_ddl_enter(&saved);
		make_parent_key();
		es_ddl_leave(&saved);
	}
	PG_RETURN_NULL();
}

/* Tells whether a statement names the parent; raises nothing, whatever has become of the store. */
static bool
is_parent(const RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	const char *schema = OidIsValid(relid) ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	return schema && strcmp(schema, "eventstore") == 0 && strcmp(get_rel_name(relid), es_statetable_parent.name) == 0;
}

/*
 * after_index(): event trigger after CREATE INDEX.  An index on the parent becomes one
 * of each partition.
 */
Datum
es_statetable_after_index(PG_FUNCTION_ARGS)
{
	const IndexStmt *statement;

	es_call_require_trigger(CALLED_AS_EVENT_TRIGGER(fcinfo), "after_index");
	statement = (const IndexStmt *) ((EventTriggerData *) fcinfo->context)->parsetree;
	if (IsA(statement, IndexStmt) && statement->relation && is_parent(statement->relation))
		set_indexes_free();
	PG_RETURN_NULL();
}

/* ---- dropping ---- */

/* Gives the view, or table, that a rule makes; the object itself if it is no rule. */
static ObjectAddress
resolve_rule(ObjectAddress object)
{
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	if (object.classId != RewriteRelationId)
		return object;
	rel = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_rewrite_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object.objectId));
	scan = systable_beginscan(rel, RewriteOidIndexId, true, NULL, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		ObjectAddressSet(object, RelationRelationId, ((Form_pg_rewrite) GETSTRUCT(row))->ev_class);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return object;
}

/*
 * es_statetable_find_user finds an object of users', a view say, that goes by a
 * projection's table, so that it cannot be dropped; *user describes it.
 */
bool
es_statetable_find_user(int64 projection_id, char **user)
{
	Oid			relid = es_statetable_relid(projection_id);
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	row;
	bool		found = false;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, lengthof(keys), keys);
	while (!found && HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(row);
		ObjectAddress object;

		if (form->deptype != DEPENDENCY_NORMAL)
			continue;
		ObjectAddressSet(object, form->classid, form->objid);
		object = resolve_rule(object);
		*user = getObjectDescription(&object, true);
		found = *user != NULL;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Tells whether a projection's table is in use, here or elsewhere, or the parent elsewhere.
 * Here it is if it is open: locked it may be by what is over.
 */
static bool
are_states_in_use(Oid relid)
{
	Relation	rel;
	bool		used;

	if (es_base_is_relation_locked(es_base_oid(&es_statetable_parent)) || es_base_is_relation_locked(relid) ||
		!ConditionalLockRelationOid(relid, AccessShareLock))
		return true;
	rel = try_table_open(relid, NoLock);
	used = rel == NULL || rel->rd_refcnt != 1 || AfterTriggerPendingOnRel(relid);
	if (rel != NULL)
		table_close(rel, NoLock);
	UnlockRelationOid(relid, AccessShareLock);
	return used;
}

/* Locks a projection's table and the parent against all; false, with no lock, if they are used. */
static bool
try_to_lock_states(Oid relid)
{
	if (!es_base_try_lock(&es_statetable_parent, AccessExclusiveLock))
		return false;
	if (ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return true;
	UnlockRelationOid(es_statetable_parent.oid, AccessExclusiveLock);
	return false;
}

/*
 * es_statetable_try_drop drops the table of a projection that is being dropped, or has
 * been; false if it is in use, by a view say.  It is locked only if it is not, so that nobody
 * is kept off a table that stays, and once it is, what others may have done is looked at again.
 */
bool
es_statetable_try_drop(int64 projection_id)
{
	Oid			relid = es_statetable_relid(projection_id);
	ObjectAddress table;
	char	   *user;

	if (!OidIsValid(relid))
		return true;
	if (are_states_in_use(relid) || es_statetable_find_user(projection_id, &user) || !try_to_lock_states(relid))
		return false;
	if (es_statetable_relid(projection_id) != relid || es_statetable_find_user(projection_id, &user))
	{
		UnlockRelationOid(relid, AccessExclusiveLock);
		UnlockRelationOid(es_statetable_parent.oid, AccessExclusiveLock);
		return false;
	}
	ObjectAddressSet(table, RelationRelationId, relid);
	/* internal: not what guards the store's tables is meant */
	performDeletion(&table, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
	return true;
}
