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
 * Unwrapped keys are kept in the arena, and wiped at the end of the transaction and when a
 * subtransaction rolls back, which may have made one; when the table's rows may have changed
 * elsewhere; and when there is no room for more.
 */
#include "secret/subject.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/uuid7.h"
#include "log/subscriber.h"
#include "secret/arena.h"
#include "secret/cipher.h"
#include "secret/masterkey.h"
#include "secret/utf8.h"
#include "table/rows.h"

#define KINDS			(ES_SUBJECT_NONE + 1)
#define WRAP_VERSION	1
#define WRAPPED_BYTES	(ES_CIPHER_NONCE + ES_CIPHER_KEY + ES_CIPHER_TAG)

EsRelation	es_subject_table = {"subjects"};
static EsRelation subjects_by_key = {"subjects_by_key",
.index = {.keys = {Anum_subjects_key_id},.columns = "key_id",.unique = true}};
static EsRelation subjects_by_subject = {"subjects_by_subject",
.index = {.keys = {Anum_subjects_subject, Anum_subjects_kind},.columns = "subject, kind"}};

static const EsColumn columns[Natts_subjects] = {
	{"created_at", TIMESTAMPTZOID}, {"shredded_at", TIMESTAMPTZOID, true}, {"fingerprint", INT8OID}, {"kind", INT4OID},
	{"key_id", UUIDOID}, {"subject", TEXTOID}, {"wrapped", BYTEAOID, true}
};
const EsShape es_subject_shape = ES_SHAPE(&es_subject_table, &subjects_by_key, columns);
const EsShape es_subject_name_shape = ES_SHAPE(&es_subject_table, &subjects_by_subject, columns);

PG_FUNCTION_INFO_V1(es_subject_forget);

/* ---- the keys of the transaction ---- */

/* A key that is known. */
typedef struct KnownKey
{
	pg_uuid_t	id;				/* hash key */
	const uint8 *key;			/* in the arena; NULL: it is shredded */
} KnownKey;

/* Which key a subject has. */
typedef struct KnownSubject
{
	const text *name;			/* hash key */
	pg_uuid_t	id;
} KnownSubject;

static struct
{
	MemoryContext context;		/* NULL: nothing is known */
	uint64		changes;		/* of the table, as that was found out */
	HTAB	   *keys;
	HTAB	   *subjects[KINDS];	/* NULL: none */
}			known;

/* Wipes the keys. */
static void
wipe_known_keys(void)
{
	if (known.context == NULL)
		return;
	es_arena_wipe_taken();
	MemoryContextDelete(known.context);
	memset(&known, 0, sizeof(known));
}

/* Wipes the keys of a transaction that ends. */
static void
wipe_keys_at_xact_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PARALLEL_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		wipe_known_keys();
}

/* Wipes the keys when a subtransaction rolls back. */
static void
wipe_keys_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		wipe_known_keys();
}

/* Registers the callbacks; called once, from _PG_init. */
void
es_subject_init(void)
{
	RegisterXactCallback(wipe_keys_at_xact_end, NULL);
	RegisterSubXactCallback(wipe_keys_at_subxact_end, NULL);
}

