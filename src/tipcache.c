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
 * the memory is used up.
 */
#include "tipcache.h"

#include "access/xact.h"
#include "utils/memutils.h"

#define MOST_BYTES		(8 * 1024 * 1024)

/* What is known of one stream. */
typedef struct Entry
{
	const text *name;			/* hash key */
	EsStream	stream;
	EsTip		tip;
} Entry;

static HTAB *entries = NULL;	/* in a context of its own, of the top
								 * transaction */
static MemoryContext context = NULL;
static Oid	known_streams;		/* the store's table that they are of */
static Size bytes;

/* Forgets everything. */
static void
forget(void)
{
	if (context)
		MemoryContextDelete(context);
	context = NULL;
	entries = NULL;
}

/* Follows the end of transactions; the memory goes with them. */
static void
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		context = NULL;
		entries = NULL;
	}
}

/* Follows the end of subtransactions. */
static void
at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget();
}

/* Registers the callbacks; called once, from _PG_init. */
void
es_tipcache_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
}

/* es_tipcache_find gives the newest row and tip of a stream that this transaction has appended to; false if it is not known. */
bool
es_tipcache_find(const text *name, EsStream *stream, EsTip *tip)
{
	const Entry *entry;

	if (entries == NULL)
		return false;
	if (known_streams != es_base_store()->streams)
	{
		forget();
		return false;
	}
	entry = hash_search(entries, &name, HASH_FIND, NULL);
	if (entry == NULL)
		return false;
	*stream = entry->stream;
	stream->name = name;
	*tip = entry->tip;
	return true;
}

/* Begins anew. */
static void
begin(void)
{
	forget();
	context = AllocSetContextCreate(TopTransactionContext, "eventstore tips", ALLOCSET_DEFAULT_SIZES);
	entries = es_base_name_map("eventstore tips", 1024, sizeof(Entry), context);
	known_streams = es_base_store()->streams;
	bytes = 0;
}

/* es_tipcache_keep keeps what this transaction has just made a stream's newest row and tip. */
void
es_tipcache_keep(const EsStream *stream, const EsTip *tip)
{
	Entry	   *entry;

	if (entries == NULL || bytes > MOST_BYTES || known_streams != es_base_store()->streams)
		begin();
	entry = hash_search(entries, &stream->name, HASH_FIND, NULL);
	if (entry == NULL)
	{
		Size		size = VARSIZE_ANY(stream->name);
		text	   *name = memcpy(MemoryContextAlloc(context, size), stream->name, size);

		entry = hash_search(entries, &name, HASH_ENTER, NULL);
		bytes += size + 2 * sizeof(Entry);
	}
	entry->stream = *stream;
	entry->stream.name = entry->name;
	entry->tip = *tip;
}
