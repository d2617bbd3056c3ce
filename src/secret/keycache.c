/*
 * keycache.c
 *		Keys that the session knows: wrapped between transactions, unwrapped in one.
 *
 * To look a key's row up costs more than all that is done with the key.  So the session keeps
 * rows of eventstore.subjects as they are stored, wrapped, until the table's rows may have
 * changed: es_shred and es_rotate_master_key announce that they have.  That there is no row
 * is not kept, so a new one need not be announced.  The first look at a row in a transaction takes
 * in what others have announced, as the look-up of the row would.
 *
 * Unwrapped keys are in the arena, for one round: until the transaction ends, or there is no room
 * for more.  Then they are wiped together.
 *
 * Ids go by the time that keys were made, and who reads the log from its beginning comes to
 * keys in about that order.  So a look-up by id takes some rows more, twice as many as the last
 * one if most of those were asked for, and else none.
 *
 * When there are too many, one at random goes.  Nothing has to be noted at a look for that, and of
 * subjects that come in turn, some more than are kept, most are still there; the one that was not
 * looked at for longest would always be the next to come.
 *
 * A rollback forgets what the transaction has read or made, of a subtransaction too: it may be
 * gone with it.  So does PREPARE TRANSACTION.  Those are the young keys; others were committed
 * when they were read.
 */
#include "secret/keycache.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "secret/arena.h"

#define MOST_KEYS	16384		/* some 300 bytes each */
#define MOST_AHEAD	64			/* rows that a look-up takes */

EsRelation	es_keycache_table = {"subjects"};

/* An entry of a hash table: a key, found by what it is stored with. */
typedef struct KeySlot
{
	const EsWrappedKey *stored; /* of an EsCachedKey; it begins with it */
	uint32		hash;
	char		status;
} KeySlot;

static inline uint32
hash_key_id(const EsWrappedKey *key)
{
	return hash_bytes(key->id.data, UUID_LEN);
}

static inline bool
is_same_id(const EsWrappedKey *a, const EsWrappedKey *b)
{
	return memcmp(&a->id, &b->id, UUID_LEN) == 0;
}

#define SH_PREFIX idtable
#define SH_ELEMENT_TYPE KeySlot
#define SH_KEY_TYPE const EsWrappedKey *
#define SH_KEY stored
#define SH_HASH_KEY(tb, key) hash_key_id(key)
#define SH_EQUAL(tb, a, b) is_same_id(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, slot) (slot)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static inline uint32
hash_key_subject(const EsWrappedKey *key)
{
	return hash_combine(es_names_hash(key->subject), key->kind);
}

static inline bool
is_same_subject(const EsWrappedKey *a, const EsWrappedKey *b)
{
	return a->kind == b->kind && es_names_same(a->subject, b->subject);
}

#define SH_PREFIX subjecttable
#define SH_ELEMENT_TYPE KeySlot
#define SH_KEY_TYPE const EsWrappedKey *
#define SH_KEY stored
#define SH_HASH_KEY(tb, key) hash_key_subject(key)
#define SH_EQUAL(tb, a, b) is_same_subject(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, slot) (slot)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static struct
{
	MemoryContext context;		/* NULL: nothing is known */
	uint64		changes;		/* of the table, when the first row was read */
	idtable_hash *by_id;
	subjecttable_hash *by_subject;	/* one of a subject's keys, if it was
									 * asked for so */
	EsCachedKey **keys;
	int			nkeys;
	int			room;			/* in keys */
	dlist_head	young;			/* kept in this transaction */
}			cache;

/* The transaction that is now. */
static uint64 current_transaction = 1;

/* The round that is now; keys that are unwrapped are of it. */
static uint64 current_round = 1;

/* Rows that look-ups take. */
static struct
{
	int			rows;			/* of the last one */
	int			kept;			/* of these that nobody had asked for */
	int			used;			/* of these that were asked for then */
}			ahead = {1};

/* Ends a round: wipes the unwrapped keys. */
static void
end_key_round(void)
{
	es_arena_wipe_taken();
	current_round++;
}

/* es_keycache_forget forgets all keys. */
void
es_keycache_forget(void)
{
	end_key_round();
	if (cache.context == NULL)
		return;
	MemoryContextDelete(cache.context);
	memset(&cache, 0, sizeof(cache));
}

