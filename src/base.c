/*
 * base.c
 *		Object look-up, argument checks and the forms an event takes.
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
#include "base.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "executor/nodeHash.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

void		(*es_base_flush_hook) (void) = NULL;

EsRelation	es_base_events = {"events",.kind = RELKIND_PARTITIONED_TABLE};
EsRelation	es_base_streams = {"streams"};
EsRelation	es_base_position_seq = {"position_seq",.kind = RELKIND_SEQUENCE};

static EsStore store;
static bool store_valid = false;
static EsRelation *objects = NULL;	/* all that were ever looked up */
static uint64 changes = 0;		/* see es_base_changes */

/* The type es_event; oid is that of its row of pg_class. */
static EsRelation event_type = {"es_event",.kind = RELKIND_COMPOSITE_TYPE};
static Oid	event_type_oid;

/* Who wants to know of changed relations: the server has room for ten callbacks, of all libraries. */
#define MOST_WATCHERS	16

static RelcacheCallbackFunction watchers[MOST_WATCHERS];
static int	nwatchers = 0;

/* Forgets all look-ups: some schema changed. */
static void
forget_on_schema_change(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
	store_valid = false;
	for (EsRelation *object = objects; object; object = object->next)
		object->known = false;
}

/* Forgets what a relation's look-up gave, or all of them.  Tells the other parts, which may compare with OIDs as last seen. */
static void
forget_on_relation_change(Datum arg, Oid relid)
{
	changes++;
	if (!OidIsValid(relid))
		store_valid = false;
	for (EsRelation *object = objects; object; object = object->next)
		if (object->oid == relid || !OidIsValid(relid))
			object->known = false;
	for (int i = 0; i < nwatchers; i++)
		watchers[i] (arg, relid);
}

/* es_base_on_relation_change registers a callback for when a relation's definition changes, or all may have (InvalidOid). */
void
es_base_on_relation_change(RelcacheCallbackFunction callback)
{
	if (nwatchers == MOST_WATCHERS)
		elog(FATAL, "too many callbacks for changed relations");
	watchers[nwatchers++] = callback;
}

/*
 * es_base_server_has tells whether the server that runs, which may be older than
 * the one that this was built for, has a fix that came with minor releases of 15
 * and 16; later ones have it.
 */
bool
es_base_server_has(int fixed_in_15, int fixed_in_16)
{
	static int	version = 0;

	if (version == 0)
		version = atoi(GetConfigOption("server_version_num", false, false));
	return version >= (version / 10000 > 15 ? fixed_in_16 : fixed_in_15);
}

/* Registers the invalidation callbacks; called once, from _PG_init. */
void
es_base_init(void)
{
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_on_schema_change, (Datum) 0);
	CacheRegisterRelcacheCallback(forget_on_relation_change, (Datum) 0);
}

/* Reads the extension's OID, schema and owner from pg_extension. */
static void
look_up_extension(EsStore *found)
{
	Relation	pg_extension = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("eventstore"));
	scan = systable_beginscan(pg_extension, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("extension \"eventstore\" is not installed in this database"),
				errhint("Run CREATE EXTENSION eventstore."));
	found->extension = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
	found->user_schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	found->owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(pg_extension, AccessShareLock);
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
report_missing(const EsRelation *object)
{
	const char *schema = object == &event_type ? get_namespace_name(store.user_schema) : "eventstore";

	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("\"%s.%s\" is missing, or is not what the event store made", schema, object->name),
			errhint("If it was renamed or moved to another schema, undo that; else the store has to be restored."));
}

/* Makes a relation what an object stands for, for as long as no invalidation has come since before. */
static void
keep(EsRelation *object, Oid relid, uint64 before)
{
	if (!object->linked)
	{
		object->next = objects;
		objects = object;
		object->linked = true;
	}
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
		report_missing(object);
	keep(object, relid, before);
	return relid;
}

/* Tells whether a relation, locked by now, still bears the name; raises nothing. */
static bool
still_is(const EsRelation *object, Oid relid)
{
	char	   *name;
	char	   *schema;

	if (likely(object->known))
		return object->oid == relid;
	name = get_rel_name(relid);
	schema = get_namespace_name(get_rel_namespace(relid));
	return name && schema && strcmp(name, object->name) == 0 && strcmp(schema, "eventstore") == 0;
}

/* es_base_changes counts invalidations, of whatever: a look-up that was kept across one may be of before it. */
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
		if (still_is(object, relid))
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
	if (still_is(object, relid))
		return true;
	UnlockRelationOid(relid, mode);
	return false;
}