/* Makes room for keys, unless there is; what may be outdated goes. */
static void
require_known_keys(void)
{
	uint64		changes = es_base_changes_of(&es_subject_table);
	HASHCTL		ctl = {.keysize = sizeof(pg_uuid_t),.entrysize = sizeof(KnownKey)};

	if (known.context != NULL && known.changes != changes)
		wipe_known_keys();
	if (known.context != NULL)
		return;
	ctl.hcxt = AllocSetContextCreate(TopMemoryContext, "eventstore keys", ALLOCSET_SMALL_SIZES);
	known.context = ctl.hcxt;
	known.changes = changes;
	known.keys = hash_create("eventstore keys", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Gives a slot for a key: after what is outdated is gone, which has the slots back. */
static uint8 *
take_key_slot(void)
{
	uint8	   *slot;

	require_known_keys();
	slot = es_arena_take();
	if (slot != NULL)
		return slot;
	wipe_known_keys();
	require_known_keys();
	return es_arena_take();
}

/* Remembers a key; NULL: that it is shredded. */
static void
remember_key(const pg_uuid_t *id, const uint8 *key)
{
	KnownKey   *entry = hash_search(known.keys, id, HASH_ENTER, NULL);

	entry->key = key;
}

/* Remembers which key a subject has. */
static void
remember_subject(EsSubjectKind kind, const text *name, const pg_uuid_t *id)
{
	KnownSubject *entry;
	bool		found;

	if (known.subjects[kind] == NULL)
		known.subjects[kind] = es_names_map("eventstore subjects", 32, sizeof(KnownSubject), known.context);
	entry = hash_search(known.subjects[kind], &name, HASH_ENTER, &found);
	if (!found)
	{
		MemoryContext old = MemoryContextSwitchTo(known.context);

		entry->name = DatumGetTextPCopy(PointerGetDatum(name));
		MemoryContextSwitchTo(old);
	}
	entry->id = *id;
}

/* ---- wrapping ---- */

/* Makes what is authenticated with a wrapped key: what the key is for. */
static char *
make_wrap_header(const EsWrappedKey *key, int *header_len)
{
	int			len = VARSIZE_ANY_EXHDR(key->subject);
	const char *subject = es_utf8_of(VARDATA_ANY(key->subject), &len);
	char	   *header = palloc(2 + UUID_LEN + len);

	header[0] = WRAP_VERSION;
	header[1] = (char) key->kind;
	memcpy(header + 2, key->id.data, UUID_LEN);
	memcpy(header + 2 + UUID_LEN, subject, len);
	*header_len = 2 + UUID_LEN + len;
	return header;
}

/* es_subject_wrap gives a key wrapped, in the current memory context. */
bytea *
es_subject_wrap(const EsWrappedKey *key, const uint8 *plain, const uint8 *wrapping)
{
	bytea	   *wrapped = palloc(VARHDRSZ + WRAPPED_BYTES);
	uint8	   *bytes = (uint8 *) VARDATA(wrapped);
	EsCipherMessage message = {.nonce = bytes,.input = plain,.output = bytes + ES_CIPHER_NONCE,.len = ES_CIPHER_KEY,
	.tag = bytes + ES_CIPHER_NONCE + ES_CIPHER_KEY};

	SET_VARSIZE(wrapped, VARHDRSZ + WRAPPED_BYTES);
	message.header = make_wrap_header(key, &message.header_len);
	es_cipher_encrypt(wrapping, &message);
	return wrapped;
}

/* es_subject_unwrap unwraps a key; false if it is not as it was wrapped. */
bool
es_subject_unwrap(const EsWrappedKey *key, uint8 *plain, const uint8 *wrapping)
{
	uint8	   *bytes = (uint8 *) VARDATA_ANY(key->wrapped);
	EsCipherMessage message = {.nonce = bytes,.input = bytes + ES_CIPHER_NONCE,.output = plain,.len = ES_CIPHER_KEY,
	.tag = bytes + ES_CIPHER_NONCE + ES_CIPHER_KEY};

	if (VARSIZE_ANY_EXHDR(key->wrapped) != WRAPPED_BYTES)
		return false;
	message.header = make_wrap_header(key, &message.header_len);
	return es_cipher_decrypt(wrapping, &message);
}

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

/* Reads the row of a key. */
static SubjectRow
read_key_row(const pg_uuid_t *id)
{
	EsRows		rows = {.shape = &es_subject_shape,.mode = AccessShareLock};
	SubjectRow	row = {0};

	es_rows_equal(&rows, UUIDPGetDatum(id));
	es_rows_begin(&rows);
	if (es_rows_next(&rows))
		take_subject_row(&row, &rows);
	es_rows_end(&rows);
	return row;
}

/* Reads a row of a subject: one that is shredded, if there is any. */
static SubjectRow
read_row_of_subject(EsSubjectKind kind, const text *name)
{
	EsRows		rows = {.shape = &es_subject_name_shape,.mode = AccessShareLock};
	SubjectRow	row = {0};

	es_rows_equal(&rows, PointerGetDatum(name));
	es_rows_equal(&rows, Int32GetDatum(kind));
	es_rows_begin(&rows);
	while (!row.shredded && es_rows_next(&rows))
		take_subject_row(&row, &rows);
	es_rows_end(&rows);
	return row;
}

/* Unwraps the key of a row, and remembers it. */
static EsSubjectKey
unwrap_row_key(const SubjectRow *row, bool may_ask)
{
	EsSubjectKey key = {.state = ES_KEY_LIVE,.id = row->key.id};
	const EsMasterKey *master;
	uint8	   *slot;

	if (!may_ask && !es_masterkey_is_at_hand(row->fingerprint))
	{
		key.state = ES_KEY_AWAY;
		return key;
	}
	master = es_masterkey_get(row->fingerprint);
	slot = take_key_slot();
	if (!es_subject_unwrap(&row->key, slot, master->wrapping))
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("key of protected fields is not as it was stored"),
				errdetail("It is the one with key_id %s in table eventstore.subjects.",
						  es_uuid7_show(&row->key.id)));
	remember_key(&row->key.id, slot);
	key.key = slot;
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
	EsSubjectKey key = {.state = ES_KEY_LIVE,.id = *id};
	const KnownKey *entry;
	SubjectRow	row;

	require_known_keys();
	entry = hash_search(known.keys, id, HASH_FIND, NULL);
	if (likely(entry != NULL))
	{
		key.key = entry->key;
		key.state = entry->key ? ES_KEY_LIVE : ES_KEY_SHREDDED;
		return key;
	}
	row = read_key_row(id);
	if (row.found && !row.shredded)
		return unwrap_row_key(&row, may_ask);
	key.state = row.found ? ES_KEY_SHREDDED : ES_KEY_MISSING;
	if (row.found)
	{
		require_known_keys();
		remember_key(id, NULL);
	}
	return key;
}

/* Gives the key of a subject by the name it is stored under. */
static EsSubjectKey
find_key_by_name(EsSubjectKind kind, const text *name)
{
	EsSubjectKey key = {.state = ES_KEY_MISSING};
	const KnownSubject *entry;
	SubjectRow	row;

	require_known_keys();
	entry = known.subjects[kind] ? hash_search(known.subjects[kind], &name, HASH_FIND, NULL) : NULL;
	if (entry != NULL)
		return es_subject_find_key(&entry->id, true);
	row = read_row_of_subject(kind, name);
	if (row.found && row.shredded)
		key.state = ES_KEY_SHREDDED;
	else if (row.found)
	{
		key = unwrap_row_key(&row, true);
		remember_subject(kind, name, &key.id);
	}
	return key;
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

/* Gives the master key that keys are wrapped by now; the table is locked. */
static const EsMasterKey *
current_master_key(void)
{
	SubjectRow	row = read_row_of_subject(ES_SUBJECT_NONE, no_subject());

	if (!row.found)
		report_no_hash_key();
	return es_masterkey_get(row.fingerprint);
}

/* Makes the key of a subject that has none; another transaction may have been faster. */
static EsSubjectKey
make_subject_key(EsSubjectKind kind, const text *name)
{
	EsSubjectKey key;
	EsWrappedKey row = {.kind = kind,.subject = name};
	const EsMasterKey *master;
	uint8	   *slot;

	es_base_lock(&es_subject_table, RowExclusiveLock);
	key = find_key_by_name(kind, name);
	if (key.state != ES_KEY_MISSING)
		return key;
	master = kind == ES_SUBJECT_NONE ? es_masterkey_renew() : current_master_key();
	slot = take_key_slot();
	es_cipher_make_key(slot);
	es_uuid7_make(&row.id);
	row.wrapped = es_subject_wrap(&row, slot, master->wrapping);
	insert_key(&row, master->fingerprint);
	remember_key(&row.id, slot);
	remember_subject(kind, name, &row.id);
	key.state = ES_KEY_LIVE;
	key.id = row.id;
	key.key = slot;
	return key;
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
	es_base_announce(&es_subject_table);
	PG_RETURN_POINTER(NULL);
}