/* Forgets a key. */
static void
forget_key(EsCachedKey *key)
{
	KeySlot    *found = subjecttable_lookup(cache.by_subject, &key->stored);
	EsCachedKey *last = cache.keys[--cache.nkeys];

	if (found && found->stored == &key->stored)
		subjecttable_delete_item(cache.by_subject, found);
	idtable_delete(cache.by_id, &key->stored);
	if (key->transaction == current_transaction)
		dlist_delete(&key->node);
	cache.keys[key->number] = last;
	last->number = key->number;
	pfree(key);
}

/* Forgets what this transaction has read or made. */
static void
forget_young_keys(void)
{
	end_key_round();
	while (cache.context && !dlist_is_empty(&cache.young))
		forget_key(dlist_head_element(EsCachedKey, node, &cache.young));
}

/* A transaction ends. */
static void
end_round_at_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			end_key_round();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			forget_young_keys();
			break;
		default:
			return;
	}
	dlist_init(&cache.young);
	current_transaction++;
}

/* A subtransaction ends. */
static void
forget_keys_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_young_keys();
}

/* Registers the callbacks; called once, from _PG_init. */
void
es_keycache_init(void)
{
	RegisterXactCallback(end_round_at_xact_end, NULL);
	RegisterSubXactCallback(forget_keys_at_subxact_end, NULL);
}

/* Forgets what may be outdated; false: nothing is known. */
static bool
is_anything_known(void)
{
	if (cache.context != NULL && cache.changes != es_base_changes_of(&es_keycache_table))
		es_keycache_forget();
	return cache.context != NULL;
}

/* Makes the tables. */
static void
begin_keeping_keys(uint64 changes)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore keys", ALLOCSET_DEFAULT_SIZES);

	cache.by_id = idtable_create(context, 16, NULL);
	cache.by_subject = subjecttable_create(context, 16, NULL);
	cache.room = 16;
	cache.keys = MemoryContextAlloc(context, sizeof(EsCachedKey *) * cache.room);
	cache.nkeys = 0;
	dlist_init(&cache.young);
	cache.changes = changes;
	MemoryContextSetParent(context, TopMemoryContext);
	cache.context = context;
}

/* Makes room for a key whose row was read after so many changes of the table. */
static void
require_key_room(uint64 changes)
{
	if (!is_anything_known())
		begin_keeping_keys(changes);

	/*
	 * what has come since the row was read may be about it: no more after
	 * this
	 */
	cache.changes = Min(cache.changes, changes);
	if (cache.nkeys == MOST_KEYS)
		forget_key(cache.keys[pg_prng_uint64_range(&pg_global_prng_state, 0, MOST_KEYS - 1)]);
	else if (cache.nkeys == cache.room)
	{
		cache.keys = repalloc(cache.keys, sizeof(EsCachedKey *) * 2 * cache.room);
		cache.room *= 2;
	}
}

/* Tells whether a key was looked at in this round; notes that it is. */
static inline bool
note_key_look(EsCachedKey *key)
{
	if (likely(key->round == current_round))
		return true;
	key->round = current_round;
	key->plain = NULL;
	ahead.used += key->is_ahead;
	key->is_ahead = false;
	return false;
}

/* Gives the key that an entry of a table is about. */
static inline EsCachedKey *
key_of_slot(const KeySlot *slot)
{
	return slot ? unconstify(EsCachedKey *, (const EsCachedKey *) slot->stored) : NULL;
}

/* Finds a key by its id, outdated or not; there are tables. */
static EsCachedKey *
search_cached_id(const pg_uuid_t *id)
{
	EsWrappedKey wanted = {.id = *id};

	return key_of_slot(idtable_lookup(cache.by_id, &wanted));
}

/* Gives a key that was found, unless its row has changed meanwhile. */
static EsCachedKey *
give_found_key(EsCachedKey *key)
{
	if (key == NULL || note_key_look(key))
		return key;
	AcceptInvalidationMessages();
	return is_anything_known() ? key : NULL;
}

/* es_keycache_find gives a key by its id; NULL if it is not known. */
EsCachedKey *
es_keycache_find(const pg_uuid_t *id)
{
	return give_found_key(is_anything_known() ? search_cached_id(id) : NULL);
}

