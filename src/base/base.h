/*
 * base.h
 *		The ground every part stands on: the server, and how its versions differ.
 *
 * This is the only file that may ask for PG_VERSION_NUM.
 */
#ifndef ES_BASE_BASE_H
#define ES_BASE_BASE_H

#include "postgres.h"

#include "access/genam.h"
#include "fmgr.h"
#include "nodes/pg_list.h"

/* ---- differences between the servers we build on ---- */

#if PG_VERSION_NUM < 150000
#error "eventstore needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 180000
#define es_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define es_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

#if PG_VERSION_NUM >= 170000
#define es_json_lexer(json) makeJsonLexContext(NULL, json, true)
#else
#define es_json_lexer(json) makeJsonLexContext(json, true)
#endif

#if PG_VERSION_NUM >= 160000
#define ES_JSON_ACTION JsonParseErrorType
#define ES_JSON_GO_ON return JSON_SUCCESS
#else
#define ES_JSON_ACTION void
#define ES_JSON_GO_ON return
#endif

#if PG_VERSION_NUM >= 180000
#define ES_NORETURN pg_noreturn
#else
#define ES_NORETURN __attribute__((noreturn))
#endif

#if PG_VERSION_NUM >= 170000
#define ES_INVALID_PROC INVALID_PROC_NUMBER
#define es_holds_lock(tag, mode) LockHeldByMe(tag, mode, false)
#define es_vxid_proc(vxid) ((vxid).procNumber)
#define es_vxid_set(vxid, proc, lxid) \
	((vxid).procNumber = (proc), (vxid).localTransactionId = (lxid))
#define es_vxid_process(id) ProcNumberGetProc((id).procNumber)
#define es_process_lxid(process) ((process)->vxid.lxid)
#define es_my_backend() MyProcNumber
#define es_my_lxid() (MyProc->vxid.lxid)
#define es_my_procno() MyProcNumber
#define es_wait_event_new(name) WaitEventExtensionNew(name)
#define es_index_insert_done(index, info) index_insert_cleanup(index, info)
#define es_change_new_tuple(change) ((change)->data.tp.newtuple)
#define es_slot_create_ephemeral(name) \
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false, false, false)
#else
#define ES_INVALID_PROC InvalidBackendId
#define es_holds_lock(tag, mode) LockHeldByMe(tag, mode)
#define es_vxid_proc(vxid) ((vxid).backendId)
#define es_vxid_set(vxid, proc, lxid) \
	((vxid).backendId = (proc), (vxid).localTransactionId = (lxid))
#define es_vxid_process(id) BackendIdGetProc((id).backendId)
#define es_process_lxid(process) ((process)->lxid)
#define es_my_backend() MyBackendId
#define es_my_lxid() (MyProc->lxid)
#define es_my_procno() (MyProc->pgprocno)
#define es_wait_event_new(name) PG_WAIT_EXTENSION
#define es_index_insert_done(index, info) ((void) 0)
#define es_change_new_tuple(change) \
	((change)->data.tp.newtuple ? &(change)->data.tp.newtuple->tuple : NULL)
#define es_slot_create_ephemeral(name) \
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false)
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"				/* part of postgres.h before */
#endif

#if PG_VERSION_NUM >= 160000
#define ES_TABLE_UPDATE_INDEXES_NEEDED(u) ((u) != TU_None)
#define ES_TABLE_UPDATE_ONLY_SUMMARIZING(u) ((u) == TU_Summarizing)
#define EsUpdateIndexes TU_UpdateIndexes
#else
#define ES_TABLE_UPDATE_INDEXES_NEEDED(u) (u)
#define ES_TABLE_UPDATE_ONLY_SUMMARIZING(u) false
#define EsUpdateIndexes bool
#endif

#if PG_VERSION_NUM >= 160000
#define es_relation_file(rel) ((rel)->rd_locator.relNumber)
#define es_sequence_record_set(record, rel) ((record).locator = (rel)->rd_locator)
#define es_enable_trigger_always(rel, name, lock) \
	EnableDisableTrigger(rel, name, InvalidOid, TRIGGER_FIRES_ALWAYS, false, false, lock)
#define ES_EXTEND_BUFFERED
#else
#define es_relation_file(rel) ((rel)->rd_node.relNode)
#define es_sequence_record_set(record, rel) ((record).node = (rel)->rd_node)
#define es_enable_trigger_always(rel, name, lock) \
	EnableDisableTrigger(rel, name, TRIGGER_FIRES_ALWAYS, false, lock)
#endif

#if PG_VERSION_NUM >= 170000
#define es_bt_search(index, heap, key, buffer, access) \
	_bt_search(index, heap, key, buffer, access)
#elif PG_VERSION_NUM >= 160000
#define es_bt_search(index, heap, key, buffer, access) \
	_bt_search(index, heap, key, buffer, access, NULL)
#else
#define es_bt_search(index, heap, key, buffer, access) \
	_bt_search(index, key, buffer, access, NULL)
#endif