/* es_base_open locks and opens a table of ours; NoLock: the caller has locked it. */
Relation
es_base_open(EsRelation *object, LOCKMODE mode)
{
	if (mode != NoLock)
		es_base_lock(object, mode);
	return table_open(object->oid, NoLock);
}

/* Tells whether a relation is an index of a table, of a shape, that scans may use. */
static bool
is_usable(Oid relid, Oid table, const EsIndexShape *shape)
{
	HeapTuple	row = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(relid));
	Form_pg_index form;
	bool		same;

	if (!HeapTupleIsValid(row))
		return false;
	form = (Form_pg_index) GETSTRUCT(row);
	same = form->indrelid == table && form->indisvalid && form->indislive &&
		(form->indisunique || !shape->unique) &&
		heap_attisnull(row, Anum_pg_index_indpred, NULL) == (shape->where == NULL);
	for (int i = 0; same && i < ES_MOST_KEYS && shape->keys[i] != 0; i++)
		same = i < form->indnkeyatts && form->indkey.values[i] == shape->keys[i];
	ReleaseSysCache(row);
	return same;
}

/* The statement that makes an index. */
static char *
index_statement(const char *name, Oid table, const EsIndexShape *shape)
{
	return psprintf("CREATE %sINDEX %s ON eventstore.%s (%s)%s%s", shape->unique ? "UNIQUE " : "", name,
					get_rel_name(table), shape->columns, shape->where ? " WHERE " : "", shape->where ? shape->where : "");
}

/* es_base_find_index looks up an index of a table of ours that is locked; 55000 if there is none that will do. */
Oid
es_base_find_index(const char *name, Oid table, const EsIndexShape *shape)
{
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("index \"eventstore.%s\" is missing", name),
				errhint("If it was renamed, give it its name back; else run %s;", index_statement(name, table, shape)));
	if (!is_usable(relid, table, shape))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("index \"eventstore.%s\" is invalid, or is not what the event store made", name),
				errhint("Run REINDEX INDEX eventstore.%s; or drop it and run %s;", name, index_statement(name, table, shape)));
	return relid;
}

/* Looks up an index of a table that is locked, and keeps it. */
static Oid
look_up_index(EsRelation *object, Relation rel)
{
	uint64		before = changes;
	Oid			table = RelationGetRelid(rel);
	Oid			relid = es_base_find_index(object->name, table, &object->index);

	keep(object, relid, before);
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

/* es_base_require raises 22004 if an argument is NULL. */
void
es_base_require(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("%s must not be null", name));
}

/* es_base_check_name raises 22023 unless a name is 1..max bytes without control characters. */
void
es_base_check_name(const text *name, const char *what, int max)
{
	const unsigned char *p = (const unsigned char *) VARDATA_ANY(name);
	int			len = VARSIZE_ANY_EXHDR(name);

	if (len < 1 || len > max)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s name must be 1 to %d bytes long, not %d", what, max, len));
	for (int i = 0; i < len; i++)
		if (p[i] < 0x20 || p[i] == 0x7f)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s name must not contain control characters", what),
					errdetail("There is a byte 0x%02x at offset %d.", p[i], i));
}

/* es_base_check_stream_name raises 22023 for what cannot be a stream's name. */
void
es_base_check_stream_name(const text *name)
{
	es_base_check_name(name, "stream", ES_MAX_STREAM_NAME);
}

/* es_base_check_type_name raises 22023 for what a caller cannot use as an event type. */
void
es_base_check_type_name(const text *name)
{
	es_base_check_name(name, "event type", ES_MAX_TYPE_NAME);
	if (*VARDATA_ANY(name) == '$')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("event types that begin with \"$\" are reserved"));
}

/* es_base_stream_arg fetches an argument that names a stream, checked. */
text *
es_base_stream_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	es_base_require(fcinfo, argno, "stream");
	name = PG_GETARG_TEXT_PP(argno);
	es_base_check_stream_name(name);
	return name;
}

/* es_base_check_limit gives a limit as it is; a negative one is 22023. */
int64
es_base_check_limit(int64 limit, const char *name)
{
	if (limit < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must not be negative", name));
	return limit;
}

/* es_base_limit_arg fetches a limit: NULL is unlimited, a negative one is 22023. */
int64
es_base_limit_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	return PG_ARGISNULL(argno) ? PG_INT64_MAX : es_base_check_limit(PG_GETARG_INT64(argno), name);
}

