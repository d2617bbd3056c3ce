/*
 * objects.c
 *		Look-up of what the extension has made in this database.
 *
 * Relations are looked up by name, and their OIDs kept (EsRelation), for a session
 * may live through whatever an administrator does: REINDEX CONCURRENTLY gives an
 * index's name to another relation, and the extension may be dropped and made
 * again.  A name comes to stand for something else only when what it stood for
 * is renamed, moved or dropped, which changes that relation's row of pg_class and
 * so sends an invalidation of its OID, or when the schema is; a change of an
 * index's row of pg_index, which says whether it is valid, sends one as well.  So
 * it is enough to look whether an invalidation names an OID that is kept.  That
 * a relation is missing is never kept.
 *
 * Invalidations are taken in when a lock is taken that the transaction does not
 * have yet.  So an OID from before the lock may be dead once the lock is there;
 * what opens or locks here looks up the name again under the lock.  An index is
 * looked up once its table is locked: then it does not go away, nor do
 * others stop to keep it up.
 */
#include "base/objects.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

EsRelation	es_base_events = {"events",.kind = RELKIND_PARTITIONED_TABLE};
EsRelation	es_base_streams = {"streams"};
EsRelation	es_base_position_seq = {"position_seq",.kind = RELKIND_SEQUENCE};
EsRelation	es_base_stream_id_seq = {"stream_id_seq",.kind = RELKIND_SEQUENCE};
EsRelation	es_base_subscription_id_seq = {"subscription_id_seq",.kind = RELKIND_SEQUENCE};
EsRelation	es_base_projection_id_seq = {"projection_id_seq",.kind = RELKIND_SEQUENCE};
EsRelation	es_base_timeline_seq = {"timeline_seq",.kind = RELKIND_SEQUENCE};

EsRelation *const es_base_sequences[ES_BASE_SEQUENCES] = {
	&es_base_position_seq, &es_base_stream_id_seq, &es_base_subscription_id_seq,
	&es_base_projection_id_seq, &es_base_timeline_seq
};

static EsStore store;
static bool store_valid = false;
static EsRelation *objects = NULL;	/* all that were ever looked up */
static uint64 changes = 0;		/* see es_base_changes */

/* The type es_event; oid is that of its row of pg_class. */
static EsRelation event_type = {"es_event",.kind = RELKIND_COMPOSITE_TYPE};
static Oid	event_type_oid;

/*
 * Who wants to know of changed relations: the server has room for ten callbacks, of
 * all libraries.
 */
#define MOST_WATCHERS	16

static RelcacheCallbackFunction watchers[MOST_WATCHERS];
static int	nwatchers = 0;

/* Forgets the look-ups that gave a relation, or all of them (InvalidOid). */
static void
forget_look_ups(Oid relid)
{
	for (EsRelation *object = objects; object; object = object->next)
		if (object->oid == relid || !OidIsValid(relid))
		{
			object->known = false;
			object->changes++;
		}
}

/* Forgets all look-ups: some schema changed. */
static void
forget_on_schema_change(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
	store_valid = false;
	forget_look_ups(InvalidOid);
}

/*
 * Forgets what a relation's look-up gave, or all of them.  Tells the other parts,
 * which may compare with OIDs as last seen.
 */
static void
forget_on_relation_change(Datum arg, Oid relid)
{
	changes++;
	if (!OidIsValid(relid))
		store_valid = false;
	forget_look_ups(relid);
	for (int i = 0; i < nwatchers; i++)
		watchers[i] (arg, relid);
}

/*
 * es_base_on_relation_change registers a callback for when a relation's definition
 * changes, or all may have (InvalidOid).
 */
void
es_base_on_relation_change(RelcacheCallbackFunction callback)
{
	if (nwatchers == MOST_WATCHERS)
		elog(FATAL, "too many callbacks for changed relations");
	watchers[nwatchers++] = callback;
}

/* Registers the invalidation callbacks; called once, from _PG_init. */
void
es_base_init(void)
{
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_on_schema_change, (Datum) 0);
	CacheRegisterRelcacheCallback(forget_on_relation_change, (Datum) 0);
}

