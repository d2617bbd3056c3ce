/*
 * subject.c
 *		Subjects and their keys.
 *
 * Each subject whose data is protected has a key, and eventstore.subjects has it wrapped by
 * the master key.  Which it is, an encrypted field tells by the key's id.  The transaction that
 * first appends for a subject makes the key.  It waits for nobody: of two such at the same
 * time each makes one, and both keys stay.
 *
 * To shred a subject is to take the wrapped keys out of its rows, all of them.  None escapes:
 * who makes a key has the table locked in ROW EXCLUSIVE mode from before the look that finds
 * none to the end of its transaction, and who shreds, in SHARE ROW EXCLUSIVE mode.  So is a
 * change of the master key: all live keys are wrapped by one, that which the row of kind
 * ES_SUBJECT_NONE is wrapped by, and who makes a key looks there which one that is.
 *
 * A subject whose value is itself protected is known by a keyed hash.  The key of these hashes
 * is random, and kept as the others are, so it stays the same whatever the master key is.
 *
 * What was read of these rows, and the keys unwrapped, keycache.c keeps.
 */
#include "secret/subject.h"

#include "catalog/pg_type.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/objects.h"
#include "base/uuid7.h"
#include "log/subscriber.h"
#include "secret/arena.h"
#include "secret/cipher.h"
#include "secret/keycache.h"
#include "secret/masterkey.h"
#include "secret/utf8.h"
#include "secret/wrap.h"
#include "table/rows.h"

static EsRelation subjects_by_key = {"subjects_by_key",
.index = {.keys = {Anum_subjects_key_id},.columns = "key_id",.unique = true}};
static EsRelation subjects_by_subject = {"subjects_by_subject",
.index = {.keys = {Anum_subjects_subject},.columns = "subject",.method = "hash"}};

static const EsColumn columns[Natts_subjects] = {
	{"created_at", TIMESTAMPTZOID}, {"shredded_at", TIMESTAMPTZOID, true}, {"fingerprint", INT8OID}, {"kind", INT4OID},
	{"key_id", UUIDOID}, {"subject", TEXTOID}, {"wrapped", BYTEAOID, true}
};
const EsShape es_subject_shape = ES_SHAPE(&es_keycache_table, &subjects_by_key, columns);
static const EsShape subject_name_shape = ES_SHAPE(&es_keycache_table, &subjects_by_subject, columns);

PG_FUNCTION_INFO_V1(es_subject_forget);

/* ---- rows ---- */

/* A row, with what a look-up wants of it. */
typedef struct SubjectRow
{
	bool		found;
	bool		shredded;
	int64		fingerprint;
	EsWrappedKey key;
} SubjectRow;

/* Takes a row, in the current memory context. */
static void
take_subject_row(SubjectRow *row, const EsRows *rows)
{
	const Datum *v = rows->values;

	row->found = true;
	row->shredded = rows->isnull[Anum_subjects_wrapped - 1];
	row->fingerprint = DatumGetInt64(v[Anum_subjects_fingerprint - 1]);
	row->key.id = *DatumGetUUIDP(v[Anum_subjects_key_id - 1]);
	row->key.kind = (EsSubjectKind) DatumGetInt32(v[Anum_subjects_kind - 1]);
	row->key.subject = DatumGetTextPCopy(v[Anum_subjects_subject - 1]);
	if (!row->shredded)
		row->key.wrapped = DatumGetByteaPCopy(v[Anum_subjects_wrapped - 1]);
}

/*
 * es_subject_begin_rows begins to look at the rows of a subject, by the name it is stored under;
 * they go on with es_subject_next_row.
 */
void
es_subject_begin_rows(EsRows *rows, const text *name)
{
	rows->shape = &subject_name_shape;
	es_rows_equal(rows, PointerGetDatum(name));
	es_rows_begin(rows);
}

/* es_subject_next_row goes to the next one of a kind; false after the last. */
bool
es_subject_next_row(EsRows *rows, EsSubjectKind kind)
{
	while (es_rows_next(rows))
		if (DatumGetInt32(rows->values[Anum_subjects_kind - 1]) == (int32) kind)
			return true;
	return false;
}

/* Reads a row of a subject: one that is shredded, if there is any. */
static SubjectRow
read_row_of_subject(EsSubjectKind kind, const text *name)
{
	EsRows		rows = {.mode = AccessShareLock};
	SubjectRow	row = {0};

	es_subject_begin_rows(&rows, name);
	while (!row.shredded && es_subject_next_row(&rows, kind))
		take_subject_row(&row, &rows);
	es_rows_end(&rows);
	return row;
}

/*
 * Reads the row of a key, and some that follow it, and keeps them; NULL if there is no such key.
 * The one that is asked for is kept last: to keep another may be to forget what is kept.
 */