/* es_base_same_text tells whether two texts, short or not, have the same bytes. */
bool
es_base_same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* Hashes a pointer to a text by the text. */
static uint32
hash_text_of(const void *key, Size keysize)
{
	const text *name = *(const text *const *) key;

	return hash_bytes((const unsigned char *) VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

/* Compares two pointers to texts by the texts. */
static int
compare_texts_of(const void *a, const void *b, Size keysize)
{
	return !es_base_same_text(*(const text *const *) a, *(const text *const *) b);
}

/*
 * es_base_name_map makes a hash table whose entries begin with a const text *,
 * the key, by its contents.  The text must live as long as the entry.
 */
HTAB *
es_base_name_map(const char *what, int size, Size entrysize, MemoryContext context)
{
	HASHCTL		ctl = {.keysize = sizeof(text *),.entrysize = entrysize,
	.hash = hash_text_of,.match = compare_texts_of,.hcxt = context};

	return hash_create(what, size, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/* es_base_category_length tells how much of a stream's name is its category. */
int
es_base_category_length(const char *name, int len)
{
	const char *dash = memchr(name, '-', len);

	return dash ? (int) (dash - name) : len;
}

/*
 * es_base_category_key hashes a category's name for the stored column
 * category_key.  CRC-32C gives the same on every platform, so dumps travel;
 * different categories may share a key, so readers compare names too.
 */
int32
es_base_category_key(const char *category, int len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, category, len);
	FIN_CRC32C(crc);
	return (int32) crc;
}

/*
 * es_base_deform_event reads a slot of a segment; the varlenas stay in the slot.
 * Metadata, the last column, are only read if they are wanted: they may be in
 * memory that nothing else has touched.
 */
void
es_base_deform_event(TupleTableSlot *slot, EsEvent *event, bool with_metadata)
{
	Datum	   *v = slot->tts_values;

	StaticAssertStmt(Anum_es_events_metadata == Natts_es_events, "metadata must be the last column");
	slot_getsomeattrs(slot, with_metadata ? Natts_es_events : Natts_es_events - 1);
	event->position = DatumGetInt64(v[Anum_es_events_position - 1]);
	event->stream_id = DatumGetInt64(v[Anum_es_events_stream_id - 1]);
	event->version = DatumGetInt64(v[Anum_es_events_version - 1]);
	event->recorded_at = DatumGetTimestampTz(v[Anum_es_events_recorded_at - 1]);
	event->event_id = *DatumGetUUIDP(v[Anum_es_events_event_id - 1]);
	event->category_key = DatumGetInt32(v[Anum_es_events_category_key - 1]);
	event->type_version = DatumGetInt32(v[Anum_es_events_type_version - 1]);
	event->run_length = DatumGetInt32(v[Anum_es_events_run_length - 1]);
	event->id_given = DatumGetBool(v[Anum_es_events_id_given - 1]);
	event->stream = v[Anum_es_events_stream - 1];
	event->type = v[Anum_es_events_type - 1];
	event->data = v[Anum_es_events_data - 1];
	event->metadata = with_metadata ? v[Anum_es_events_metadata - 1] : (Datum) 0;
}

/*
 * es_base_slot_xmin tells which transaction wrote the row that a scan's slot
 * holds; FrozenTransactionId if that is long ago, InvalidTransactionId if the
 * table AM keeps no such thing.
 */
TransactionId
es_base_slot_xmin(TupleTableSlot *slot)
{
	if (!TTS_IS_BUFFERTUPLE(slot) && !TTS_IS_HEAPTUPLE(slot))
		return InvalidTransactionId;
	return HeapTupleHeaderGetXmin(((HeapTupleTableSlot *) slot)->tuple->t_data);
}

/* es_base_event_values fills the attributes of es_event; they point into the event. */
void
es_base_event_values(const EsEvent *event, Datum *values, bool *isnull)
{
	memset(isnull, false, Natts_es_event * sizeof(bool));
	values[Anum_es_event_position - 1] = Int64GetDatum(event->position);
	values[Anum_es_event_stream - 1] = event->stream;
	values[Anum_es_event_version - 1] = Int64GetDatum(event->version);
	values[Anum_es_event_type - 1] = event->type;
	values[Anum_es_event_type_version - 1] = Int32GetDatum(event->type_version);
	values[Anum_es_event_data - 1] = event->data;
	values[Anum_es_event_metadata - 1] = event->metadata;
	values[Anum_es_event_event_id - 1] = UUIDPGetDatum(&event->event_id);
	values[Anum_es_event_recorded_at - 1] = TimestampTzGetDatum(event->recorded_at);
}

/*
 * es_base_begin_rows begins the result of a function that returns rows, to be
 * put into ->setResult.  They stay in memory up to what a hash table may take:
 * a stream of some thousand events is folded by the client at once, and going
 * through a temporary file would cost more than reading it from the log.
 */
ReturnSetInfo *
es_base_begin_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		random_access;
	size_t		memory = get_hash_memory_limit() / 1024;
	MemoryContext old;

	InitMaterializedSRF(fcinfo, 0);
	random_access = (result->allowedModes & SFRM_Materialize_Random) != 0;
	tuplestore_end(result->setResult);
	old = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	result->setResult = tuplestore_begin_heap(random_access, false, (int) Min(memory, INT_MAX));
	MemoryContextSwitchTo(old);
	return result;
}

/* es_base_form_event makes an es_event value of its attributes, in the current memory context. */
Datum
es_base_form_event(Datum *values, bool *isnull)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(es_base_event_type(), -1);
	HeapTuple	tuple = heap_form_tuple(desc, values, isnull);

	ReleaseTupleDesc(desc);
	return HeapTupleGetDatum(tuple);
}

/* es_base_event_datum makes an es_event value of an event, in the current memory context. */
Datum
es_base_event_datum(const EsEvent *event)
{
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	es_base_event_values(event, values, isnull);
	return es_base_form_event(values, isnull);
}

/*
 * es_base_event_of_datum takes an es_event value apart, into its attributes and
 * into an event, where what is NULL is empty.  False if its type or its data is
 * NULL: then it is no event.
 */
bool
es_base_event_of_datum(Datum composite, EsEvent *event, Datum *values, bool *isnull)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(composite);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),.t_data = header};

	heap_deform_tuple(&tuple, desc, values, isnull);
	ReleaseTupleDesc(desc);
	memset(event, 0, sizeof(*event));
	if (isnull[Anum_es_event_type - 1] || isnull[Anum_es_event_data - 1])
		return false;
	event->type = values[Anum_es_event_type - 1];
	event->data = values[Anum_es_event_data - 1];
	event->stream = isnull[Anum_es_event_stream - 1] ? CStringGetTextDatum("") : values[Anum_es_event_stream - 1];
	event->metadata = isnull[Anum_es_event_metadata - 1] ?
		DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")) : values[Anum_es_event_metadata - 1];
	event->position = isnull[Anum_es_event_position - 1] ? 0 : DatumGetInt64(values[Anum_es_event_position - 1]);
	event->version = isnull[Anum_es_event_version - 1] ? 0 : DatumGetInt64(values[Anum_es_event_version - 1]);
	event->type_version = isnull[Anum_es_event_type_version - 1] ? 1 :
		DatumGetInt32(values[Anum_es_event_type_version - 1]);
	if (!isnull[Anum_es_event_recorded_at - 1])
		event->recorded_at = DatumGetTimestampTz(values[Anum_es_event_recorded_at - 1]);
	if (!isnull[Anum_es_event_event_id - 1])
		event->event_id = *DatumGetUUIDP(values[Anum_es_event_event_id - 1]);
	return true;
}

/*
 * es_base_enter_settings makes what the server writes as text, and what names
 * stand for, independent of the session, until es_base_leave_settings; an error
 * undoes it at (sub)transaction abort.
 */
int
es_base_enter_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"}, {"quote_all_identifiers", "off"},
		{"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"extra_float_digits", "3"}, {"bytea_output", "hex"}, {"array_nulls", "on"},
		{"lc_monetary", "C"}, {"xmloption", "content"}
	};
	int			level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* es_base_leave_settings undoes es_base_enter_settings, or all of an inner level. */
void
es_base_leave_settings(int level)
{
	AtEOXact_GUC(false, level);
}

/*
 * es_base_become_owner makes the extension's owner the current user, with
 * settings of our own, for SQL of our own.  An error undoes it at
 * (sub)transaction abort; otherwise es_base_become_caller does.
 */
void
es_base_become_owner(EsOwnerContext *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	SetUserIdAndSecContext(es_base_store()->owner,
						   saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	saved->guc_level = es_base_enter_settings();
}

/* es_base_become_caller undoes es_base_become_owner. */
void
es_base_become_caller(const EsOwnerContext *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->sec_context);
}
