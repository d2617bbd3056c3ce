/*
 * base.c
 *		Argument checks, the forms an event takes, and whom SQL of ours runs as.
 */
#include "base/base.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/nodeHash.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

void		(*es_base_flush_hook) (void) = NULL;

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

/* es_base_report_parallel raises 25000. */
void
es_base_report_parallel(void)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_TRANSACTION_STATE),
			errmsg("cannot look at the event store as it is now during a parallel operation"),
			errhint("Mark functions that use the event store as PARALLEL UNSAFE."));
}

/* es_base_require_trigger raises 39P01 unless a trigger function was called as what it is for. */
void
es_base_require_trigger(bool fits, const char *function)
{
	if (!fits)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function eventstore.%s is for triggers of the event store only", function));
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
 * es_base_check_type raises 55000 unless a composite type of ours has the
 * attributes that it was made with: they are read and written by number.
 */
void
es_base_check_type(TupleDesc desc, const Oid *types, int natts)
{
	bool		same = desc->natts == natts;

	for (int i = 0; same && i < natts; i++)
		same = TupleDescAttr(desc, i)->atttypid == types[i];
	if (!same)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("type %s does not have the attributes that the event store gave it", format_type_be(desc->tdtypeid)),
				desc->natts > natts ?
				errhint("An attribute keeps its place also once it is dropped: dump the database, and restore it into a new one.") :
				errhint("Undo what was done to it with ALTER TYPE."));
}

/* es_base_check_event does so for es_event, and what has the same attributes. */
void
es_base_check_event(TupleDesc desc)
{
	static const Oid types[Natts_es_event] = {
		INT8OID, TEXTOID, INT8OID, TEXTOID, INT4OID, JSONBOID, JSONBOID, UUIDOID, TIMESTAMPTZOID
	};

	es_base_check_type(desc, types, Natts_es_event);
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
	if (result->setDesc->tdtypeid == es_base_event_type())
		es_base_check_event(result->setDesc);
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
	HeapTuple	tuple;

	es_base_check_event(desc);
	tuple = heap_form_tuple(desc, values, isnull);
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

	es_base_check_event(desc);
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