/* Raises an error if a page was changed after what is left for a snapshot, that is too old. */
#if PG_VERSION_NUM >= 170000
#define es_test_snapshot_age(snapshot, rel, page) ((void) 0)
#else
#define es_test_snapshot_age(snapshot, rel, page) TestForOldSnapshot(snapshot, rel, page)
#endif

/* The server's routine of btrees, to be changed; and whose builds get no parallel workers. */
#define es_btree_routine() GetIndexAmRoutine(F_BTHANDLER)
#if PG_VERSION_NUM >= 170000
#define es_index_am_builds_alone(am) ((am)->amcanbuildparallel = false)
#else
#define es_index_am_builds_alone(am) ((void) 0)
#endif

#if PG_VERSION_NUM >= 160000
#define es_decoding_snapshot(builder, xid) SnapBuildGetOrBuildSnapshot(builder)
#else
#define es_decoding_snapshot(builder, xid) SnapBuildGetOrBuildSnapshot(builder, xid)
#endif

/* A connection to a publisher for queries; NULL, with *err set, if there is none. */
#if PG_VERSION_NUM >= 170000
#define es_publisher_connect(conninfo, needs_password, name, err) \
	walrcv_connect(conninfo, true, true, needs_password, name, err)
#define es_subscription_add(subscription, relation, state) \
	AddSubscriptionRelState(subscription, relation, state, InvalidXLogRecPtr, true)
#elif PG_VERSION_NUM >= 160000
#define es_publisher_connect(conninfo, needs_password, name, err) \
	walrcv_connect(conninfo, true, needs_password, name, err)
#define es_subscription_add(subscription, relation, state) \
	AddSubscriptionRelState(subscription, relation, state, InvalidXLogRecPtr)
#else
#define es_publisher_connect(conninfo, needs_password, name, err) \
	walrcv_connect(conninfo, true, name, err)
#define es_subscription_add(subscription, relation, state) \
	AddSubscriptionRelState(subscription, relation, state, InvalidXLogRecPtr)
#endif

/* What the server calls the progress of a table's copy for a subscription. */
#if PG_VERSION_NUM >= 160000
#define es_copy_origin_name(subscription, relation, name, size) \
	ReplicationOriginNameForLogicalRep(subscription, relation, name, size)
#else
#define es_copy_origin_name(subscription, relation, name, size) \
	ReplicationOriginNameForTablesync(subscription, relation, name, size)
#endif

/* Who may make subscriptions, and whether the server asks for a password in what they say. */
#if PG_VERSION_NUM >= 160000
#define es_may_subscribe(role) has_privs_of_role(role, ROLE_PG_CREATE_SUBSCRIPTION)
#define es_subscription_needs_password(sub) ((sub)->passwordrequired && !superuser_arg((sub)->owner))
#define es_owns_subscription(subscription, role) \
	object_ownercheck(SubscriptionRelationId, subscription, role)
#else
#define es_may_subscribe(role) superuser_arg(role)
#define es_subscription_needs_password(sub) false
#define es_owns_subscription(subscription, role) \
	pg_subscription_ownercheck(subscription, role)
#endif

/* What the server shows of the n-th session, from 1 on; see utils/backend_status.h. */
#if PG_VERSION_NUM >= 160000
#define es_activity_entry(n) pgstat_get_local_beentry_by_index(n)
#else
#define es_activity_entry(n) pgstat_fetch_stat_local_beentry(n)
#endif

#if PG_VERSION_NUM >= 160000
#define es_may_become(member, role) member_can_set_role(member, role)
#else
#define es_may_become(member, role) is_member_of_role(member, role)
#endif

/* The server's settings, to be used with utils/guc_tables.h; *count becomes how many there are. */
#if PG_VERSION_NUM >= 160000
#define es_setting_records(count) get_guc_variables(count)
#else
#define es_setting_records(count) (*(count) = GetNumConfigOptions(), get_guc_variables())
#endif

#if PG_VERSION_NUM >= 160000
#define es_exec_insert_index_tuples(result, slot, estate, only_summarizing) \
	ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL, only_summarizing)
#define es_owns_database(database, role) \
	object_ownercheck(DatabaseRelationId, database, role)
#define es_function_aclcheck(function, role) \
	object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE)
#else
#define es_exec_insert_index_tuples(result, slot, estate, only_summarizing) \
	((void) (only_summarizing), ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL))
#define es_owns_database(database, role) \
	pg_database_ownercheck(database, role)
#define es_function_aclcheck(function, role) \
	pg_proc_aclcheck(function, role, ACL_EXECUTE)
#endif

/* What a path is known to be sorted by, if the query has a use for it; see optimizer/paths.h. */
#if PG_VERSION_NUM >= 160000
#define es_expression_pathkey(root, expression, operator, relids) \
	build_expression_pathkey(root, expression, operator, relids, false)
#else
#define es_expression_pathkey(root, expression, operator, relids) \
	build_expression_pathkey(root, expression, NULL, operator, relids, false)
#endif