static EsCachedKey *
read_key_rows(const pg_uuid_t *id)
{
	EsRows		rows = {.shape = &es_subject_shape,.mode = AccessShareLock};
	uint64		changes = es_base_changes_of(&es_keycache_table);
	int			most = es_keycache_count_ahead();
	SubjectRow *found = palloc0(sizeof(SubjectRow) * most);
	int			count = 0;

	es_rows_from(&rows, UUIDPGetDatum(id));
	es_rows_begin(&rows);
	while (count < most && es_rows_next(&rows))
	{
		take_subject_row(&found[count], &rows);
		if (count == 0 && memcmp(&found[0].key.id, id, UUID_LEN) != 0)
			break;
		count++;
	}
	es_rows_end(&rows);
	while (count > 1)
	{
		const SubjectRow *row = &found[--count];

		es_keycache_keep_ahead(&row->key, row->fingerprint, changes);
	}
	return count == 0 ? NULL : es_keycache_keep(&found[0].key, found[0].fingerprint, changes);
}

/* Gives a key that is known, unwrapped. */
static EsSubjectKey
give_cached_key(EsCachedKey *cached, bool may_ask)
{
	EsSubjectKey key = {.state = ES_KEY_LIVE,.id = cached->stored.id};

	if (cached->stored.wrapped == NULL)
		key.state = ES_KEY_SHREDDED;
	else if (cached->plain == NULL && !may_ask && !es_masterkey_is_at_hand(cached->fingerprint))
		key.state = ES_KEY_AWAY;
	else if (cached->plain == NULL &&
			 !es_keycache_unwrap(cached, es_masterkey_get(cached->fingerprint)->wrapping))
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("key of protected fields is not as it was stored"),
				errdetail("It is the one with key_id %s in table eventstore.subjects.",
						  es_uuid7_show(&key.id)));
	key.key = cached->plain;
	return key;
}

/* ---- looking up ---- */

/*
 * es_subject_find_key gives the key of an id.  may_ask: the master key's command may be
 * run; if not, a key that needs it is AWAY.  55000 if the master key is not to be had.
 */
EsSubjectKey
es_subject_find_key(const pg_uuid_t *id, bool may_ask)
{
	EsSubjectKey missing = {.state = ES_KEY_MISSING,.id = *id};
	EsCachedKey *cached = es_keycache_find(id);

	if (unlikely(cached == NULL))
		cached = read_key_rows(id);
	return cached ? give_cached_key(cached, may_ask) : missing;
}

/* Gives the key of a subject by the name it is stored under. */
static EsSubjectKey
find_key_by_name(EsSubjectKind kind, const text *name)
{
	EsSubjectKey missing = {.state = ES_KEY_MISSING};
	EsCachedKey *cached = es_keycache_find_of(kind, name);
	uint64		changes = es_base_changes_of(&es_keycache_table);
	SubjectRow	row;

	if (cached != NULL)
		return give_cached_key(cached, true);
	row = read_row_of_subject(kind, name);
	if (!row.found)
		return missing;
	cached = es_keycache_keep(&row.key, row.fingerprint, changes);
	es_keycache_keep_subject(cached);
	return give_cached_key(cached, true);
}

/* The name of what has no subject. */
static const text *
no_subject(void)
{
	static const text *name = NULL;

	if (name == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		name = cstring_to_text("");
		MemoryContextSwitchTo(old);
	}
	return name;
}

/* Raises an error: there is no key of hashes where there should be one. */
ES_NORETURN static void
report_no_hash_key(void)
{
	ereport(ERROR,
			errcode(es_subscriber_is() ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ES_ERRCODE_STORE_CORRUPT),
			errmsg("table eventstore.subjects has no row of kind %d", ES_SUBJECT_NONE),
			es_subscriber_is() ? errhint("Wait until the subscription has copied all tables of schema \"eventstore\".") : 0);
}

/* es_subject_hash gives the name that a subject is stored under if its value is protected. */
text *
es_subject_hash(const text *subject)
{
	EsSubjectKey key = find_key_by_name(ES_SUBJECT_NONE, no_subject());
	int			len = VARSIZE_ANY_EXHDR(subject);
	const char *bytes = es_utf8_of(VARDATA_ANY(subject), &len);
	uint8		code[ES_CIPHER_DIGEST];
	text	   *name = palloc(VARHDRSZ + 2 * sizeof(code));

	if (key.state != ES_KEY_LIVE)
		report_no_hash_key();
	es_cipher_authenticate(key.key, bytes, len, code);
	SET_VARSIZE(name, VARHDRSZ + 2 * sizeof(code));
	(void) hex_encode((const char *) code, sizeof(code), VARDATA(name));
	return name;
}

