/*
 * tipcache.c
 *		Tips of streams that this transaction has written itself.
 *
 * Once a transaction has appended to a stream, its uncommitted tip keeps everybody
 * else off the stream until it ends: appenders, and whoever else wants to change
 * the stream's row, wait for it.  So until then what was written last is what
 * is newest, and need not be looked up: a bulk load that comes back to its streams
 * again and again spares most of its look-ups.
 *
 * The end of the transaction ends that, and so may the rollback of any
 * subtransaction, which takes events back: then all is forgotten.  So it is when
 * the memory for it is used up.
 */
#include "stream/tipcache.h"

#include "access/xact.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "base/objects.h"

#define MOST_BYTES		(8 * 1024 * 1024)

static HTAB *entries = NULL;	/* in a context of its own, of the top
								 * transaction */
static MemoryContext context = NULL;
static uint64 known_changes;	/* of the table of streams, by then */
static Size bytes;
static uint64 generation = 0;	/* counts how often all was forgotten */

/* Forgets everything. */
static void
forget_tips(void)
{
	if (context)
		MemoryContextDelete(context);
	context = NULL;
	entries = NULL;
	generation++;
}

/* Follows the end of transactions; the memory goes with them. */
static void
forget_tips_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		context = NULL;
		forget_tips();
	}
}

/* Follows the end of subtransactions. */
static void
forget_tips_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_tips();
}

/* Registers the callbacks; called once, from _PG_init. */
void
es_tipcache_init(void)
{
	RegisterXactCallback(forget_tips_at_xact_end, NULL);
	RegisterSubXactCallback(forget_tips_at_subxact_end, NULL);
}

/*
 * es_tipcache_begin_call must come before the calls for one append.  What they
 * give is good as long as es_tipcache_generation stays at what this returns.
 */
uint64
es_tipcache_begin_call(void)
{
	if (entries && (bytes > MOST_BYTES || known_changes != es_base_changes_of(&es_base_streams)))
		forget_tips();
	return generation;
}

/* es_tipcache_generation tells how often all was forgotten so far. */
uint64
es_tipcache_generation(void)
{
	return generation;
}

/*
 * es_tipcache_find gives the newest row and tip of a stream that this transaction
 * has appended to; NULL if they are not known.
 */
EsKnownTip *
es_tipcache_find(const text *name)
{
	return entries ? hash_search(entries, &name, HASH_FIND, NULL) : NULL;
}

/* Makes an entry for a stream that has none. */
static EsKnownTip *
add_known_tip(const text *name)
{
	Size		size = VARSIZE_ANY(name);

	if (entries == NULL)
	{
		forget_tips();
		context = AllocSetContextCreate(TopTransactionContext, "eventstore tips", ALLOCSET_DEFAULT_SIZES);
		entries = es_names_map("eventstore tips", 1024, sizeof(EsKnownTip), context);
		known_changes = es_base_changes_of(&es_base_streams);
		bytes = 0;
	}
	bytes += size + 2 * sizeof(EsKnownTip);
	name = memcpy(MemoryContextAlloc(context, size), name, size);
	return hash_search(entries, &name, HASH_ENTER, NULL);
}

/*
 * es_tipcache_keep keeps what this transaction has just made a stream's newest
 * row and tip, if there is room; known is what es_tipcache_find gave.
 */
void
es_tipcache_keep(EsKnownTip *known, const EsStream *stream, const EsTip *tip)
{
	const text *name;

	if (known == NULL && bytes > MOST_BYTES && entries)
		return;
	if (known == NULL)
		known = add_known_tip(stream->name);
	name = known->name;
	known->stream = *stream;
	known->stream.name = name;
	known->tip = *tip;
}