/* Both are part of commands/explain.h before. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* A path that reads a foreign table and finds next to nothing; see optimizer/pathnode.h. */
#if PG_VERSION_NUM >= 180000
#define es_foreign_path(root, rel) \
	create_foreignscan_path(root, rel, NULL, 1, 0, 0, 0, NIL, (rel)->lateral_relids, NULL, NIL, NIL)
#elif PG_VERSION_NUM >= 170000
#define es_foreign_path(root, rel) \
	create_foreignscan_path(root, rel, NULL, 1, 0, 0, NIL, (rel)->lateral_relids, NULL, NIL, NIL)
#else
#define es_foreign_path(root, rel) \
	create_foreignscan_path(root, rel, NULL, 1, 0, 0, NIL, (rel)->lateral_relids, NULL, NIL)
#endif

/*
 * A copy of an index on a like table, from a statement that generateClonedIndexStmt has made;
 * nobody is asked for rights, and nothing is said.
 */
#if PG_VERSION_NUM >= 160000
#define es_define_index_copy(table, statement) \
	DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, -1, false, false, false, false, true)
#else
#define es_define_index_copy(table, statement) \
	DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, false, false, false, false, true)
#endif

/* Makes such a statement, of a constraint WITHOUT OVERLAPS, one of an index by itself. */
#if PG_VERSION_NUM >= 180000
#define es_index_forget_overlaps(statement) \
	((statement)->unique &= !(statement)->iswithoutoverlaps, (statement)->iswithoutoverlaps = false)
#else
#define es_index_forget_overlaps(statement) ((void) (statement))
#endif

/*
 * What the relation cache knows of two relations whose files are exchanged: the second one
 * is as new or old as the first was, whose file is new.
 */
#if PG_VERSION_NUM >= 160000
#define es_relation_take_new_file(rel, other) \
	((other)->rd_createSubid = (rel)->rd_createSubid, \
	 (other)->rd_newRelfilelocatorSubid = (rel)->rd_newRelfilelocatorSubid, \
	 (other)->rd_firstRelfilelocatorSubid = (rel)->rd_firstRelfilelocatorSubid, \
	 RelationAssumeNewRelfilelocator(rel))
#else
#define es_relation_take_new_file(rel, other) \
	((other)->rd_createSubid = (rel)->rd_createSubid, \
	 (other)->rd_newRelfilenodeSubid = (rel)->rd_newRelfilenodeSubid, \
	 (other)->rd_firstRelfilenodeSubid = (rel)->rd_firstRelfilenodeSubid, \
	 RelationAssumeNewRelfilenode(rel))
#endif

/* The settings that end what lasts too long, each a transaction or less; but for lock_timeout. */
#if PG_VERSION_NUM >= 170000
#define ES_TIMEOUT_SETTINGS "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"
#else
#define ES_TIMEOUT_SETTINGS "statement_timeout", "idle_in_transaction_session_timeout"
#endif

/* How many pages of a relation are frozen, as its row of pg_class has it where it has it. */
#if PG_VERSION_NUM >= 180000
#define es_class_all_frozen(form) ((form)->relallfrozen)
#define es_class_set_all_frozen(form, pages) ((form)->relallfrozen = (pages))
#else
#define es_class_all_frozen(form) 0
#define es_class_set_all_frozen(form, pages) ((void) (pages))
#endif

/*
 * Whether VACUUM keeps what nobody here sees any more, for standbys (vacuum_defer_cleanup_age);
 * see storage/standby.h.
 */
#if PG_VERSION_NUM >= 160000
#define es_cleanup_is_deferred() false
#else
#include "storage/standby.h"
#define es_cleanup_is_deferred() (vacuum_defer_cleanup_age != 0)
#endif

/* Closes the files of a relation whose entry in the relation cache is about to be forgotten. */
#if PG_VERSION_NUM >= 170000
#define es_relation_close_files(relid) ((void) (relid))
#else
#define es_relation_close_files(relid) RelationCloseSmgrByOid(relid)
#endif

/*
 * The view that a subquery of a query's range table was made of; InvalidOid if it was none.
 * Older servers leave the view as the first entry of its own range table only.
 */
#if PG_VERSION_NUM >= 160000
#define es_subquery_view(entry) ((entry)->relid)
#else
#define es_subquery_view(entry) \
	((entry)->subquery->rtable != NIL && \
	 linitial_node(RangeTblEntry, (entry)->subquery->rtable)->relkind == RELKIND_VIEW ? \
	 linitial_node(RangeTblEntry, (entry)->subquery->rtable)->relid : InvalidOid)
#endif

/* The version of this library, as the extension's script has one, too. */
extern const char *const es_base_version;

/* Tells whether the server that runs has a fix of minor releases. */
extern bool es_base_server_has(int fixed_in_15, int fixed_in_16);

/*
 * Gives what pg_stat_activity shows of a wait of ours, by name where the server
 * knows such names.
 */
extern uint32 es_base_wait_event(uint32 *known, const char *name);

/* Sleeps for a moment, while somebody else is at work who is soon done. */
extern void es_base_nap(long microseconds);

#endif							/* ES_BASE_BASE_H */