/* ---- making ---- */

/* Stores a new key. */
static void
insert_key(const EsWrappedKey *key, int64 fingerprint)
{
	Datum		values[Natts_subjects];
	bool		isnull[Natts_subjects] = {false};

	values[Anum_subjects_created_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_subjects_shredded_at - 1] = (Datum) 0;
	isnull[Anum_subjects_shredded_at - 1] = true;
	values[Anum_subjects_fingerprint - 1] = Int64GetDatum(fingerprint);
	values[Anum_subjects_kind - 1] = Int32GetDatum(key->kind);
	values[Anum_subjects_key_id - 1] = UUIDPGetDatum(&key->id);
	values[Anum_subjects_subject - 1] = PointerGetDatum(key->subject);
	values[Anum_subjects_wrapped - 1] = PointerGetDatum(key->wrapped);
	es_rows_insert(&es_subject_shape, values, isnull);
}

/* Gives the master key that keys are wrapped by now; whoever makes a key has the table locked. */
static const EsMasterKey *
current_master_key(void)
{
	SubjectRow	row = read_row_of_subject(ES_SUBJECT_NONE, no_subject());

	if (!row.found)
		report_no_hash_key();
	return es_masterkey_get(row.fingerprint);
}

/* Makes a key, and gives it wrapped. */
static bytea *
make_wrapped_key(const EsWrappedKey *row, const uint8 *wrapping)
{
	uint8	   *plain = es_arena_place(ES_ARENA_SCRATCH);
	bytea	   *volatile wrapped = NULL;

	PG_TRY();
	{
		es_cipher_make_key(plain);
		wrapped = es_wrap_key(row, plain, wrapping);
	}
	PG_FINALLY();
	{
		es_arena_wipe_place(ES_ARENA_SCRATCH, 1);
	}
	PG_END_TRY();
	return wrapped;
}

/* Makes the key of a subject that has none; another transaction may have been faster. */
static EsSubjectKey
make_subject_key(EsSubjectKind kind, const text *name)
{
	EsSubjectKey key;
	EsWrappedKey row = {.kind = kind,.subject = name};
	const EsMasterKey *master;
	EsCachedKey *cached;

	es_base_lock(&es_keycache_table, RowExclusiveLock);
	key = find_key_by_name(kind, name);
	if (key.state != ES_KEY_MISSING)
		return key;
	master = kind == ES_SUBJECT_NONE ? es_masterkey_renew() : current_master_key();
	es_uuid7_make(&row.id);
	row.wrapped = make_wrapped_key(&row, master->wrapping);
	insert_key(&row, master->fingerprint);
	cached = es_keycache_keep(&row, master->fingerprint, es_base_changes_of(&es_keycache_table));
	es_keycache_keep_subject(cached);
	return give_cached_key(cached, true);
}

/*
 * es_subject_key_of gives the key of a subject, and makes one if there is none, or tells
 * that it is shredded.  hashed: the subject is stored as its keyed hash.  55000 if the
 * master key is not to be had.  Who makes a key waits for es_shred and es_rotate_master_key.
 */
EsSubjectKey
es_subject_key_of(const text *subject, bool hashed)
{
	EsSubjectKind kind = hashed ? ES_SUBJECT_HASHED : ES_SUBJECT_PLAIN;
	const text *name = hashed ? es_subject_hash(subject) : subject;
	EsSubjectKey key = find_key_by_name(kind, name);

	return key.state == ES_KEY_MISSING ? make_subject_key(kind, name) : key;
}

/*
 * es_subject_is_shredded tells whether a subject is; one without a key is not, and gets none.
 * 55000 if the master key that its key is wrapped by, or would be, is not to be had.
 */
bool
es_subject_is_shredded(const text *subject, bool hashed)
{
	const text *name = hashed ? es_subject_hash(subject) : subject;
	EsSubjectKey key = find_key_by_name(hashed ? ES_SUBJECT_HASHED : ES_SUBJECT_PLAIN, name);

	if (key.state == ES_KEY_MISSING)
		(void) current_master_key();
	return key.state == ES_KEY_SHREDDED;
}

/* es_subject_require_master raises 55000 unless the store's master key is to be had. */
void
es_subject_require_master(void)
{
	SubjectRow	row = read_row_of_subject(ES_SUBJECT_NONE, no_subject());

	if (row.found)
		(void) es_masterkey_get(row.fingerprint);
	else
		(void) make_subject_key(ES_SUBJECT_NONE, no_subject());
}

/*
 * eventstore.forget_keys() is the row trigger for rows that a subscription changes.
 */
Datum
es_subject_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&es_keycache_table);
	PG_RETURN_POINTER(NULL);
}
