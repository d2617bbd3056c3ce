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
 * A rollback forgets everything, of a subtransaction too: what was read, or made, may be gone
 * with it.  So does PREPARE TRANSACTION.
 */
#include "secret/keycache.h"

#include "access/xact.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "secret/arena.h"

#define MOST_KEYS	16384		/* some 300 bytes each */
#define MOST_AHEAD	64			/* rows that a look-up takes */

EsRelation	es_keycache_table = {"subjects"};

/* Which key a subject has. */
typedef struct CachedSubject
{
	const text *name;			/* hash key; that of key */
	EsCachedKey *key;
} CachedSubject;

static struct
{
	MemoryContext context;		/* NULL: nothing is known */
	uint64		changes;		/* of the table, when the first row was read */
	HTAB	   *keys;
	HTAB	   *subjects[ES_SUBJECT_KINDS]; /* NULL: none */
	dlist_head	order;			/* of keys, those not looked at for longest
								 * first */
}			cache;

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
			es_keycache_forget();
			break;
		default:
			break;
	}
}

/* A subtransaction ends. */
static void
forget_keys_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		es_keycache_forget();
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

/* Forgets a key. */
static void
forget_key(EsCachedKey *key)
{
	HTAB	   *subjects = cache.subjects[key->stored.kind];
	const text *name = key->stored.subject;
	CachedSubject *found = subjects ? hash_search(subjects, &name, HASH_FIND, NULL) : NULL;

	if (found && found->key == key)
		(void) hash_search(subjects, &name, HASH_REMOVE, NULL);
	dlist_delete(&key->node);
	pfree(unconstify(text *, name));
	if (key->stored.wrapped)
		pfree(key->stored.wrapped);
	(void) hash_search(cache.keys, &key->stored.id, HASH_REMOVE, NULL);
}

/* Makes room for a key whose row was read after so many changes of the table. */
static void
require_key_room(uint64 changes)
{
	HASHCTL		ctl = {.keysize = sizeof(pg_uuid_t),.entrysize = sizeof(EsCachedKey)};

	if (is_anything_known())
	{
		/*
		 * what has come since the row was read may be about it: no more after
		 * this
		 */
		cache.changes = Min(cache.changes, changes);
		if (hash_get_num_entries(cache.keys) >= MOST_KEYS)
			forget_key(dlist_head_element(EsCachedKey, node, &cache.order));
		return;
	}
	ctl.hcxt = AllocSetContextCreate(TopMemoryContext, "eventstore keys", ALLOCSET_DEFAULT_SIZES);
	cache.context = ctl.hcxt;
	cache.changes = changes;
	dlist_init(&cache.order);
	cache.keys = hash_create("eventstore keys", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Tells whether a key was looked at in this round; notes that it is. */
static inline bool
note_key_look(EsCachedKey *key)
{
	if (likely(key->round == current_round))
		return true;
	dlist_delete(&key->node);
	dlist_push_tail(&cache.order, &key->node);
	key->round = current_round;
	key->plain = NULL;
	ahead.used += key->is_ahead;
	key->is_ahead = false;
	return false;
}

/* es_keycache_find gives a key by its id; NULL if it is not known. */
EsCachedKey *
es_keycache_find(const pg_uuid_t *id)
{
	EsCachedKey *key = is_anything_known() ? hash_search(cache.keys, id, HASH_FIND, NULL) : NULL;

	if (key == NULL || note_key_look(key))
		return key;
	AcceptInvalidationMessages();
	return is_anything_known() ? key : NULL;
}

/* Finds a key by its subject. */
static EsCachedKey *
search_cached_subject(EsSubjectKind kind, const text *subject)
{
	CachedSubject *found;

	if (!is_anything_known() || cache.subjects[kind] == NULL)
		return NULL;
	found = hash_search(cache.subjects[kind], &subject, HASH_FIND, NULL);
	return found ? found->key : NULL;
}

/* es_keycache_find_of gives one by its subject. */
EsCachedKey *
es_keycache_find_of(EsSubjectKind kind, const text *subject)
{
	EsCachedKey *key = search_cached_subject(kind, subject);

	if (key == NULL || note_key_look(key))
		return key;
	AcceptInvalidationMessages();
	return is_anything_known() ? key : NULL;
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

/* Adds a key. */
static EsCachedKey *
enter_key(const EsWrappedKey *stored, int64 fingerprint)
{
	EsWrappedKey copy = *stored;
	EsCachedKey *key;
	MemoryContext old;

	old = MemoryContextSwitchTo(cache.context);
	copy.subject = DatumGetTextPCopy(PointerGetDatum(stored->subject));
	if (stored->wrapped)
		copy.wrapped = DatumGetByteaPCopy(PointerGetDatum(stored->wrapped));
	MemoryContextSwitchTo(old);
	key = hash_search(cache.keys, &stored->id, HASH_ENTER, NULL);
	key->stored = copy;
	key->fingerprint = fingerprint;
	key->round = current_round;
	key->is_ahead = false;
	key->plain = NULL;
	dlist_push_tail(&cache.order, &key->node);
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
	key = hash_search(cache.keys, &stored->id, HASH_FIND, NULL);
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
	if (hash_search(cache.keys, &stored->id, HASH_FIND, NULL) != NULL)
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
	HTAB	  **subjects = &cache.subjects[key->stored.kind];
	const text *name = key->stored.subject;
	CachedSubject *entry;

	if (*subjects == NULL)
		*subjects = es_names_map("eventstore subjects", 32, sizeof(CachedSubject), cache.context);
	entry = hash_search(*subjects, &name, HASH_ENTER, NULL);
	entry->name = name;
	entry->key = key;
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