/* es_keycache_find_of gives one by its subject. */
EsCachedKey *
es_keycache_find_of(EsSubjectKind kind, const text *subject)
{
	EsWrappedKey wanted = {.kind = kind,.subject = subject};

	return give_found_key(is_anything_known() ? key_of_slot(subjecttable_lookup(cache.by_subject, &wanted)) : NULL);
}

/* Tells whether a key is known as it is stored now. */
static bool
is_cached_as_stored(const EsCachedKey *key, const EsWrappedKey *stored, int64 fingerprint)
{
	const bytea *known = key->stored.wrapped;

	if (known == NULL || stored->wrapped == NULL)
		return known == stored->wrapped;
	return key->fingerprint == fingerprint && VARSIZE(known) == VARSIZE(stored->wrapped) &&
		memcmp(known, stored->wrapped, VARSIZE(known)) == 0;
}

/* Adds a key, all of it in one piece of memory. */
static EsCachedKey *
enter_key(const EsWrappedKey *stored, int64 fingerprint)
{
	Size		subject_at = MAXALIGN(sizeof(EsCachedKey));
	Size		wrapped_at = subject_at + MAXALIGN(VARSIZE_ANY(stored->subject));
	Size		wrapped_size = stored->wrapped ? VARSIZE_ANY(stored->wrapped) : 0;
	EsCachedKey *key = MemoryContextAllocZero(cache.context, wrapped_at + wrapped_size);
	bool		found;

	key->stored = *stored;
	key->stored.subject = memcpy((char *) key + subject_at, stored->subject, VARSIZE_ANY(stored->subject));
	if (stored->wrapped)
		key->stored.wrapped = memcpy((char *) key + wrapped_at, stored->wrapped, wrapped_size);
	key->fingerprint = fingerprint;
	key->round = current_round;
	key->transaction = current_transaction;
	(void) idtable_insert(cache.by_id, &key->stored, &found);
	Assert(!found);
	dlist_push_tail(&cache.young, &key->node);
	key->number = cache.nkeys;
	cache.keys[cache.nkeys++] = key;
	return key;
}

/*
 * es_keycache_keep keeps a key whose row the caller has just read or made, and counted the
 * changes of the table before.
 */
EsCachedKey *
es_keycache_keep(const EsWrappedKey *stored, int64 fingerprint, uint64 changes)
{
	EsCachedKey *key;

	require_key_room(changes);
	key = search_cached_id(&stored->id);
	if (key && is_cached_as_stored(key, stored, fingerprint))
	{
		(void) note_key_look(key);
		return key;
	}
	if (key)
		forget_key(key);
	return enter_key(stored, fingerprint);
}

/* es_keycache_count_ahead tells how many rows a look-up by id is to take. */
int
es_keycache_count_ahead(void)
{
	ahead.rows = 2 * ahead.used >= ahead.kept ? Min(2 * ahead.rows, MOST_AHEAD) : 1;
	ahead.kept = ahead.used = 0;
	return ahead.rows;
}

/* es_keycache_keep_ahead keeps a key that nobody has asked for, likewise. */
void
es_keycache_keep_ahead(const EsWrappedKey *stored, int64 fingerprint, uint64 changes)
{
	EsCachedKey *key;

	require_key_room(changes);
	if (search_cached_id(&stored->id) != NULL)
		return;
	key = enter_key(stored, fingerprint);
	key->is_ahead = true;
	key->round = 0;
	ahead.kept++;
}

/* es_keycache_keep_subject has a key found by its subject, too. */
void
es_keycache_keep_subject(EsCachedKey *key)
{
	bool		found;

	subjecttable_insert(cache.by_subject, &key->stored, &found)->stored = &key->stored;
}

/* es_keycache_unwrap unwraps a key, if it is not; false if it is not as it was wrapped. */
bool
es_keycache_unwrap(EsCachedKey *key, const uint8 *wrapping)
{
	uint8	   *slot;

	if (key->round == current_round && key->plain != NULL)
		return true;
	slot = es_arena_take();
	if (slot == NULL)
	{
		end_key_round();
		slot = es_arena_take();
	}
	if (!es_wrap_open(&key->stored, slot, wrapping))
		return false;
	key->round = current_round;
	key->plain = slot;
	return true;
}
