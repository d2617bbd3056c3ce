/*
 * base.h
 *		The ground every part stands on: PostgreSQL version differences,
 *		the stored form of an event, the checks of what callers hand
 *		in, and whom SQL of ours runs as.
 *
 * This is the only file that may ask for PG_VERSION_NUM.
 */
#ifndef ES_BASE_BASE_H
#define ES_BASE_BASE_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "base/objects.h"

/*
 * Differences between the servers we build on.
 */
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
#define ES_TABLE_UPDATE_INDEXES_NEEDED(u) ((u) != TU_None)
#define ES_TABLE_UPDATE_ONLY_SUMMARIZING(u) ((u) == TU_Summarizing)
typedef TU_UpdateIndexes EsUpdateIndexes;
#else
#define ES_TABLE_UPDATE_INDEXES_NEEDED(u) (u)
#define ES_TABLE_UPDATE_ONLY_SUMMARIZING(u) false
typedef bool EsUpdateIndexes;
#endif

#if PG_VERSION_NUM >= 160000
#define es_sequence_record_set(record, rel) ((record).locator = (rel)->rd_locator)
#define es_enable_trigger_always(rel, name, lock) \
	EnableDisableTrigger(rel, name, InvalidOid, TRIGGER_FIRES_ALWAYS, false, false, lock)
#define ES_EXTEND_BUFFERED
#else
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

/*
 * Columns of eventstore.events and its segments, as in log/tables.sql.
 */
#define Anum_es_events_position			1
#define Anum_es_events_stream_id		2
#define Anum_es_events_version			3
#define Anum_es_events_recorded_at		4
#define Anum_es_events_event_id			5
#define Anum_es_events_category_key		6
#define Anum_es_events_type_version		7
#define Anum_es_events_run_length		8
#define Anum_es_events_id_given			9
#define Anum_es_events_stream			10
#define Anum_es_events_type				11
#define Anum_es_events_data				12
#define Anum_es_events_metadata			13
#define Natts_es_events					13

/*
 * Attributes of the SQL type es_event (and columns of the view es_events).
 */
#define Anum_es_event_position			1
#define Anum_es_event_stream			2
#define Anum_es_event_version			3
#define Anum_es_event_type				4
#define Anum_es_event_type_version		5
#define Anum_es_event_data				6
#define Anum_es_event_metadata			7
#define Anum_es_event_event_id			8
#define Anum_es_event_recorded_at		9
#define Natts_es_event					9

/*
 * One stored event, deformed.  The varlena members are stored values: they
 * may be short, compressed or out of line, and belong to whoever filled the
 * struct (a scan: until its next step).
 */
typedef struct EsEvent
{
	int64		position;
	int64		stream_id;
	int64		version;
	TimestampTz recorded_at;
	pg_uuid_t	event_id;
	int32		category_key;
	int32		type_version;
	int32		run_length;		/* see read/cursor.c */
	bool		id_given;
	Datum		stream;			/* text */
	Datum		type;			/* text */
	Datum		data;			/* jsonb */
	Datum		metadata;		/* jsonb; 0 if it was not wanted */
} EsEvent;

/* Tells whether the server that runs has a fix of minor releases. */
extern bool es_base_server_has(int fixed_in_15, int fixed_in_16);

/*
 * What a statement has taken but not yet appended must be before anything
 * looks at the log.  Set by the part that keeps it.
 */
extern void (*es_base_flush_hook) (void);

static inline void
es_base_flush_pending(void)
{
	if (es_base_flush_hook)
		es_base_flush_hook();
}

/*
 * What looks at the log as it is now cannot run in a parallel query, where all have
 * one snapshot.  Functions are labelled so, but what users call them from may not be.
 */
ES_NORETURN extern void es_base_report_parallel(void);

static inline void
es_base_refuse_parallel(void)
{
	if (unlikely(IsInParallelMode()))
		es_base_report_parallel();
}

/* Checks of arguments; all raise. */
#define ES_MAX_STREAM_NAME	512
#define ES_MAX_TYPE_NAME	255

extern void es_base_require_trigger(bool fits, const char *function);
extern void es_base_require(FunctionCallInfo fcinfo, int argno, const char *name);
extern text *es_base_stream_arg(FunctionCallInfo fcinfo, int argno);
extern void es_base_check_name(const text *name, const char *what, int max);
extern void es_base_check_stream_name(const text *name);
extern void es_base_check_type_name(const text *name);
extern int64 es_base_check_limit(int64 limit, const char *name);
extern int64 es_base_limit_arg(FunctionCallInfo fcinfo, int argno, const char *name);

/* Facts about names. */
extern bool es_base_same_text(const text *a, const text *b);
extern HTAB *es_base_name_map(const char *what, int size, Size entrysize, MemoryContext context);
extern int	es_base_category_length(const char *name, int len);
extern int32 es_base_category_key(const char *category, int len);

/* Event <-> SQL. */
extern void es_base_deform_event(TupleTableSlot *slot, EsEvent *event, bool with_metadata);
extern TransactionId es_base_slot_xmin(TupleTableSlot *slot);
extern void es_base_event_values(const EsEvent *event, Datum *values, bool *isnull);
extern void es_base_check_type(TupleDesc desc, const Oid *types, int natts);
extern void es_base_check_event(TupleDesc desc);
extern ReturnSetInfo *es_base_begin_rows(FunctionCallInfo fcinfo);
extern Datum es_base_form_event(Datum *values, bool *isnull);
extern Datum es_base_event_datum(const EsEvent *event);
extern bool es_base_event_of_datum(Datum composite, EsEvent *event, Datum *values, bool *isnull);

/* SQL as the extension's owner, safe from the caller's settings. */
typedef struct EsOwnerContext
{
	Oid			user;
	int			sec_context;
	int			guc_level;
} EsOwnerContext;

extern int	es_base_enter_settings(void);
extern void es_base_leave_settings(int level);
extern void es_base_become_owner(EsOwnerContext *saved);
extern void es_base_become_caller(const EsOwnerContext *saved);

#endif							/* ES_BASE_BASE_H */
