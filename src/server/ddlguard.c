/*
 * ddlguard.c
 *		Statements that would take the store away.
 *
 * One word - DROP EXTENSION, or DROP SCHEMA public CASCADE where the extension
 * lives - would take all history in a moment.  So while the store has events,
 * whatever drops the extension, its schema, or a table, sequence, column, index
 * or trigger of the store is VE002, unless eventstore.allow_drop is on.  It is a
 * catch against mistakes and not a right: who may drop may also say so.
 *
 * Dropping is watched where the server does it, object by object, by an object
 * access hook: that sees every cascade.  The hook is there once the library is
 * loaded; where it is not preloaded, an event trigger of the extension (see
 * ddlguard.sql) has the server load it before the first statement of a session
 * that can drop anything.  What the server drops by itself, for REINDEX
 * CONCURRENTLY or a rewrite, is not meant.  Nor are scripts of the extension's
 * own, or a store that this very transaction has made.
 *
 * The event trigger also looks at the statement itself: for what the server would
 * refuse for another reason, that a member is named and not its extension, and
 * for what damages without dropping anything.
 *
 * Nothing here relies on the store being whole: with allow_drop on nothing is
 * looked at, so a store that is broken can always be dropped.
 */
#include "server/ddlguard.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "nodes/value.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
#include "base/objects.h"
#include "evidence/scavenged.h"
#include "evidence/seal.h"
#include "evidence/tile.h"
#include "feed/definition.h"
#include "fold/reducer.h"
#include "fold/snapshot.h"
#include "lifecycle/archived.h"
#include "lifecycle/policy.h"
#include "lifecycle/skipped.h"
#include "log/latest.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/walmark.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "rights/grantrow.h"
#include "secret/protection.h"
#include "secret/subject.h"
#include "segment/maker.h"
#include "segment/statetable.h"
#include "segment/typeindex.h"
#include "stream/stream.h"
#include "subscription/failure.h"
#include "subscription/member.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"
#include "table/columns.h"
#include "table/rows.h"
#include "table/sequence.h"
#include "type/registry.h"
#include "type/upcast.h"

#define EXTENSION		"eventstore"
#define SCHEMA			"eventstore"
#define MOST_INDEXES	3

/*
 * What of a table is the store's: the columns of its shape, those that came with a later
 * version, which may follow users' own, and indexes, the one that the shape names and
 * others.  What else there is was added by users, and is theirs to drop.
 */
typedef struct OwnTable
{
	const EsShape *shape;
	const char *indexes[MOST_INDEXES];	/* others */
} OwnTable;

static const OwnTable own_tables[] = {
	{&es_archived_shape},
	{&es_seal_shape},
	{&es_tile_shape},
	{&es_scavenged_shape},
	{&es_grantrow_shape},
	{&es_segment_config_shape},
	{&es_feeddefinition_names_shape},
	{&es_feeddefinition_shape},
	{&es_maker_failure_shape},
	{&es_progress_shape},
	{&es_progress_skips_shape},
	{&es_statetable_shape},
	{&es_typeindex_shape},
	{&es_projection_table_shape, {"projections_by_name"}},
	{&es_reducer_handlers_shape},
	{&es_reducer_table_shape},
	{&es_latest_shape},
	{&es_segment_shape},
	{&es_settle_mark_shape},
	{&es_protection_shape},
	{&es_subject_shape, {"subjects_by_subject"}},
	{&es_reducer_policies_shape},
	{&es_registry_shape},
	{&es_snapshot_shape, {"snapshots_by_stream"}},
	{&es_policy_shape},
	{&es_skipped_shape},
	{&es_stream_shape, {"streams_by_id", "streams_by_category", "streams_with_hidden"}},
	{&es_failure_shape},
	{&es_member_shape},
	{&es_partition_shape},
	{&es_subscription_shape, {"subscriptions_by_id"}},
	{&es_upcast_shape},
	{&es_walmark_shape},
};

static bool allow_drop = false;
static object_access_hook_type previous_hook = NULL;

PG_FUNCTION_INFO_V1(es_ddlguard_statement);

/* ---- what belongs to the store ---- */

