/*
 * memo.c
 *		What came of holding a value against a node, kept for the next time.
 *
 * A schema whose references fan out and meet again can lead to one node in more ways than
 * could ever be gone.  Since what comes of it is always the same, it is kept; so as long
 * as all of it fits a validation takes no more steps than there are values times nodes.
 *
 * The memo is made only when a validation has become a long one, and begins anew when
 * it has grown to MOST_BYTES: ways that meet do so soon, at values that are near.  Those
 * that meet later are gone again.
 */
#include "schema/memo.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#define MOST_BYTES		(16 * 1024 * 1024)

typedef struct MemoSlot
{
	EsMemoKey	key;
	EsMemoEntry entry;
	char		status;
} MemoSlot;

static inline uint32
hash_memo_key(const EsMemoKey *key)
{
	uint64		where = (uint64) (uintptr_t) key->container + key->number;

	return hash_combine(murmurhash32((uint32) where ^ (uint32) (where >> 32)),
						murmurhash32(key->node * 4 + key->listing * 2 + key->tracking));
}

static inline bool
is_same_memo_key(const EsMemoKey *a, const EsMemoKey *b)
{
	return a->container == b->container && a->number == b->number && a->node == b->node &&
		a->listing == b->listing && a->tracking == b->tracking;
}

#define SH_PREFIX memotable
#define SH_ELEMENT_TYPE MemoSlot
#define SH_KEY_TYPE EsMemoKey
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_memo_key(&(key))
#define SH_EQUAL(tb, a, b) is_same_memo_key(&(a), &(b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct EsMemo
{
	MemoryContext context;		/* all of it but this */
	memotable_hash *table;
};

/* es_memo_make makes an empty memo, in the current memory context. */
EsMemo *
es_memo_make(void)
{
	EsMemo	   *memo = palloc(sizeof(EsMemo));

	memo->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore schema memo", ALLOCSET_DEFAULT_SIZES);
	memo->table = memotable_create(memo->context, 256, NULL);
	return memo;
}

/* es_memo_end frees a memo. */
void
es_memo_end(EsMemo *memo)
{
	MemoryContextDelete(memo->context);
	pfree(memo);
}

/* es_memo_find finds what is kept, to be used before the next call; NULL for nothing. */
const EsMemoEntry *
es_memo_find(EsMemo *memo, const EsMemoKey *key)
{
	MemoSlot   *slot = memotable_lookup(memo->table, *key);

	return slot ? &slot->entry : NULL;
}

void
es_memo_put(EsMemo *memo, const EsMemoKey *key, const EsMemoEntry *entry)
{
	MemoryContext old;
	MemoSlot   *slot;
	bool		known;

	if (MemoryContextMemAllocated(memo->context, false) > MOST_BYTES)
	{
		MemoryContextReset(memo->context);
		memo->table = memotable_create(memo->context, 256, NULL);
	}
	slot = memotable_insert(memo->table, *key, &known);
	if (known)
		return;
	slot->entry = *entry;
	if (entry->evaluated.words == NULL)
		return;
	old = MemoryContextSwitchTo(memo->context);
	es_evaluated_begin_many(&slot->entry.evaluated);
	es_evaluated_unite(&slot->entry.evaluated, &entry->evaluated);
	MemoryContextSwitchTo(old);
}