/*
 * es_base_find_extension reads the extension's row as it is now; what es_base_store
 * keeps needs a whole store.
 */
EsExtension
es_base_find_extension(void)
{
	Relation	pg_extension = table_open(ExtensionRelationId, AccessShareLock);
	EsExtension found = {InvalidOid};
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("eventstore"));
	scan = systable_beginscan(pg_extension, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		found.oid = form->oid;
		found.schema = form->extnamespace;
		found.owner = form->extowner;
		found.uncommitted = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	}
	systable_endscan(scan);
	table_close(pg_extension, AccessShareLock);
	return found;
}

/* Fills in what the extension's row says. */
static void
look_up_extension(EsStore *found)
{
	EsExtension extension = es_base_find_extension();

	if (!OidIsValid(extension.oid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("extension \"eventstore\" is not installed in this database"),
				errhint("Run CREATE EXTENSION eventstore."));
	found->extension = extension.oid;
	found->user_schema = extension.schema;
	found->owner = extension.owner;
}

/*
 * es_base_store finds the extension in this database, from the backend's memory
 * where that still holds.
 */
const EsStore *
es_base_store(void)
{
	EsStore		found;
	uint64		before = changes;

	if (likely(store_valid))
		return &store;

	memset(&found, 0, sizeof(found));
	look_up_extension(&found);
	found.schema = get_namespace_oid("eventstore", true);
	if (!OidIsValid(found.schema))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("schema \"eventstore\" is missing"),
				errhint("If it was renamed, give it its name back."));
	store = found;
	store_valid = changes == before;
	return &store;
}

/* Raises 55000 for a relation of ours that is not there, or is something else by now. */
static void
report_missing_object(const EsRelation *object)
{
	const char *schema = object == &event_type ? get_namespace_name(store.user_schema) : "eventstore";

	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("relation \"%s.%s\" is missing, or is not what the event store made", schema, object->name),
			errhint("If it was renamed or moved to another schema, undo that; otherwise restore the store from a backup."));
}

/*
 * Makes a relation what an object stands for, for as long as no invalidation has
 * come since before.
 */
static void
remember_object(EsRelation *object, Oid relid, uint64 before)
{
	if (!object->linked)
	{
		object->next = objects;
		objects = object;
		object->linked = true;
	}
	if (object->oid != relid)
		object->changes++;
	object->oid = relid;
	object->known = changes == before;
}

/* es_base_look_up looks up by name what es_base_oid does not know. */
Oid
es_base_look_up(EsRelation *object)
{
	const EsStore *in = es_base_store();
	char		kind = object->kind ? object->kind : RELKIND_RELATION;
	uint64		before = changes;
	Oid			relid = get_relname_relid(object->name, kind == RELKIND_COMPOSITE_TYPE ? in->user_schema : in->schema);

	if (!OidIsValid(relid) || get_rel_relkind(relid) != kind)
		report_missing_object(object);
	remember_object(object, relid, before);
	return relid;
}

/* Tells whether a relation, locked by now, still bears the name; raises nothing. */
static bool
still_bears_name(const EsRelation *object, Oid relid)
{
	char	   *name;
	char	   *schema;

	if (likely(object->known))
		return object->oid == relid;
	name = get_rel_name(relid);
	schema = get_namespace_name(get_rel_namespace(relid));
	return name && schema && strcmp(name, object->name) == 0 && strcmp(schema, "eventstore") == 0;
}

/*
 * es_base_changes counts invalidations, of whatever: a look-up that was kept across
 * one may be of before it.
 */
uint64
es_base_changes(void)
{
	return changes;
}

/* es_base_lock locks a relation of ours, the one that bears the name once the lock is there. */
void
es_base_lock(EsRelation *object, LOCKMODE mode)
{
	for (;;)
	{
		Oid			relid = es_base_oid(object);

		LockRelationOid(relid, mode);
		if (still_bears_name(object, relid))
			return;
		UnlockRelationOid(relid, mode);
	}
}