/* Finds a relation of schema eventstore; InvalidOid if it is not there. */
static Oid
find_store_relation(const char *name)
{
	Oid			schema = get_namespace_oid(SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/* Tells whether an object is a member of the extension. */
static bool
is_extension_member(Oid class, Oid object)
{
	Oid			extension = getExtensionOfObject(class, object);

	return OidIsValid(extension) && extension == es_base_find_extension().oid;
}

/* Tells whether a relation is a partition of the log. */
static bool
is_log_partition(Oid relid)
{
	return get_rel_relispartition(relid) && get_partition_parent(relid, true) == find_store_relation("events");
}

/* Tells whether a relation is the table of a projection's states. */
static bool
is_state_partition(Oid relid)
{
	return get_rel_relispartition(relid) &&
		get_partition_parent(relid, true) == find_store_relation(es_statetable_parent.name);
}

/*
 * Tells whether a relation is the store's: a member, a segment, a table of states, or
 * what a type of the extension has for columns.
 */
static bool
is_own_relation(Oid relid)
{
	if (get_rel_relkind(relid) == RELKIND_COMPOSITE_TYPE)
		return is_extension_member(TypeRelationId, get_rel_type_id(relid));
	return is_extension_member(RelationRelationId, relid) || is_log_partition(relid) || is_state_partition(relid);
}

/* Finds what of a table is the store's; NULL if nothing is known of it. */
static const OwnTable *
find_own_table(Oid relid)
{
	const char *name = get_rel_name(relid);

	if (name == NULL || get_rel_namespace(relid) != get_namespace_oid(SCHEMA, true))
		return NULL;
	for (int i = 0; i < lengthof(own_tables); i++)
		if (strcmp(own_tables[i].shape->table->name, name) == 0)
			return &own_tables[i];
	return NULL;
}

/* Tells whether an index of a segment is one that each has. */
static bool
is_segment_index(const char *table, const char *index)
{
	size_t		len = strlen(table);

	if (strncmp(table, index, len) != 0)
		return false;
	for (int i = 0; i < ES_INDEX_COUNT; i++)
		if (strcmp(es_segment_index_names[i], index + len) == 0)
			return true;
	return false;
}

/* Tells whether an index is the store's, and none that a user has added to a table of it. */
static bool
is_own_index(Oid relid)
{
	Oid			table = IndexGetRelation(relid, true);
	const char *name = get_rel_name(relid);
	const OwnTable *own;

	if (!OidIsValid(table) || name == NULL || !is_own_relation(table))
		return false;
	if (is_log_partition(table))
		return is_segment_index(get_rel_name(table), name);
	if (is_state_partition(table))
		return strcmp(name, psprintf("%s_pkey", get_rel_name(table))) == 0;
	own = find_own_table(table);
	if (own && own->shape->key && strcmp(own->shape->key->name, name) == 0)
		return true;
	for (int i = 0; own && i < MOST_INDEXES && own->indexes[i]; i++)
		if (strcmp(own->indexes[i], name) == 0)
			return true;
	return false;
}

/* Tells whether a column is the store's, and none that a user has added to a table of it. */
static bool
is_own_column(Oid relid, int column)
{
	const OwnTable *own;

	if (!is_own_relation(relid))
		return false;
	if (relid == find_store_relation("events") || is_log_partition(relid))
		return column <= Natts_es_events;
	if (is_state_partition(relid))
		return column <= Natts_es_states;
	own = find_own_table(relid);
	return own == NULL || column <= own->shape->ncolumns ||
		es_columns_later(own->shape, get_attname(relid, column, false)) != NULL;
}

/* Tells whether a trigger is one of the extension's functions on a relation of the store. */
static bool
is_own_trigger(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		own = false;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		own = is_own_relation(form->tgrelid) && is_extension_member(ProcedureRelationId, form->tgfoid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return own;
}

/* Tells whether an object, or a column of one, is the extension or belongs to the store. */
static bool
is_own_object(Oid class, Oid object, int column)
{
	switch (class)
	{
		case ExtensionRelationId:
			return object == es_base_find_extension().oid;
		case NamespaceRelationId:
			return is_extension_member(class, object);
		case RelationRelationId:
			if (column > 0)
				return is_own_column(object, column);
			if (get_rel_relkind(object) == RELKIND_INDEX || get_rel_relkind(object) == RELKIND_PARTITIONED_INDEX)
				return is_own_index(object);
			return is_own_relation(object);
		case TriggerRelationId:
			return is_own_trigger(object);
		default:
			return false;
	}
}

/* ---- whether there is something to lose ---- */

/* Tells whether a table has a row that is committed or our own. */
static bool
store_table_has_rows(Oid relid)
{
	Relation	rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	Snapshot	snapshot;
	bool		found;

	if (rel == NULL)
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = rel->rd_rel->relkind == RELKIND_RELATION && es_rows_any(rel, snapshot);
	UnregisterSnapshot(snapshot);
	relation_close(rel, AccessShareLock);
	return found;
}

/*
 * Tells whether the store has, or had, an event.  Streams outlive their events,
 * and those of segments that were detached; segments are asked in case that
 * table is not filled yet.
 */
static bool
store_has_events(void)
{
	Oid			events = find_store_relation("events");
	ListCell   *cell;

	if (store_table_has_rows(find_store_relation("streams")))
		return true;
	if (get_rel_relkind(events) != RELKIND_PARTITIONED_TABLE)
		return false;
	foreach(cell, find_inheritance_children(events, NoLock))
	{
		if (store_table_has_rows(lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* Tells whether a script of the extension's own is running. */
static bool
in_own_script(void)
{
	return creating_extension && CurrentExtensionObject == es_base_find_extension().oid;
}

/* Tells whether anything can be refused now. */
static bool
is_on_guard(void)
{
	return !allow_drop && !in_own_script();
}

/* Tells whether there is a store with something to lose. */
static bool
is_store_in_use(void)
{
	return store_has_events() && !es_base_find_extension().uncommitted;
}

/* Says in an error's HINT how to do it nevertheless. */
static int
hint_at_setting(void)
{
	return errhint("If that is meant, run SET eventstore.allow_drop = on first.");
}

/* ---- dropping ---- */

/* Raises VE002 if an object belongs to a store with something to lose. */
static void
refuse_drop(Oid class, Oid object, int column)
{
	ObjectAddress address;

	if (!is_own_object(class, object, column) || !is_store_in_use())
		return;
	ObjectAddressSubSet(address, class, object, column);
	ereport(ERROR,
			errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
			errmsg("cannot drop %s because the event store has events", getObjectDescription(&address, false)),
			hint_at_setting());
}

/* The hook: called for each object that a statement drops, before it is gone. */
static void
watch_drop(ObjectAccessType access, Oid class, Oid object, int subid, void *arg)
{
	if (previous_hook)
		previous_hook(access, class, object, subid, arg);
	if (access == OAT_DROP && (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL) == 0 && is_on_guard())
		refuse_drop(class, object, subid);
}

/*
 * Finds what a statement names; InvalidOid if it is not there.  No lock is taken:
 * others' statements must not notice.
 */
static Oid
find_named_relation(const RangeVar *name)
{
	return RangeVarGetRelid(name, NoLock, true);
}

/* Refuses a DROP that names what belongs to the store; what comes by a cascade is the hook's. */
static void
check_drop_statement(const DropStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->objects)
	{
		switch (statement->removeType)
		{
			case OBJECT_EXTENSION:
				refuse_drop(ExtensionRelationId, get_extension_oid(strVal(lfirst(cell)), true), 0);
				break;
			case OBJECT_SCHEMA:
				refuse_drop(NamespaceRelationId, get_namespace_oid(strVal(lfirst(cell)), true), 0);
				break;
			case OBJECT_TABLE:
			case OBJECT_SEQUENCE:
			case OBJECT_VIEW:
			case OBJECT_INDEX:
				refuse_drop(RelationRelationId, find_named_relation(makeRangeVarFromNameList(lfirst(cell))), 0);
				break;
			default:
				break;
		}
	}
}

/* ---- damage without dropping ---- */

/* Refuses to take an object out of the extension, after which it could be dropped alone. */
static void
check_membership(const AlterExtensionContentsStmt *statement)
{
	if (statement->action < 0 && strcmp(statement->extname, EXTENSION) == 0 && is_store_in_use())
		ereport(ERROR,
				errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
				errmsg("cannot take objects out of extension \"eventstore\" because the event store has events"),
				hint_at_setting());
}

/* Finds a sequence of the store; NULL if a relation is none. */
static EsRelation *
find_own_sequence(Oid relid)
{
	if (!is_extension_member(RelationRelationId, relid) || get_rel_relkind(relid) != RELKIND_SEQUENCE)
		return NULL;
	for (int i = 0; i < lengthof(es_base_sequences); i++)
		if (find_store_relation(es_base_sequences[i]->name) == relid)
			return es_base_sequences[i];
	return NULL;
}

/* Refuses to set a sequence of the store back: numbers would be given out again. */
static void
check_alter_sequence(const AlterSeqStmt *statement)
{
	EsRelation *sequence = find_own_sequence(find_named_relation(statement->sequence));
	ListCell   *cell;
	XLogRecPtr	lsn;

	if (sequence == NULL)
		return;
	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "restart") == 0 &&
			(option->arg == NULL || defGetInt64(option) <= es_sequence_read(sequence, &lsn)) && is_store_in_use())
			ereport(ERROR,
					errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
					errmsg("cannot set sequence \"%s\" back because the event store has events", sequence->name),
					errdetail("It would give out numbers again."),
					hint_at_setting());
	}
}

/* Refuses to have a table of the store emptied by the next crash. */
static void
check_persistence(Oid relid)
{
	if (is_own_relation(relid))
		ereport(ERROR,
				errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
				errmsg("cannot make relation \"%s\" unlogged because a crash would empty it", get_rel_name(relid)),
				hint_at_setting());
}

/* Refuses to give a column of the store another type: that would change what is stored. */
static void
check_column_type(Oid relid, const char *column)
{
	AttrNumber	number = get_attnum(relid, column);

	if (number > 0 && is_own_column(relid, number) && is_store_in_use())
		ereport(ERROR,
				errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
				errmsg("cannot change the type of column \"%s\" of relation \"%s\" because the event store has events",
					   column, get_rel_name(relid)),
				hint_at_setting());
}

/*
 * Refuses to give a composite type of the store another attribute: it keeps its place
 * also once it is dropped, so nothing could make the type again what it was.
 */
static void
check_new_attribute(Oid relid)
{
	if (get_rel_relkind(relid) == RELKIND_COMPOSITE_TYPE && is_own_relation(relid) && is_store_in_use())
		ereport(ERROR,
				errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
				errmsg("cannot add an attribute to type \"%s\" because the event store has events", get_rel_name(relid)),
				errdetail("The store would refuse to work with the type, also after the attribute is dropped."),
				hint_at_setting());
}

/* Looks through the commands of an ALTER TABLE, or ALTER TYPE. */
static void
check_alter_table(const AlterTableStmt *statement)
{
	Oid			relid = find_named_relation(statement->relation);
	ListCell   *cell;

	if (!OidIsValid(relid))
		return;
	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);

		if (command->subtype == AT_SetUnLogged)
			check_persistence(relid);
		else if (command->subtype == AT_AlterColumnType)
			check_column_type(relid, command->name);
		else if (command->subtype == AT_AddColumn)
			check_new_attribute(relid);
	}
}

/* Looks at a statement before it runs. */
static void
check_ddl_statement(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropStmt:
			check_drop_statement((const DropStmt *) statement);
			break;
		case T_AlterExtensionContentsStmt:
			check_membership((const AlterExtensionContentsStmt *) statement);
			break;
		case T_AlterSeqStmt:
			check_alter_sequence((const AlterSeqStmt *) statement);
			break;
		case T_AlterTableStmt:
			check_alter_table((const AlterTableStmt *) statement);
			break;
		default:
			break;
	}
}

/*
 * guard_ddl(): event trigger on ddl_command_start.  Has the library loaded,
 * whose hook watches what is dropped, and raises VE002 for statements that name
 * what they would take away, or that damage without dropping.  Nothing is locked.
 */
Datum
es_ddlguard_statement(PG_FUNCTION_ARGS)
{
	es_call_require_trigger(CALLED_AS_EVENT_TRIGGER(fcinfo), "guard_ddl");
	/* to whom the store is not, the server says so */
	if (is_on_guard() && has_privs_of_role(GetUserId(), es_base_find_extension().owner))
		check_ddl_statement(((EventTriggerData *) fcinfo->context)->parsetree);
	PG_RETURN_NULL();
}

/* Installs the hook and the setting; called once, from _PG_init. */
void
es_ddlguard_init(void)
{
	DefineCustomBoolVariable("eventstore.allow_drop",
							 "Allows statements that drop the event store, or a part of it, while it has events.",
							 NULL, &allow_drop, false, PGC_USERSET, 0, NULL, NULL, NULL);
	previous_hook = object_access_hook;
	object_access_hook = watch_drop;
}