/*
 * es_base_try_lock is es_base_lock that does not wait; false, with no lock, also if
 * the relation has gone, or become another one, at this very moment.
 */
bool
es_base_try_lock(EsRelation *object, LOCKMODE mode)
{
	Oid			relid = es_base_oid(object);

	if (!ConditionalLockRelationOid(relid, mode))
		return false;
	if (still_bears_name(object, relid))
		return true;
	UnlockRelationOid(relid, mode);
	return false;
}

/*
 * es_base_lock_row takes such a lock, exclusive, to the end of the transaction; false
 * if it is not free and the caller does not want to wait.
 */
bool
es_base_lock_row(EsRelation *object, uint32 id, uint16 part, bool wait)
{
	LOCKTAG		tag = es_base_tag(object, id, part);

	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * es_base_is_row_locked tells whether another transaction has such a lock.  It does
 * not take it, so nobody who takes it without waiting finds it gone for the question.
 */
bool
es_base_is_row_locked(EsRelation *object, uint32 id, uint16 part)
{
	LOCKTAG		tag = es_base_tag(object, id, part);
	VirtualTransactionId *holders;
	int			count;

	holders = GetLockConflicts(&tag, ExclusiveLock, &count);
	pfree(holders);
	return count > 0;
}

/*
 * es_base_is_relation_locked tells whether another transaction has a relation locked, in
 * whatever mode.  By a look: hot standbys are told when a lock against all is taken, and not
 * when it is given back, so a try would keep their readers off to the end of the transaction.
 */
bool
es_base_is_relation_locked(Oid relid)
{
	LOCKTAG		tag;
	int			count;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	pfree(GetLockConflicts(&tag, AccessExclusiveLock, &count));
	return count > 0;
}

/* es_base_open locks and opens a table of ours; NoLock: the caller has locked it. */
Relation
es_base_open(EsRelation *object, LOCKMODE mode)
{
	if (mode != NoLock)
		es_base_lock(object, mode);
	return table_open(object->oid, NoLock);
}

/*
 * es_base_announce makes a change of a relation's rows known to those who compare
 * es_base_changes_of: this session once the command is done, all at commit.
 */
void
es_base_announce(EsRelation *object)
{
	CacheInvalidateRelcacheByRelid(es_base_oid(object));
}

/* Tells whether an index is one of an access method, NULL: btree. */
static bool
has_method(Oid index, const char *method)
{
	HeapTuple	row = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
	bool		same;

	if (!HeapTupleIsValid(row))
		return false;
	same = ((Form_pg_class) GETSTRUCT(row))->relam == (method ? get_index_am_oid(method, true) : BTREE_AM_OID);
	ReleaseSysCache(row);
	return same;
}

/* Tells whether a relation is an index of a table, of a shape, that scans may use. */
static bool
is_usable_index(Oid relid, Oid table, const EsIndexShape *shape)
{
	HeapTuple	row = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(relid));
	Form_pg_index form;
	bool		same;

	if (!HeapTupleIsValid(row))
		return false;
	form = (Form_pg_index) GETSTRUCT(row);
	same = has_method(relid, shape->method) && form->indrelid == table && form->indisvalid && form->indislive &&
		(form->indisunique || !shape->unique) &&
		heap_attisnull(row, Anum_pg_index_indpred, NULL) == (shape->where == NULL);
	for (int i = 0; same && i < ES_MOST_KEYS && shape->keys[i] != 0; i++)
		same = i < form->indnkeyatts && form->indkey.values[i] == shape->keys[i];
	ReleaseSysCache(row);
	return same;
}

/*
 * es_base_index_statement gives the statement that makes an index, to be shown, or
 * to be run with any search_path.
 */
char *
es_base_index_statement(const char *name, const char *table, const EsIndexShape *shape, bool qualified)
{
	const char *where = qualified && shape->qualified ? shape->qualified : shape->where;

	return psprintf("CREATE %sINDEX %s ON eventstore.%s%s%s (%s)%s%s", shape->unique ? "UNIQUE " : "", name, table,
					shape->method ? " USING " : "", shape->method ? shape->method : "", shape->columns,
					where ? " WHERE " : "", where ? where : "");
}

/* The statement that makes an index, to be shown. */
static char *
index_statement(const char *name, Oid table, const EsIndexShape *shape)
{
	return es_base_index_statement(name, get_rel_name(table), shape, false);
}

/*
 * es_base_find_index looks up an index of a table of ours that is locked; 55000 if
 * there is none that will do.
 */
Oid
es_base_find_index(const char *name, Oid table, const EsIndexShape *shape)
{
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("index \"eventstore.%s\" is missing", name),
				errhint("If it was renamed, give it its name back; otherwise run %s.", index_statement(name, table, shape)));
	if (!is_usable_index(relid, table, shape))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("index \"eventstore.%s\" is invalid, or is not what the event store made", name),
				errhint("Run REINDEX INDEX eventstore.%s, or drop it and run %s.", name, index_statement(name, table, shape)));
	return relid;
}

/* es_base_usable_index is that without an error: InvalidOid if there is none that will do. */
Oid
es_base_usable_index(const char *name, Oid table, const EsIndexShape *shape)
{
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	return OidIsValid(relid) && is_usable_index(relid, table, shape) ? relid : InvalidOid;
}

/* Looks up an index of a table that is locked, and keeps it. */
static Oid
look_up_index(EsRelation *object, Relation rel)
{
	uint64		before = changes;
	Oid			table = RelationGetRelid(rel);
	Oid			relid = es_base_find_index(object->name, table, &object->index);

	remember_object(object, relid, before);
	object->table = table;
	return relid;
}

/*
 * es_base_index gives the OID of an index of ours that scans may use; 55000 if
 * there is none.  The table is open and locked, to the end of what is
 * done with the index.
 */
Oid
es_base_index(EsRelation *object, Relation rel)
{
	if (likely(object->known && object->table == RelationGetRelid(rel)))
		return object->oid;
	return look_up_index(object, rel);
}

/* es_base_open_index opens such an index. */
Relation
es_base_open_index(EsRelation *object, Relation rel, LOCKMODE mode)
{
	return index_open(es_base_index(object, rel), mode);
}

/* es_base_sees_relation tells whether there is a relation of an OID, as a snapshot sees it. */
bool
es_base_sees_relation(Oid relid, Snapshot snapshot)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		sees;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(pg_class, ClassOidIndexId, true, snapshot, 1, &key);
	sees = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return sees;
}

/*
 * es_base_sees tells whether a snapshot sees of a table, which is locked, what it
 * should.  ALTER TABLE that rewrites a table makes its transaction the writer of all
 * rows, so that a snapshot from before sees none of them: who took it and then
 * waited for the lock finds the table empty.  Rewritten is what has another file
 * than its first one; since the snapshot, if it does not see who wrote the table's
 * row of pg_class.  Other changes of a table that was rewritten once look the same.
 */
bool
es_base_sees(Relation rel, Snapshot snapshot)
{
	HeapTuple	row;
	TransactionId writer;

	if (likely(rel->rd_rel->relfilenode == RelationGetRelid(rel)) || snapshot->snapshot_type != SNAPSHOT_MVCC)
		return true;
	row = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(rel)));
	if (!HeapTupleIsValid(row))
		return true;
	writer = HeapTupleHeaderGetXmin(row->t_data);
	ReleaseSysCache(row);
	return !TransactionIdIsNormal(writer) || TransactionIdIsCurrentTransactionId(writer) ||
		!XidInMVCCSnapshot(writer, snapshot);
}

/* es_base_event_type gives the OID of the type es_event; 55000 if it is not there. */
Oid
es_base_event_type(void)
{
	if (unlikely(!event_type.known))
		event_type_oid = get_rel_type_id(es_base_look_up(&event_type));
	return event_type_oid;
}

/* es_base_owns_store tells whether a role is the store's owner, a member of it, or a superuser. */
bool
es_base_owns_store(Oid role)
{
	return has_privs_of_role(role, es_base_store()->owner);
}
